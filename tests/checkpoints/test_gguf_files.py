"""Models from GGUF files are pruned, tuned and saved like others, and written back as GGUF with every zero kept."""

from pathlib import Path

import numpy as np
import pytest
import torch

gguf = pytest.importorskip("gguf", reason="needs the extra gguf")
pytest.importorskip("accelerate", reason="needs the extra gguf")

from checkpoint_models import assert_same_report, assert_same_state, load_plainly  # noqa: E402
from gguf_files import VOCABULARY, tensors_of, tiny, write_gguf  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402

import labutils as lab  # noqa: E402
from labutils.checkpoints import gguf as writing  # noqa: E402
from labutils.checkpoints import save_dense, save_gguf  # noqa: E402
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix  # noqa: E402

IDS = torch.randint(0, VOCABULARY, (6, 20), generator=torch.Generator().manual_seed(0))


def source(folder: Path, architecture: str = "llama", kind: str = "Q4_0", **options: object) -> Path:
    tensors = tensors_of(tiny(architecture), architecture)
    return write_gguf(folder / "tiny.gguf", architecture, tensors, kind=kind, **options)


def pruned(path: Path, method: str = "wanda", **how: object) -> tuple[PreTrainedModel, lab.PruneReport]:
    model, _ = lab.load_model(str(path), device="cpu")
    return model, lab.prune(model, IDS, method=method, **{"sparsity": 0.5, **how})


def matrices(model: PreTrainedModel) -> list[torch.Tensor]:
    return [weight_matrix(layer) for block in find_blocks(model)[1] for layer in prunable_layers(block).values()]


@pytest.mark.parametrize("compact", [False, True])
def test_saved_and_loaded_like_another_model(compact: bool, tmp_path: Path) -> None:
    path = source(tmp_path)
    model, report = pruned(path)
    _, tokenizer = lab.load_model(str(path), device="cpu")
    lab.save_pruned(model, tmp_path / "out", report, tokenizer=tokenizer, compact=compact)
    loaded = lab.load_pruned(tmp_path / "out", device="cpu")
    assert_same_state(loaded.model, model)
    assert_same_report(loaded.report, report)
    assert loaded.tokenizer("the inn 12")["input_ids"] == tokenizer("the inn 12")["input_ids"]
    if not compact:
        assert_same_state(load_plainly(tmp_path / "out"), model)
    assert "gguf sha256" in (tmp_path / "out" / "pruning.json").read_text()


def test_streamed_by_way_of_a_folder(tmp_path: Path) -> None:
    path = source(tmp_path)
    with pytest.raises(LookupError, match="is a GGUF file.*save_dense"):
        lab.prune_checkpoint(path, tmp_path / "target", IDS, method="wanda", sparsity=0.5)
    assert not (tmp_path / "target").exists()
    save_dense(lab.load_model(str(path), device="cpu")[0], tmp_path / "dense")
    lab.prune_checkpoint(tmp_path / "dense", tmp_path / "target", IDS, method="wanda", sparsity=0.5, device="cpu")
    assert_same_state(lab.load_pruned(tmp_path / "target", device="cpu").model, pruned(path)[0])


def test_tuned_with_its_zeros_kept(tmp_path: Path) -> None:
    model, _ = pruned(source(tmp_path))
    zeros = [matrix == 0 for matrix in matrices(model)]
    before = [matrix.clone() for matrix in matrices(model)]
    lab.tune_lora(model, IDS, steps=2, learning_rate=1e-2)
    after = matrices(model)
    assert all((now[gone] == 0).all() for now, gone in zip(after, zeros, strict=True))
    assert any(not torch.equal(now, was) for now, was in zip(after, before, strict=True))


def test_many_groups_of_four_bit_weights_are_tied(tmp_path: Path) -> None:
    _, report = pruned(source(tmp_path), "magnitude", pattern="2:4")
    assert (report.layers["ties"] > 0.05).all()
    (tmp_path / "floats").mkdir()
    _, report = pruned(source(tmp_path / "floats", kind="F32"), "magnitude", pattern="2:4")
    assert (report.layers["ties"] == 0).all()
    _, report = pruned(source(tmp_path), "sparsegpt", pattern="2:4")
    assert report.layers["ties"].isna().all()


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_written_back_with_every_zero(architecture: str, kind: str, tmp_path: Path) -> None:
    path = source(tmp_path, architecture, "F16", more={"tokenizer.chat_template": "{{ messages }}"})
    model, _ = pruned(path, "sparsegpt", pattern="2:4")
    assert save_gguf(model, tmp_path / "out.gguf", like=path, kind=kind) == tmp_path / "out.gguf"
    again, tokenizer = lab.load_model(str(tmp_path / "out.gguf"), device="cpu")
    for mine, theirs in zip(matrices(model), matrices(again), strict=True):
        assert not theirs[mine == 0].any() and ((theirs == 0).float().mean() < 0.62)
        largest = {"F16": 2**-11, "Q8_0": 1 / 220, "Q4_0": 1 / 7.9}[kind] * mine.abs().max()
        assert (mine - theirs).abs().max() <= largest
    assert tokenizer.chat_template == "{{ messages }}" and len(tokenizer) == VOCABULARY
    fields = gguf.GGUFReader(tmp_path / "out.gguf").fields
    assert fields["general.file_type"].contents() == gguf.LlamaFileType[f"MOSTLY_{kind}"]
    old = gguf.GGUFReader(path).fields
    for key in old.keys() - {"GGUF.kv_count", "general.file_type", "general.quantization_version"}:
        assert fields[key].contents() == old[key].contents() or fields[key].contents() == [], key
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.gguf", "tiny.gguf"]


def test_in_f16_nothing_else_changes(tmp_path: Path) -> None:
    path = source(tmp_path, "llama", "F16")
    model, _ = lab.load_model(str(path), device="cpu")
    save_gguf(model, tmp_path / "out.gguf", like=path, kind="F16")
    old, new = (gguf.GGUFReader(tmp_path / name) for name in ("tiny.gguf", "out.gguf"))
    for one, other in zip(old.tensors, new.tensors, strict=True):
        assert one.name == other.name and one.tensor_type == other.tensor_type
        np.testing.assert_array_equal(one.data, other.data)


def test_an_added_one_of_a_norm_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Gemma's norms have it, whose files are one larger than the model's weights."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, Gemma2TensorProcessor

    monkeypatch.setitem(TENSOR_PROCESSORS, "qwen2", Gemma2TensorProcessor)
    path = source(tmp_path, "qwen2", "F16")
    model, _ = lab.load_model(str(path), device="cpu")
    save_gguf(model, tmp_path / "out.gguf", like=path, kind="F16")
    for one, other in zip(*(gguf.GGUFReader(tmp_path / n).tensors for n in ("tiny.gguf", "out.gguf")), strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-6, atol=1e-6)
    assert_same_state(lab.load_model(str(tmp_path / "out.gguf"), device="cpu")[0], model)


@pytest.mark.parametrize("kind", ["Q4_1", "Q5_1", "Q4_K", "q8"])
def test_types_in_which_a_zero_does_not_stay_are_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"kind='{kind}': give one of F16, Q8_0, Q4_0"):
        save_gguf(tiny("llama"), tmp_path / "out.gguf", like=source(tmp_path), kind=kind)


def test_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = source(tmp_path)
    model, _ = lab.load_model(str(path), device="cpu")
    with pytest.raises(ValueError, match="exists"):
        save_gguf(model, path, like=path)
    with pytest.raises(LookupError, match="is no GGUF file"):
        save_gguf(model, tmp_path / "out.gguf", like="lab-llama")
    with pytest.raises(LookupError, match="shape .* and the model has"):
        save_gguf(tiny("llama", width=128), tmp_path / "out.gguf", like=path)
    with pytest.raises(LookupError, match="has no tensor for"):
        save_gguf(tiny("llama", tied=False), tmp_path / "out.gguf", like=path)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match="F16 ends at 65504"):
        save_gguf(model, tmp_path / "out.gguf", like=path, kind="F16")
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.gguf"]


def test_a_file_that_reads_back_otherwise_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = source(tmp_path)
    model, _ = pruned(path)

    def with_a_minimum(name: str, values: np.ndarray, kind: str) -> np.ndarray:
        moved = np.where(values == 0, 0.01, values) if "ffn_up" in name else values
        return gguf.quantize(np.float32(moved), gguf.GGMLQuantizationType[kind])

    monkeypatch.setattr(writing, "_quantise", with_a_minimum)
    with pytest.raises(ValueError, match="blk.0.ffn_up.weight' read back from the file is not the model's"):
        save_gguf(model, tmp_path / "out.gguf", like=path)

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_quantise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_gguf(model, tmp_path / "out.gguf", like=path)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.gguf"]


def test_a_width_that_has_no_blocks(tmp_path: Path) -> None:
    tensors = tensors_of(tiny("llama", width=48), "llama")
    path = write_gguf(tmp_path / "tiny.gguf", "llama", tensors, width=48)
    model, _ = lab.load_model(str(path), device="cpu")
    with pytest.raises(ValueError, match="is 48 wide, no multiple of 32 as Q8_0 needs"):
        save_gguf(model, tmp_path / "out.gguf", like=path)
    assert save_gguf(model, tmp_path / "out.gguf", like=path, kind="F16").exists()
