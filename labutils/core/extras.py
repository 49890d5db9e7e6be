"""Packages that only some studies need: imported when first used, with a word on how to get them."""

from importlib import import_module
from types import ModuleType


def import_optional(package: str, *, purpose: str, extra: str) -> ModuleType:
    """An optional package.

    Raises:
        LookupError: it is not installed; names the extra that brings it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise LookupError(f"{purpose} needs the package `{package}`: pip install 'labutils[{extra}]'") from error


def import_peft() -> ModuleType:
    """`peft`, which brings LoRA."""
    return import_optional("peft", purpose="LoRA", extra="lora")
