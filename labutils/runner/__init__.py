"""The strict runner of the studies: typed parameters, a kernel each, records that can be trusted, resumption.

A notebook needs `conclude` alone, and not the runner that runs it.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "conclusion": ["conclude"],
        "runner": ["run_studies"],
        "stored_outputs": ["find_stale", "readme_table", "stale_notebooks", "store_outputs"],
    },
)
