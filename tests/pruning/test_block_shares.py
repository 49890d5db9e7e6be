"""One number per block in every form that people have them in, the product's own report first."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import labutils as lab

IDS = torch.randint(3, 64, (4, 8), generator=torch.Generator().manual_seed(1))
SHARES = [0.3, 0.5, 0.7]
FORMS = {
    "a tuple": tuple(SHARES),
    "an array": np.array(SHARES),
    "a tensor": torch.tensor(SHARES),
    "a mapping in another order": {2: 0.7, 0: 0.3, 1: 0.5},
    "a Series": pd.Series(SHARES),
    "a sorted Series": pd.Series(SHARES).sort_values(ascending=False),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_one_allocation(tiny_llama: nn.Module, form: str) -> None:
    report = lab.prune(tiny_llama, IDS, method="magnitude", sparsity=0.5, allocation=FORMS[form])
    assert report.block_sparsity.tolist() == pytest.approx(SHARES, abs=0.01)
    assert report.options["allocation"] == pytest.approx(SHARES)


def test_a_report_gives_its_allocation_to_the_next_call(tiny_llama: nn.Module, tiny_opt: nn.Module) -> None:
    first = lab.prune(tiny_llama, IDS, method="wanda", sparsity=0.6, allocation="arithmetic")
    shares = first.block_sparsity
    second = lab.prune(tiny_opt, IDS, method="sparsegpt", sparsity=0.6, allocation=shares)
    assert second.block_sparsity.tolist() == pytest.approx(shares.tolist(), abs=0.02)
    rows = lab.prune_grid(
        tiny_opt, IDS, methods=["magnitude"], sparsities=[0.6], allocations=[None, shares], evaluate=lambda model: {}
    )
    assert [row["allocation"] for row in rows] == ["uniform", "given"]
    assert lab.forecast(tiny_opt, IDS, method="magnitude", sparsity=0.6, allocation=shares).seconds > 0


@pytest.mark.parametrize(
    ("allocation", "says"),
    [
        (pd.Series(SHARES, index=["a", "b", "c"]), r"gives numbers to \['a', 'b', 'c'\].*by its number"),
        ({0: 0.5, 2: 0.5, 3: 0.5}, r"gives numbers to \[0, 2, 3\]"),
        (pd.Series(SHARES, index=[0, 0, 1]), "gives numbers to"),
        (np.array([0.5, 0.5]), "must be 3 numbers, one per block"),
        (np.array([[0.5, 0.5, 0.5]]), "one number per block"),
        ([0.1, 0.1, 0.1], "mean is 0.1000, not the target"),
    ],
)
def test_numbers_that_are_not_one_per_block(tiny_llama: nn.Module, allocation: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        lab.prune(tiny_llama, IDS, method="magnitude", sparsity=0.5, allocation=allocation)


def test_numbers_of_numpy_are_taken_and_can_be_saved(tiny_llama: nn.Module, tmp_path) -> None:
    """As a loop over `np.arange` gives them."""
    given = {"seed": np.int64(3), "batch_size": np.int64(2), "block_size": np.int32(16), "damping": np.float32(0.25)}
    report = lab.prune(tiny_llama, IDS, method="sparsegpt", sparsity=np.float64(0.5), **given)
    kinds = {name: type(report.options[name]) for name in (*given, "sparsity")}
    assert kinds == {"seed": int, "batch_size": int, "block_size": int, "damping": float, "sparsity": float}
    assert lab.load_pruned(lab.save_pruned(tiny_llama, tmp_path / "saved", report)).report.options["seed"] == 3
