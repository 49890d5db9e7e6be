"""Calibrations that cannot be read as they are: refused by name before anything runs, or told of."""

import logging

import pytest
import torch
from torch import nn

import labutils as lab
from labutils.pruning.inputs import check_calibration

IDS = torch.randint(3, 64, (4, 8), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("beside", "says"),
    [
        ({"attention_mask": torch.ones(4, 7)}, r"of the shape \[4, 8\].*it has the shape \[4, 7\]"),
        ({"attention_mask": torch.ones(4, 1, 8, 8)}, r"shape \[4, 1, 8, 8\]"),
        ({"attention_mask": torch.ones(3, 8)}, r"'attention_mask' must be a tensor with 4 rows; it is shape \[3, 8\]"),
        ({"attention_mask": [[1] * 8] * 4}, "'attention_mask' must be a tensor with 4 rows; it is list"),
        ({"attention_mask": torch.zeros(4, 8)}, "leaves no token"),
        ({"attention_mask": torch.full((4, 8), -1e4)}, "must be 1 for a token and 0 for padding.*values from -10000"),
        ({"position_ids": torch.tensor(1)}, "'position_ids' must be a tensor with 4 rows"),
    ],
)
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_bert"])
def test_what_stands_beside_the_tokens(name: str, beside: dict, says: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=says):
        lab.prune(model, {"input_ids": IDS, **beside}, method="wanda", sparsity=0.5)
    assert all(tensor.equal(before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_masks_of_any_dtype_are_one_mask(tiny_llama: nn.Module, dtype: torch.dtype) -> None:
    mask = torch.ones(4, 8, dtype=dtype)
    mask[1, 5:] = 0
    report = lab.prune(tiny_llama, {"input_ids": IDS, "attention_mask": mask}, method="wanda", sparsity=0.5)
    assert (report.layers["tokens"] == 29).all()


def test_more_tokens_than_positions(tiny_gpt2: nn.Module, tiny_llama: nn.Module, caplog) -> None:
    """A table of positions ends; rotary positions go on, to where the model has never been."""
    long = torch.randint(3, 64, (2, 65))
    with pytest.raises(ValueError, match="sequences have 65 tokens, and GPT2LMHeadModel has positions for 64; cut"):
        lab.prune(tiny_gpt2, long, method="wanda", sparsity=0.5)
    with caplog.at_level(logging.WARNING, logger="labutils"):
        lab.prune(tiny_gpt2, long[:, :64], method="wanda", sparsity=0.5)
        lab.prune(tiny_llama, long[:, :64], method="wanda", sparsity=0.5)
        assert not caplog.records
        lab.prune(tiny_llama, long, method="wanda", sparsity=0.5)
    assert [
        "65 tokens, more than the 64 that LlamaForCausalLM" in record.getMessage() for record in caplog.records
    ] == [True]


def test_what_a_model_does_not_take(tiny_gpt2: nn.Module) -> None:
    tiny_gpt2.forward = lambda input_ids, use_cache=False: None
    with pytest.raises(ValueError, match="GPT2LMHeadModel takes no 'offset_mapping'; leave it out"):
        check_calibration({"input_ids": IDS, "offset_mapping": torch.zeros(4, 8, 2)}, tiny_gpt2)
