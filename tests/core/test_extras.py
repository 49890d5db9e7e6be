"""A package that is missing is asked for by the extra that brings it."""

import pytest

from labutils.core.extras import import_optional


def test_an_installed_package_is_imported() -> None:
    assert import_optional("json", purpose="Text", extra="none").loads("[1]") == [1]


def test_a_missing_package_is_asked_for_by_its_extra() -> None:
    with pytest.raises(LookupError, match=r"LoRA needs the package `no_such_package`: pip install 'labutils\[lora\]'"):
        import_optional("no_such_package", purpose="LoRA", extra="lora")
