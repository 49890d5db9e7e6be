"""Loading is exact: every tensor of a checkpoint has its place, and every place its tensor, or an error names one."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import labutils as lab
from labutils.core import paths
from labutils.models.loading import parse_dtype

SIZES = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 32,
}  # fmt: skip
T5 = {"vocab_size": 64, "d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 2, "num_heads": 2}
EXPERTS = SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2}


def build(kind: str, config: str, **sizes: int) -> PreTrainedModel:
    torch.manual_seed(0)
    return getattr(transformers, kind)(getattr(transformers, config)(**sizes)).eval()


@pytest.fixture
def store(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Callable[[PreTrainedModel], Path]:
    def stored(model: PreTrainedModel) -> Path:
        model.save_pretrained(tmp_path / "model")
        tokenizer.save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return stored


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder: Path, change: Callable[[dict], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture
def lab_llama(tmp_path: Path) -> Path:
    return shutil.copytree(paths.MODELS / "lab-llama", tmp_path / "lab-llama")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_hidden_layers": 3}, r"no tensor 'model\.layers\.3\.input_layernorm\.weight' \(27 are too many in all\)"),
        ({"num_hidden_layers": 7}, r"no tensor 'model\.layers\.6\.input_layernorm\.weight' \(9 are missing in all\)"),
        ({"attention_bias": True}, r"no tensor 'model\.layers\.0\.self_attn\.k_proj\.bias' \(24 are missing"),
        ({"tie_word_embeddings": False}, r"no tensor 'lm_head\.weight' \(1 are missing"),
    ],
)
def test_a_configuration_of_another_model(change: dict, says: str, lab_llama: Path) -> None:
    edit_config(lab_llama, lambda config: config.update(change))
    with pytest.raises(LookupError, match=says):
        lab.load_model(lab_llama)


def test_other_shapes(lab_llama: Path) -> None:
    edit_config(lab_llama, lambda config: config.update(intermediate_size=72))
    with pytest.raises(ValueError, match=r"'model\.layers\.0\.mlp\.down_proj\.weight' is .* asks for .*18 tensors"):
        lab.load_model(lab_llama)


def test_a_tensor_too_many(lab_llama: Path) -> None:
    edit_weights(lab_llama, lambda tensors: tensors.update({"v_head.weight": torch.ones(3)}))
    with pytest.raises(LookupError, match=r"no tensor 'v_head\.weight' \(1 are too many"):
        lab.load_model(lab_llama)


def test_buffers_that_are_computed_are_not_too_many(lab_llama: Path) -> None:
    """Checkpoints of some years ago keep them in every block."""
    old = {f"model.layers.{block}.self_attn.rotary_emb.inv_freq": torch.ones(3) for block in range(6)}
    edit_weights(lab_llama, lambda tensors: tensors.update(old))
    assert type(lab.load_model(lab_llama)[0]).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize(
    ("kind", "config", "sizes", "loaded", "left_out"),
    [
        ("BertForMaskedLM", "BertConfig", SIZES, "BertModel", "5 tensors, such as cls"),
        ("BertForSequenceClassification", "BertConfig", SIZES, "BertModel", "2 tensors, such as classifier"),
        ("LlamaForSequenceClassification", "LlamaConfig", SIZES, "LlamaModel", "1 tensors, such as score"),
        ("CLIPTextModelWithProjection", "CLIPTextConfig", SIZES, "CLIPTextModel", "1 tensors, such as text_projection"),
        ("MT5ForConditionalGeneration", "MT5Config", T5, "MT5EncoderModel", "tensors, such as decoder"),
        ("LlamaModel", "LlamaConfig", SIZES, "LlamaModel", ""),
        ("CLIPTextModel", "CLIPTextConfig", SIZES, "CLIPTextModel", ""),
        ("T5EncoderModel", "T5Config", T5, "T5EncoderModel", ""),
        ("UMT5EncoderModel", "UMT5Config", T5, "UMT5EncoderModel", ""),
        ("MixtralForCausalLM", "MixtralConfig", EXPERTS, "MixtralForCausalLM", ""),
    ],
)
def test_a_head_that_is_left_out_is_told_once(
    kind: str, config: str, sizes: dict, loaded: str, left_out: str, store: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    model = build(kind, config, **sizes)
    folder = store(model)
    with caplog.at_level(logging.WARNING, "labutils"):
        found, _ = lab.load_model(folder)
        lab.load_model(folder)
    assert type(found).__name__ == loaded
    told = [record.getMessage() for record in caplog.records if record.name == "labutils"]
    assert len(told) == bool(left_out) and all(left_out in line for line in told)
    mine, theirs = model.base_model.state_dict(), found.base_model.state_dict()
    shared = [name for name in theirs if not name.startswith("pooler.")]
    assert shared and all(torch.equal(mine[name], theirs[name]) for name in shared)


def test_a_block_too_many_is_no_head(store: Callable) -> None:
    folder = store(build("BertForMaskedLM", "BertConfig", **SIZES))
    edit_config(folder, lambda config: config.update(num_hidden_layers=1))
    with pytest.raises(LookupError, match=r"no tensor 'bert\.encoder\.layer\.1.*\(16 are too many"):
        lab.load_model(folder)


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("lost", ["experts.2", "experts.2.w1"])
def test_an_expert_that_is_missing(lost: str, quiet: bool, store: Callable) -> None:
    verbosity = transformers.utils.logging.get_verbosity()
    folder = store(build("MixtralForCausalLM", "MixtralConfig", **EXPERTS))
    edit_weights(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if lost in name])
    if quiet:
        transformers.utils.logging.set_verbosity_error()
    try:
        with pytest.raises(
            (LookupError, ValueError), match=r"model\.layers\.(0|\{0, 1\})\.mlp\.experts\.(gate_up|down)_proj"
        ):
            lab.load_model(folder)
    finally:
        transformers.utils.logging.set_verbosity(verbosity)


@pytest.mark.parametrize(
    ("kind", "config", "loaded"),
    [
        ("LlamaForCausalLM", "LlamaConfig", "LlamaForCausalLM"),
        ("GPT2LMHeadModel", "GPT2Config", "GPT2LMHeadModel"),
        ("BertForMaskedLM", "BertConfig", "BertModel"),
        ("BertModel", "BertConfig", "BertModel"),
    ],
)
def test_a_configuration_that_names_no_architecture(kind: str, config: str, loaded: str, store: Callable) -> None:
    folder = store(build(kind, config, **SIZES))
    edit_config(folder, lambda content: content.pop("architectures"))
    assert type(lab.load_model(folder)[0]).__name__ == loaded


def test_a_base_model_that_names_no_architecture(store: Callable) -> None:
    folder = store(build("LlamaModel", "LlamaConfig", **SIZES))
    edit_config(folder, lambda content: content.pop("architectures"))
    with pytest.raises(LookupError, match=r"no tensor 'lm_head\.weight'.*names no \"architectures\""):
        lab.load_model(folder)


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors", "fp8", "bitsandbytes"])
def test_quantised_checkpoints_are_refused_alike(method: str, lab_llama: Path, tmp_path: Path) -> None:
    edit_config(lab_llama, lambda config: config.update(quantization_config={"quant_method": method, "bits": 4}))
    tokens = torch.zeros(1, 4, dtype=torch.int64)
    for load in (
        lambda: lab.load_model(lab_llama),
        lambda: lab.prune_checkpoint(lab_llama, tmp_path / "out", tokens, method="wanda", sparsity=0.5),
    ):
        with pytest.raises(ValueError, match=rf"is quantised \({method}\); prune the checkpoint it was made from"):
            load()
    assert not (tmp_path / "out").exists()


def test_damaged_weights(lab_llama: Path) -> None:
    path = lab_llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"truncated or damaged .*Download or copy it again"):
        lab.load_model(lab_llama)


def test_a_compact_form_names_its_reader(lab_llama: Path) -> None:
    (lab_llama / "model.safetensors").rename(lab_llama / "model.compact.safetensors")
    with pytest.raises(ValueError, match="load_pruned"):
        lab.load_model(lab_llama)


def test_dtypes() -> None:
    assert parse_dtype("auto", device="cpu") is None
    assert {parse_dtype(name, device="cpu") for name in ("bfloat16", torch.bfloat16)} == {torch.bfloat16}
    assert lab.load_model("lab-opt", dtype=torch.float16)[0].dtype == torch.float16
    for name in ("xx", "int8", "float8_e4m3fn", "half "):
        with pytest.raises(ValueError, match=f'dtype=.{name}. is not a floating-point dtype.*"bfloat16"'):
            lab.load_model("lab-opt", dtype=name)


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_the_fast_dtype_is_what_the_processor_multiplies_in(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], dtype: torch.dtype
) -> None:
    """On a processor with AVX2 alone, torch 2.13's products in bfloat16 take some nine times as long as in float32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert lab.load_model("lab-opt", device="cpu", dtype="fast")[0].dtype == dtype
    assert parse_dtype("fast", device="meta") == torch.float32
    with pytest.raises(ValueError, match="Did you mean 'fast'"):
        lab.load_model("lab-opt", dtype="fasr")


def test_a_path_names_a_model_like_text_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(paths.MODELS / "lab-opt", tmp_path / "models" / "mine")
    for source in ("~/models/mine", Path("~/models/mine"), tmp_path / "models" / "mine"):
        assert type(lab.load_model(source)[0]).__name__ == "OPTForCausalLM"
    with pytest.raises(LookupError, match=f"looked at {tmp_path}/models/other"):
        lab.load_model("~/models/other")
    assert lab.models.model_name(Path("a/b")) == "b"


@pytest.mark.parametrize("verbosity", ["error", "warning"])
def test_a_model_that_fits_is_loaded_without_a_word(verbosity: str) -> None:
    """At a level of its own, the logger of transformers 5.23.0 warns of layers that are "not sharded"."""
    code = f"""
import transformers, labutils
transformers.utils.logging.set_verbosity_{verbosity}()
labutils.load_model("lab-llama")
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stderr == told.stdout == ""
