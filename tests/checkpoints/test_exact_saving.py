"""What is saved comes back as what it was, to the bit; what cannot is refused; and nothing half-written stays."""

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers
from checkpoint_models import VOCABULARY, mixture
from safetensors.torch import save_file
from test_shards import as_ordinary_user
from torch import nn
from torch.nn.utils import prune as masks
from transformers import GgufConfig, PreTrainedModel
from transformers.quantizers.quantizer_gguf import GgufHfQuantizer

from labutils.checkpoints import load_pruned, save_dense, save_pruned
from labutils.pruning import PruneReport

SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
T5 = {"vocab_size": VOCABULARY, "d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 2, "num_heads": 2}
BART = {
    "vocab_size": VOCABULARY, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
}  # fmt: skip
REPORT = PruneReport(
    layers=pd.DataFrame([{"name": "a", "sparsity": 0.5}]), sparsity=0.5, strategy=pd.DataFrame([{"block": 0}]),
    options={}, permutations={}, seconds=1.0, candidates=None,
)  # fmt: skip
FORMS = pytest.mark.parametrize("compact", [False, True])


def build(kind: str, config: str, **sizes: int | bool) -> PreTrainedModel:
    """A model half of whose numbers are zero."""
    torch.manual_seed(0)
    model = getattr(transformers, kind)(getattr(transformers, config)(**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * (torch.rand(parameter.shape) < 0.5))
    return model


def llama(**options: bool) -> PreTrainedModel:
    return build("LlamaForCausalLM", "LlamaConfig", **SIZES, **options)


def assert_comes_back(model: PreTrainedModel, folder: Path, compact: bool) -> PreTrainedModel:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = model.config.to_dict()
    saved = save_pruned(model, folder / "saved", REPORT, compact=compact)
    assert [path.name for path in folder.iterdir()] == ["saved"] and model.config.to_dict() == config
    loaded = load_pruned(saved).model
    assert type(loaded) is type(model)
    for state in (model.state_dict(), loaded.state_dict()):
        assert state.keys() == before.keys()
        for name, tensor in before.items():
            assert state[name].dtype == tensor.dtype and torch.equal(state[name], tensor), name
    return loaded


@FORMS
@pytest.mark.parametrize(
    ("kind", "config", "sizes"),
    [
        ("BertForSequenceClassification", "BertConfig", SIZES),
        ("BertForQuestionAnswering", "BertConfig", SIZES),
        ("BertForPreTraining", "BertConfig", SIZES),
        ("BertGenerationDecoder", "BertGenerationConfig", SIZES),
        ("LlamaForSequenceClassification", "LlamaConfig", SIZES),
        ("T5EncoderModel", "T5Config", T5),
        ("MT5EncoderModel", "MT5Config", T5),
        ("UMT5EncoderModel", "UMT5Config", T5),
        ("T5ForConditionalGeneration", "T5Config", T5),
        ("BartForConditionalGeneration", "BartConfig", BART),
        ("CLIPTextModelWithProjection", "CLIPTextConfig", SIZES),
        ("RobertaForMaskedLM", "RobertaConfig", SIZES),
    ],
)
def test_every_head_and_half_comes_back(kind: str, config: str, sizes: dict, compact: bool, tmp_path: Path) -> None:
    assert_comes_back(build(kind, config, **sizes), tmp_path, compact)


@FORMS
def test_every_tensor_keeps_its_dtype(compact: bool, tmp_path: Path) -> None:
    model = llama().to(torch.bfloat16)
    model.model.norm.float()
    model.model.layers[0].mlp.up_proj.float()
    model.model.layers[1].input_layernorm.half()
    assert_comes_back(model, tmp_path, compact)
    assert load_pruned(tmp_path / "saved", dtype="float32").model.model.layers[1].mlp.up_proj.weight.dtype.itemsize == 4


@FORMS
def test_experts_of_another_dtype_than_their_router(compact: bool, tmp_path: Path) -> None:
    model = mixture("mixtral").to(torch.bfloat16)
    model.model.layers[0].mlp.experts.float()
    model.model.layers[1].mlp.gate.float()
    assert_comes_back(model, tmp_path, compact)


@FORMS
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("equal", [True, False])
def test_ties_are_those_of_the_model(tied: bool, configured: bool, equal: bool, compact: bool, tmp_path: Path) -> None:
    """Whatever its configuration says of them."""
    model = llama(tie_word_embeddings=configured)
    table = model.model.embed_tokens.weight
    model.lm_head.weight = table if tied else nn.Parameter(table.detach() * (1 if equal else 2))
    loaded = assert_comes_back(model, tmp_path, compact)
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["tie_word_embeddings"] == tied


@FORMS
def test_blocks_that_share_a_part_are_saved_each_with_it(compact: bool, tmp_path: Path) -> None:
    model = llama()
    model.model.layers[1].mlp = model.model.layers[0].mlp
    assert_comes_back(model, tmp_path, compact)


@FORMS
def test_a_quantisation_that_is_over_is_forgotten(compact: bool, tmp_path: Path) -> None:
    """As of a model that transformers has read from a GGUF file into plain numbers."""
    model = llama()
    model.config.quantization_config = GgufConfig(dequantize=True)
    model.hf_quantizer = quantizer = GgufHfQuantizer(model.config.quantization_config)
    saved = save_pruned(model, tmp_path / "saved", REPORT, compact=compact)
    assert model.hf_quantizer is quantizer and model.config.quantization_config.dequantize
    assert "quantization_config" not in json.loads((saved / "config.json").read_text())
    assert torch.equal(load_pruned(saved).model.lm_head.weight, model.lm_head.weight)


def shorten(model: PreTrainedModel) -> PreTrainedModel:
    model.model.layers = model.model.layers[:1]
    return model


def mask(model: PreTrainedModel) -> PreTrainedModel:
    masks.l1_unstructured(model.model.layers[0].mlp.up_proj, "weight", amount=0.2)
    return model


def widen(model: PreTrainedModel) -> PreTrainedModel:
    model.model.layers[0].mlp.up_proj = nn.Linear(16, 25, bias=False)
    return model


def offload(model: PreTrainedModel) -> PreTrainedModel:
    model.model.layers[1].mlp.to("meta")
    return model


def quantise(model: PreTrainedModel) -> PreTrainedModel:
    weight = torch.zeros(24, 16, dtype=torch.int8)
    model.model.layers[0].mlp.up_proj.weight = nn.Parameter(weight, requires_grad=False)
    return model


def adapt(model: PreTrainedModel) -> nn.Module:
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))


class OwnLlama(transformers.LlamaForCausalLM):
    """A class that only this file knows."""


@FORMS
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (shorten, r"no model\.layers\.1\..*9 are missing in all.*Change `model\.config`"),
        (mask, r"up_proj\.weight_orig is nothing that a LlamaForCausalLM.*prune\.remove"),
        (widen, r"up_proj\.weight is \(25, 16\), but a LlamaForCausalLM of its configuration has \(24, 16\)"),
        (offload, r"layers\.1\.mlp\.gate_proj\.weight is not in memory.*prune_checkpoint"),
        (quantise, r"up_proj\.weight is quantised \(torch\.int8\)"),
        (adapt, r"holds adapters.*merge_and_unload.*unload"),
        (lambda model: adapt(model).base_model.model, r"layers\.0\.self_attn\.q_proj is of peft"),
        (torch.compile, r"OptimizedModule is no model of transformers.*_orig_mod"),
        (nn.DataParallel, r"DataParallel is no model of transformers.*model\.module"),
        (lambda model: OwnLlama(model.config), r"no class OwnLlama of its own"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(spoil: Callable, says: str, compact: bool, tmp_path: Path) -> None:
    model = spoil(llama())
    with pytest.raises(ValueError, match=says):
        save_pruned(model, tmp_path / "new" / "saved", REPORT, compact=compact)
    with pytest.raises(ValueError, match=says):
        save_dense(model, tmp_path / "new" / "saved")
    assert not list(tmp_path.iterdir())


SAVERS = {
    "plain": lambda folder: save_pruned(llama(), folder, REPORT),
    "compact": lambda folder: save_pruned(llama(), folder, REPORT, compact=True),
    "dense": lambda folder: save_dense(llama(), folder),
}


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("bug"), MemoryError(), OSError(errno.ENOSPC, "")])
@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_after_any_exception(
    saver: str, error: BaseException, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of the folder nor of those above it; an empty folder that was there stays."""

    def fail(*given: object) -> None:
        raise error

    target = tmp_path / "above" / "saved"
    if there:
        target.mkdir(parents=True)
    monkeypatch.setattr("labutils.core.files.os.replace", fail)  # the last step: everything is written
    with pytest.raises(OSError if isinstance(error, OSError) else type(error)) as caught:
        SAVERS[saver](target)
    assert not isinstance(error, OSError) or "No room left" in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == (["above", "saved"] if there else [])


@pytest.mark.parametrize("saver", SAVERS)
def test_a_file_in_the_way(saver: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(ValueError, match="not an empty folder"):
        SAVERS[saver](tmp_path / "thesis.tex")
    with pytest.raises(OSError, match=r"below cannot be written: .*thesis\.tex is a file. Choose another folder"):
        SAVERS[saver](tmp_path / "thesis.tex" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "words"


@pytest.mark.parametrize("saver", SAVERS)
def test_a_folder_without_write_access(saver: str) -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to other users
        Path(place).chmod(0o555)
        with as_ordinary_user(), pytest.raises(OSError, match="cannot be written to. Choose a folder with write"):
            SAVERS[saver](Path(place) / "saved")
        assert not list(Path(place).iterdir())
        Path(place).chmod(0o755)


@pytest.mark.parametrize("saver", SAVERS)
def test_what_the_disk_has_changed_is_noticed(saver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of the weights, after they were written."""

    def flip(path: Path | str) -> None:
        content = bytearray(Path(path).read_bytes())
        content[-1] ^= 1
        Path(path).write_bytes(content)

    def writing(tensors: dict, path: Path | str, metadata: dict | None = None) -> None:
        save_file(tensors, path, metadata=metadata)
        flip(path)

    for writer in ("labutils.checkpoints.shards.save_file", "transformers.modeling_utils.safe_save_file"):
        monkeypatch.setattr(writer, writing)
    with pytest.raises(OSError, match="was read back from .* otherwise than it was written") as caught:
        SAVERS[saver](tmp_path / "saved")
    assert caught.value.errno == errno.EIO and not list(tmp_path.iterdir())


def test_a_link_to_an_empty_folder_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    save_pruned(llama(), tmp_path / "link", REPORT)
    assert (tmp_path / "disk" / "pruning.json").exists() and (tmp_path / "link").is_symlink()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert save_pruned(llama(), "~/mine", REPORT) == tmp_path / "mine"
    assert load_pruned("~/mine").report.sparsity == 0.5 and not os.path.exists("~")
