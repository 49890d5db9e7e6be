"""Claims of the literature, the verdicts of studies on them, and the ledger of all verdicts of a run.

`judge` turns an interval into a verdict by the rules and the margin that `data/claims.yaml` fixed before any run;
`ledger` reads the verdicts of a run and corrects them for their number (Holm).

Imports `core` and `stats`, and knows nothing of how a number was measured. A new claim is an entry of the file, whose
header explains the fields; a rule of judging belongs into `outcomes`, a new outcome also into the words and colours of
`ledger_page`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "registry": ["judge", "not_testable", "claim"],
        "conditions": ["judge_under"],
        "verdicts": ["Verdict"],
        "ledger": ["ledger"],
        "beside_stored": ["beside_stored", "describe_beside"],
        "ledger_page": ["ledger_table", "tensions_table", "untested_claims"],
        "ledger_summary": ["effects_in_margins", "ledger_answer"],
        "published": ["published_values"],
    },
)
