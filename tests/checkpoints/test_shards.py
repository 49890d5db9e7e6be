"""Reading and writing safetensors: what is damaged or missing is named, what is written is whole."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from checkpoint_models import TOKENS, store, untied_llama
from safetensors.torch import load_file, save_file

from labutils.checkpoints import prune_checkpoint, shards
from labutils.checkpoints.shards import open_shards, read_tensor, write_shard

REQUEST = {"method": "wanda", "sparsity": 0.5}


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Permissions do not bind the superuser."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("piece", [7, 2**24])
def test_tensors_read_in_pieces_are_the_same(piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "PIECE", piece)
    tensors = {
        "wide": torch.randn(5, 9), "long": torch.randn(100), "scalar": torch.tensor(3.0), "empty": torch.zeros(0, 4),
        "half": torch.randn(6, 3).bfloat16(), "counts": torch.arange(50).reshape(5, 5, 2), "bits": torch.ones(9) > 0,
    }  # fmt: skip
    save_file(tensors, tmp_path / "some.safetensors")
    for name, tensor in tensors.items():
        found = read_tensor(tmp_path / "some.safetensors", name)
        assert found.dtype == tensor.dtype and torch.equal(found, tensor), name


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    model = untied_llama()
    whole, parts = store(model, tmp_path / "whole"), store(model, tmp_path / "parts", in_shards=True)
    assert len(list(parts.glob("*.safetensors"))) > 3
    assert open_shards(whole).fingerprint() == open_shards(parts).fingerprint()
    with torch.no_grad():
        model.lm_head.weight[5, 7] += 1e-3
    assert open_shards(store(model, tmp_path / "other")).fingerprint() != open_shards(whole).fingerprint()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["model.layers.2.mlp.up_proj.weight", "model.norm.weight"])
def test_weights_that_are_not_finite_are_named(name: str, value: float, tmp_path: Path) -> None:
    model = untied_llama()
    with torch.no_grad():
        model.get_parameter(name).view(-1)[3] = value
    source = store(model, tmp_path / "dense", in_shards=True)
    with pytest.raises(ValueError, match=f"{name}.*contains NaN or infinite"):
        prune_checkpoint(source, tmp_path / "pruned", TOKENS, **REQUEST)
    assert not (tmp_path / "pruned").exists()


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    source = store(untied_llama(), tmp_path / "dense", in_shards=True)
    gone = sorted(source.glob("*.safetensors"))[2]
    gone.unlink()
    with pytest.raises(LookupError, match=gone.name):
        prune_checkpoint(source, tmp_path / "pruned", TOKENS, **REQUEST)
    assert not (tmp_path / "pruned").exists()


@pytest.mark.parametrize("kept", [0, 6, 100, -1])
def test_a_truncated_file_is_named(kept: int, tmp_path: Path) -> None:
    source = store(untied_llama(), tmp_path / "dense")
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors is truncated"):
        prune_checkpoint(source, tmp_path / "pruned", TOKENS, **REQUEST)


def test_a_tensor_that_only_the_index_knows(tmp_path: Path) -> None:
    source = store(untied_llama(), tmp_path / "dense", in_shards=True)
    index = json.loads((source / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.layers.9.mlp.up_proj.weight"] = next(iter(index["weight_map"].values()))
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(LookupError, match=r"model\.layers\.9"):
        open_shards(source)


def test_a_block_that_lacks_a_tensor(tmp_path: Path) -> None:
    source = store(untied_llama(), tmp_path / "dense")
    tensors = load_file(source / "model.safetensors")
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LookupError, match=r"layers\.1\.self_attn\.k_proj\.weight"):
        prune_checkpoint(source, tmp_path / "pruned", TOKENS, **REQUEST)


def test_weights_of_another_configuration(tmp_path: Path) -> None:
    source = store(untied_llama(), tmp_path / "dense")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))
    with pytest.raises(ValueError, match="do not belong together"):
        prune_checkpoint(source, tmp_path / "pruned", TOKENS, **REQUEST)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    model = untied_llama()
    model.config.save_pretrained(tmp_path / "dense")
    (tmp_path / "dense" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(LookupError, match="Only safetensors"):
        prune_checkpoint(tmp_path / "dense", tmp_path / "pruned", TOKENS, **REQUEST)


def test_a_folder_without_write_access() -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to other users
        folder = Path(place)
        source = store(untied_llama(), folder / "dense")
        for path in source.iterdir():
            path.chmod(0o644)
        (folder / "pruned").mkdir(mode=0o555)
        folder.chmod(0o555)
        for target in (folder / "pruned", folder / "new"):
            with as_ordinary_user(), pytest.raises(OSError, match="cannot be written to") as caught:
                prune_checkpoint(source, target, TOKENS, **REQUEST)
            assert caught.value.errno == errno.EACCES
        assert not list((folder / "pruned").iterdir())
        folder.chmod(0o755)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: dict, path: Path, metadata: dict) -> None:
        Path(path).write_bytes(b"the first half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards, "save_file", full)
    with pytest.raises(OSError, match="No room left"):
        write_shard(tmp_path / "a.safetensors", {"a": torch.zeros(3)}, scratch=tmp_path)
    assert not list(tmp_path.iterdir())
