"""Pruned models saved and loaded, whole and in the compact form."""

import errno
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from checkpoint_models import TOKENS, assert_same_report, assert_same_state, load_plainly, untied_llama
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from labutils.checkpoints import load_pruned, save_pruned
from labutils.pruning import PruneReport, prune

MODELS = ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_bert"]


@pytest.fixture
def pruned() -> tuple[PreTrainedModel, PruneReport]:
    model = untied_llama()
    return model, prune(model, TOKENS, method="sparsegpt", sparsity=0.6)


@torch.no_grad()
def outputs(model: nn.Module) -> torch.Tensor:
    return model(TOKENS)[0]


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_round_trip_changes_nothing(
    name: str, compact: bool, tmp_path: Path, lab_tokenizer, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    report = prune(model, TOKENS, method="ria", sparsity=0.5, pattern="2:4", permute=True)
    folder = save_pruned(model, tmp_path / "pruned", report, tokenizer=lab_tokenizer, compact=compact)
    loaded = load_pruned(folder)
    assert_same_state(loaded.model, model)
    assert torch.equal(outputs(loaded.model), outputs(model))
    assert_same_report(loaded.report, report)
    assert loaded.report.seconds == report.seconds and not loaded.model.training
    assert loaded.tokenizer("one two") == lab_tokenizer("one two")
    tied = getattr(model.config, "tie_word_embeddings", False) and hasattr(model, "lm_head")
    if tied:
        assert loaded.model.get_input_embeddings().weight is loaded.model.get_output_embeddings().weight
    if not compact:
        assert_same_state(load_plainly(folder), model)


def test_the_measured_choice_is_kept(tmp_path: Path) -> None:
    model = untied_llama()
    report = prune(model, TOKENS, method="optiprune-auto", sparsity=0.5)
    found = load_pruned(save_pruned(model, tmp_path / "pruned", report)).report
    pd.testing.assert_frame_equal(found.candidates, report.candidates)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_compact_form_is_smaller(dtype: torch.dtype, tmp_path: Path, pruned: tuple) -> None:
    model, report = pruned
    model.to(dtype)
    plain, compact = (save_pruned(model, tmp_path / str(c), report, compact=c) for c in (False, True))
    entries = load_file(compact / "model.compact.safetensors")
    matrices = [name for name in model.state_dict() if "_proj" in name]
    for name in matrices:
        weight = model.state_dict()[name]
        kept = int((weight != 0).sum())
        assert len(entries[f"{name}::values"]) == kept
        assert len(entries[f"{name}::mask"]) == -(-weight.numel() // 8)
    assert {name.partition("::")[0] for name in entries if "::" in name} == set(matrices)
    stored = sum(tensor.numel() * tensor.element_size() for tensor in entries.values())
    dense = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    block = sum(model.state_dict()[name].numel() for name in matrices)
    saved = dense - stored
    assert saved == pytest.approx(block * (0.6 * dtype.itemsize - 1 / 8), rel=0.01)
    assert torch.equal(outputs(load_pruned(compact).model), outputs(load_pruned(plain).model))


def test_another_dtype(tmp_path: Path, pruned: tuple) -> None:
    model, report = pruned
    for compact in (False, True):
        folder = save_pruned(model, tmp_path / str(compact), report, compact=compact)
        assert_same_state(load_pruned(folder, dtype="bfloat16").model, load_plainly(folder).to(torch.bfloat16)
                          if not compact else load_plainly(tmp_path / "False").to(torch.bfloat16))  # fmt: skip


def test_provenance(tmp_path: Path, pruned: tuple) -> None:
    record = json.loads((save_pruned(pruned[0], tmp_path / "pruned", pruned[1]) / "pruning.json").read_text())
    assert len(record["provenance"]["weights sha256"]) == 64 and record["provenance"]["torch"] == torch.__version__


def test_what_is_there_is_not_overwritten(tmp_path: Path, pruned: tuple) -> None:
    save_pruned(*(pruned[0], tmp_path / "pruned", pruned[1]))
    before = {path.name: path.read_bytes() for path in (tmp_path / "pruned").iterdir()}
    with pytest.raises(ValueError, match="not an empty folder"):
        save_pruned(pruned[0], tmp_path / "pruned", pruned[1])
    assert {path.name: path.read_bytes() for path in (tmp_path / "pruned").iterdir()} == before


@pytest.mark.parametrize("compact", [False, True])
def test_a_full_disk_leaves_nothing(compact: bool, tmp_path: Path, pruned: tuple, monkeypatch) -> None:
    def full(*given: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("labutils.checkpoints.saving.write_report", full)
    with pytest.raises(OSError, match="No room left"):
        save_pruned(pruned[0], tmp_path / "pruned", pruned[1], compact=compact)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, pruned: tuple) -> None:
    with torch.no_grad():
        pruned[0].model.norm.weight[0] = float("nan")
    with pytest.raises(ValueError, match=r"model\.norm\.weight"):
        save_pruned(pruned[0], tmp_path / "pruned", pruned[1])
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_loaded(tmp_path: Path, pruned: tuple) -> None:
    with pytest.raises(LookupError, match=r"no pruning\.json"):
        load_pruned(tmp_path)
    whole = save_pruned(pruned[0], tmp_path / "whole", pruned[1])
    (whole / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes()[:-4])
    with pytest.raises(ValueError, match="truncated"):
        load_pruned(whole)
    compact = save_pruned(pruned[0], tmp_path / "compact", pruned[1], compact=True)
    path = compact / "model.compact.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    with pytest.raises(ValueError, match="truncated"):
        load_pruned(compact)
    path.unlink()
    with pytest.raises(LookupError, match="neither"):
        load_pruned(compact)


def test_a_compact_file_whose_mask_and_values_disagree(tmp_path: Path, pruned: tuple) -> None:
    from safetensors import safe_open

    path = save_pruned(pruned[0], tmp_path / "compact", pruned[1], compact=True) / "model.compact.safetensors"
    entries = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    name = "model.layers.0.mlp.up_proj.weight::mask"
    entries[name] = entries[name] ^ 1
    save_file(entries, path, metadata=metadata)
    with pytest.raises(ValueError, match="damaged"):
        load_pruned(path.parent)


def test_a_compact_file_with_a_tensor_of_another_model(tmp_path: Path, pruned: tuple) -> None:
    from safetensors import safe_open

    path = save_pruned(pruned[0], tmp_path / "compact", pruned[1], compact=True) / "model.compact.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({**load_file(path), "model.layers.9.extra": torch.ones(2)}, path, metadata=metadata)
    with pytest.raises(LookupError, match=r"layers\.9\.extra"):
        load_pruned(path.parent)
