"""The calls of a test are checked: types, dimensions that must agree, fields; and nothing of it stays on the disk."""

import importlib
import sys

import pytest
import torch
from checked_types import check_types

import labutils as lab
from labutils.pruning.patterns import inside_mask, parse_pattern
from labutils.recovery.study import RecoverySizes

SOURCE = '''\
"""A module."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from nowhere import Stranger

Square = Float[Tensor, "n n"]


def product(left: Float[Tensor, "n k"], right: Float[Tensor, "k m"]) -> Float[Tensor, "n m"]:
    return left @ right if left.numel() else left


@dataclass
class Coded:
    values: Float[Tensor, "n m"]


def widen(values: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    return Coded(torch.zeros(7, 1)).values.new_zeros(values.shape)  # whose dimensions are its own


def greet(stranger: "Stranger", times: int) -> "Stranger":
    return stranger


def trace(matrix: Square) -> float:
    return float(matrix.trace())


@dataclass
class Pair:
    first: int

    @staticmethod
    def halve(n: int) -> int:
        return n / 2

    @property
    def word(self) -> str:
        return self.first
'''


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A package of its own, whose types are checked."""
    (tmp_path / "planted_package").mkdir()
    (tmp_path / "planted_package" / "__init__.py").write_text("")
    (tmp_path / "planted_package" / "part.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    check_types("planted_package")
    yield importlib.import_module("planted_package.part")
    for name in ("planted_package", "planted_package.part"):
        sys.modules.pop(name, None)
    assert not list(tmp_path.rglob("*.pyc"))


def test_dimensions_of_one_name_agree_within_a_call(planted) -> None:
    assert planted.product(torch.ones(2, 3), torch.ones(3, 4)).shape == (2, 4)
    assert planted.trace(torch.eye(3)) == 3.0 and planted.widen(torch.ones(2, 3)).shape == (2, 3)
    for wrong in (
        lambda: planted.product(torch.ones(2, 3), torch.ones(2, 4)),  # arguments
        lambda: planted.product(torch.ones(2, 0), torch.ones(0, 4)),  # the result
        lambda: planted.product(torch.ones(2, 3), torch.ones(3, 4, dtype=torch.int64)),
        lambda: planted.trace(torch.ones(2, 3)),  # by the name of a type
    ):
        with pytest.raises(TypeError):
            wrong()


def test_types_of_fields_methods_and_results_are_checked(planted) -> None:
    assert planted.greet("any type of a package that is not imported", 2)
    for wrong in (
        lambda: planted.Coded(torch.ones(3)),
        lambda: planted.Pair("one"),
        lambda: planted.Pair.halve(3),
        lambda: planted.Pair(1).word,
        lambda: planted.greet("any type of a package that is not imported", "twice"),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_a_package_that_is_imported_already_is_not_said_to_be_checked() -> None:
    with pytest.raises(RuntimeError, match="labutils is imported already"):
        check_types("labutils")


def test_the_package_itself_is_checked() -> None:
    for wrong in (
        lambda: parse_pattern(24),
        lambda: inside_mask(torch.ones(2, 2), torch.ones(2, 2)),
        lambda: RecoverySizes(batch_size="eight"),
        lambda: lab.data.split_pair(3),
    ):
        with pytest.raises(TypeError):
            wrong()
