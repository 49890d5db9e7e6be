"""From disk to disk, too, every tensor stays what it is but for the zeros: its dtype, its half of a model, its bits."""

from pathlib import Path

import pytest
import torch
import transformers
from checkpoint_models import TOKENS, untied_llama
from safetensors.torch import load_file
from test_exact_saving import SIZES, T5, build

import labutils as lab
from labutils.checkpoints import load_pruned, save_dense


def test_disk_to_disk_keeps_the_dtype_of_every_tensor(tmp_path: Path) -> None:
    """As transformers computes them, in bfloat16; stored as they were, but for what was pruned."""
    model = untied_llama().to(torch.bfloat16)
    model.model.norm.float()
    model.model.layers[0].input_layernorm.float()
    model.model.layers[1].mlp.up_proj.float().weight.data += 1e-4  # not a number of bfloat16
    save_dense(model, tmp_path / "dense")
    lab.prune_checkpoint(tmp_path / "dense", tmp_path / "pruned", TOKENS, method="wanda", sparsity=0.5)
    dense = load_file(tmp_path / "dense" / "model.safetensors")
    pruned = {key: t for path in (tmp_path / "pruned").glob("model-*") for key, t in load_file(path).items()}
    assert pruned.keys() == dense.keys()
    for key, tensor in dense.items():
        assert pruned[key].dtype == tensor.dtype, key
        kept = pruned[key] != 0
        assert torch.equal(pruned[key][kept], tensor[kept]), key
        assert kept.float().mean() == (0.5 if "_proj" in key else 1.0), key
    expected = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "dense", dtype="auto")
    lab.prune(expected, TOKENS, method="wanda", sparsity=0.5)
    found = load_pruned(tmp_path / "pruned").model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.state_dict().items())


def test_what_chooses_experts_stays_exact(tmp_path: Path) -> None:
    """In bfloat16 these four would be ties."""
    model = build(
        "DeepseekV3ForCausalLM", "DeepseekV3Config", **SIZES, num_key_value_heads=2, n_routed_experts=4,
        num_experts_per_tok=2, moe_intermediate_size=16, n_group=1, topk_group=1, first_k_dense_replace=1,
        q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, n_shared_experts=1,
    ).to(torch.bfloat16)  # fmt: skip
    biases = torch.tensor([7.001, 7.002, 7.003, 7.004])
    model.model.layers[1].mlp.gate.e_score_correction_bias = biases.clone()
    save_dense(model, tmp_path / "dense")
    lab.prune_checkpoint(tmp_path / "dense", tmp_path / "pruned", TOKENS, method="wanda", sparsity=0.5)
    expected = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "dense", dtype="auto")
    lab.prune(expected, TOKENS, method="wanda", sparsity=0.5)
    found = load_pruned(tmp_path / "pruned").model
    assert torch.equal(found.model.layers[1].mlp.gate.e_score_correction_bias, biases)
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in expected.state_dict().items())


@pytest.mark.parametrize("kind", ["T5ForConditionalGeneration", "T5EncoderModel"])
def test_of_t5_the_encoder_is_pruned_from_disk_to_disk(kind: str, tmp_path: Path) -> None:
    save_dense(build(kind, "T5Config", **T5), tmp_path / "dense")
    report = lab.prune_checkpoint(tmp_path / "dense", tmp_path / "pruned", TOKENS, method="wanda", sparsity=0.7)
    expected = transformers.T5EncoderModel.from_pretrained(tmp_path / "dense").eval()
    in_memory = lab.prune(expected, TOKENS, method="wanda", sparsity=0.7)
    found = load_pruned(tmp_path / "pruned").model
    assert type(found) is transformers.T5EncoderModel and report.sparsity == in_memory.sparsity >= 0.7
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in expected.state_dict().items())
    whole, dense = (getattr(transformers, kind).from_pretrained(tmp_path / name) for name in ("pruned", "dense"))
    outside = [name for name in dense.state_dict() if not name.startswith("encoder.block")]
    assert all(torch.equal(whole.state_dict()[name], dense.state_dict()[name]) for name in outside)
