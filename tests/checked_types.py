"""Types and shapes in the signatures of `labutils` are checked in every call that a test makes.

Modules that name shapes are checked by jaxtyping, with beartype. The others, among them those that write millions of
words of the controlled language, are checked by beartype alone, whose wrapper is the cheaper one by far.
"""

import importlib.util
import sys
from pathlib import Path

from beartype import BeartypeConf
from beartype.claw import beartype_package
from jaxtyping import install_import_hook


def check_types(package: str) -> None:
    """From here on, in what is imported of a package; RuntimeError where that has begun."""
    if any(name == package or name.startswith(f"{package}.") for name in sys.modules):
        raise RuntimeError(f"{package} is imported already: check its types before that")
    (folder,) = importlib.util.find_spec(package).submodule_search_locations
    shaped = [path for path in Path(folder).rglob("*.py") if "jaxtyping" in path.read_text(encoding="utf-8")]
    names = [".".join([package, *path.relative_to(folder).with_suffix("").parts]) for path in shaped]
    install_import_hook(names, "beartype.beartype")
    beartype_package(package, conf=BeartypeConf(claw_is_pep526=False))  # signatures only, as jaxtyping does


check_types("labutils")
