"""Stored forms side by side, and folders that go when Python ends."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoint_models import TOKENS, untied_llama

from labutils.checkpoints import compare_forms, prune_checkpoint, save_dense, save_pruned
from labutils.pruning import prune


def test_forms_of_one_model(tmp_path: Path) -> None:
    model = untied_llama()
    save_dense(model, tmp_path / "dense")
    report = prune(model, TOKENS, method="wanda", sparsity=0.6)
    save_pruned(model, tmp_path / "plain", report)
    save_pruned(model, tmp_path / "compact", report, compact=True)
    prune_checkpoint(tmp_path / "dense", tmp_path / "streamed", TOKENS, method="wanda", sparsity=0.6)
    names = ["plain", "compact", "streamed"]
    found = compare_forms(model, {name: tmp_path / name for name in names}, TOKENS).set_index("form")
    assert found.index.tolist() == names and (found["largest difference"] == 0).all()
    assert found.loc["plain", "megabytes"] == (tmp_path / "plain" / "model.safetensors").stat().st_size / 1e6
    assert found.loc["compact", "megabytes"] < found.loc["plain", "megabytes"]
    assert (found["zeros"] == report.sparsity).all() and (found["seconds"] > 0).all()


def test_a_dense_model_is_not_written_over_another(tmp_path: Path) -> None:
    folder = save_dense(untied_llama(), tmp_path / "dense")
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="not an empty folder"):
        save_dense(untied_llama(), folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_form_of_another_model_shows(tmp_path: Path) -> None:
    model = untied_llama()
    report = prune(model, TOKENS, method="wanda", sparsity=0.5)
    save_pruned(model, tmp_path / "plain", report)
    with torch.no_grad():
        model.lm_head.weight[3, 2] += 1.0
    (difference,) = compare_forms(model, {"plain": tmp_path / "plain"}, TOKENS)["largest difference"]
    assert difference > 0


def test_a_fresh_folder_goes_at_the_end() -> None:
    code = (
        "import labutils as lab; folder = lab.checkpoints.fresh_folder(); (folder / 'a').write_text('b'); print(folder)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "labutils-" in said and not Path(said.strip()).exists()
