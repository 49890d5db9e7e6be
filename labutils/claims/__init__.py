"""Claims of the literature, their verdicts, and the ledger of all verdicts of a run."""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "registry": ["judge", "not_testable", "claim"],
        "verdicts": ["Verdict"],
        "ledger": ["ledger", "ledger_table", "tensions_table"],
    },
)
