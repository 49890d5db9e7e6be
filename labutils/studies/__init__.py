"""The strict runner of the studies: typed parameters, a kernel each, records that can be trusted, resumption.

Names are loaded when they are used: a notebook needs `conclude` alone, and not the runner that runs it.
"""

import importlib
from typing import Any

_HOME = {
    "conclude": "conclusion",
    "run_folder": "conclusion",
    "run_studies": "runner",
    "find_stale": "store",
    "readme_table": "store",
    "stale_notebooks": "store",
    "store_outputs": "store",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
