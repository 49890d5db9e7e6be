"""Gradients over depth: norms against a literal backward pass, slopes by hand, and which models are asked."""

import math

import pandas as pd
import pytest
import torch
from architectures import ARCHITECTURES
from transformers import OPTConfig, OPTForCausalLM, PreTrainedModel

from labutils.models.structure import find_blocks
from labutils.smaller import gradient_depth
from labutils.smaller.gradient_depth import block_gradient_norms, gradient_norms, shrinking_gradients
from labutils.structured import is_pre_norm


def test_norms_are_those_of_a_backward_pass_of_each_window(loaded, tokens) -> None:
    model = loaded[0]
    found = block_gradient_norms(model, tokens)
    for row, norms in zip(tokens, found, strict=True):
        model.zero_grad(set_to_none=True)
        model(input_ids=row[None], labels=row[None]).loss.backward()
        for block, norm in zip(find_blocks(model)[1], norms, strict=True):
            whole = torch.cat([parameter.grad.flatten() for parameter in block.parameters()])
            assert norm.item() == pytest.approx(whole.norm().item(), rel=1e-4)
    before = [parameter.grad.clone() for parameter in model.parameters()]
    block_gradient_norms(model, tokens[:1])
    assert all(parameter.grad.equal(own) for parameter, own in zip(model.parameters(), before, strict=True))
    model.zero_grad(set_to_none=True)


def test_rows_are_of_windows_and_draws(loaded) -> None:
    rows = gradient_norms("lab-llama", loaded, "lab:review", n_draws=2, n_calibration=2, seq_len=16)
    assert len(rows) == 2 * 2 * 6 and set(rows["draw"]) == {0, 1} and (rows["norm"] > 0).all()
    assert rows.groupby("block")["norm"].nunique().eq(4).all()


def test_gradients_that_halve_shrink_by_the_log_of_two() -> None:
    rows = [
        {"model": "m", "draw": 0, "item": item, "block": block, "norm": (item + 1) * base**-block}
        for item, base in enumerate((2.0, 4.0))
        for block in range(3)
    ]
    found = shrinking_gradients(pd.DataFrame(rows)).set_index("item")["value"]
    assert found.tolist() == pytest.approx([2 * math.log(2), 2 * math.log(4)])  # over two steps, depth from 0 to 1
    odd = pd.DataFrame(rows)
    odd.loc[odd["block"] == 0, "norm"] = 1000.0
    assert shrinking_gradients(odd, first=1)["value"].tolist() == pytest.approx(found.tolist())
    with pytest.raises(ValueError, match="has 1 block from block 2 on"):
        shrinking_gradients(odd, first=2)
    assert shrinking_gradients(odd[odd["block"] < 0]).empty


def norms_behind() -> PreTrainedModel:
    """OPT as its model of 350 M parameters has it."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 24}
    return OPTForCausalLM(OPTConfig(**sizes, do_layer_norm_before=False, word_embed_proj_dim=16)).eval()


@pytest.mark.parametrize(
    ("name", "expected"),
    [(name, True) for name in ("llama", "gpt2", "opt", "gpt-neox", "falcon", "gemma2", "mixtral", "gpt-oss")]
    + [(name, False) for name in ("bert", "olmo2", "norms behind")],
)
def test_models_whose_norms_stand_before_the_sublayers_are_told_from_others(name, expected) -> None:
    model = ARCHITECTURES[name].build() if name in ARCHITECTURES else norms_behind()
    tokens = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(3))
    assert is_pre_norm(model, tokens) is expected
    with torch.no_grad():  # however small the stream is beside the ε of norms
        model.get_input_embeddings().weight *= 1e-3
    assert is_pre_norm(model, tokens) is expected


def test_a_model_with_other_norms_has_no_rows(loaded, monkeypatch) -> None:
    monkeypatch.setattr(gradient_depth, "is_pre_norm", lambda model, tokens: False)
    rows = gradient_norms("odd", loaded, "lab:review", n_draws=1, n_calibration=2, seq_len=16)
    assert rows.empty and shrinking_gradients(rows).empty
