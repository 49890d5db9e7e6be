"""Tensors in safetensors files, one at a time: reading with clear errors, writing that is all or nothing.

A file is open only while a piece of a tensor is copied out of it. So nothing stays mapped, and a process holds the
tensors it asked for and no more.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from labutils.core.profiling import trim_malloc
from labutils.core.progress import progress

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PIECE = 2**24  # numbers that are read together
GIVE_BACK_BYTES = 2**26  # read and freed before the allocator is asked to give its gaps back
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True)
class Shards:
    """The weights of a folder in the Hugging Face format.

    Attributes:
        files: the file of every tensor, by the tensor's name in the checkpoint.
        shapes: the shape of every tensor.
    """

    folder: Path
    files: dict[str, Path]
    shapes: dict[str, torch.Size]

    def read(self, key: str) -> Tensor:
        """One tensor, in memory of its own."""
        return read_tensor(self.files[key], key)

    def fingerprint(self) -> str:
        """SHA-256 over names, types, shapes and bytes of all tensors: equal however they are spread over files.

        Raises:
            ValueError: a tensor holds a NaN or an infinite value; tensor and file are named.
        """
        digest, freed = hashlib.sha256(), 0
        for key in progress(sorted(self.files), description=f"check {self.folder.name}", unit="tensor"):
            digest.update(key.encode())
            for piece in _pieces(self.files[key], key):
                check_finite_tensor(piece, key, self.files[key])
                digest.update(f" {piece.dtype} {tuple(piece.shape)}\n".encode())
                digest.update(piece.contiguous().flatten().view(torch.uint8).numpy())
                freed += piece.nbytes
            if freed > GIVE_BACK_BYTES:
                trim_malloc()
                freed = 0
        return digest.hexdigest()


def open_shards(folder: Path) -> Shards:
    """The tensors of a folder with `model.safetensors`, or with shards and their index.

    Raises:
        LookupError: no weights in this format, or a shard or tensor that the index lists is missing.
        ValueError: a file that is truncated or not in the safetensors format.
    """
    listed = _listed_files(folder)
    missing = sorted({name for name in listed.values() if not (folder / name).exists()})
    if missing:
        raise LookupError(
            f"{folder} lacks {len(missing)} of the files that {INDEX} lists: {', '.join(missing)}. "
            "Download or copy them again; what has been pruned so far is kept."
        )
    shapes, files = {}, {}
    for name in sorted({*listed.values()} or {SINGLE}):
        found = tensor_shapes(folder / name)
        shapes |= found
        files |= dict.fromkeys(found, folder / name)
    if absent := sorted(set(listed) - set(files)):
        raise LookupError(f"{folder}: {INDEX} lists {absent[0]!r}, which is in none of its files. Download them again.")
    return Shards(folder, files, shapes)


def _listed_files(folder: Path) -> dict[str, str]:
    """The index's file of every tensor; empty for a single file, which has no index."""
    if (folder / INDEX).exists():
        return json.loads((folder / INDEX).read_text())["weight_map"]
    if not (folder / SINGLE).exists():
        raise LookupError(
            f"{folder} holds neither {SINGLE} nor {INDEX}. Only safetensors weights are read; other formats can be "
            "converted with transformers' `save_pretrained`."
        )
    return {}


def tensor_shapes(path: Path) -> dict[str, torch.Size]:
    """The shape of each tensor of a file, from its header; LookupError and ValueError as `read_tensor`."""
    with _Opened(path) as file:
        return {key: torch.Size(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


def read_tensor(path: Path, key: str) -> Tensor:
    """One tensor of a safetensors file, in memory of its own.

    Raises:
        LookupError: no such file or tensor.
        ValueError: the file is damaged.
    """
    shape, tensor, row = _shape(path, key), None, 0
    for piece in _pieces(path, key):
        if piece.shape == shape:
            return piece.clone()
        if tensor is None:
            tensor = piece.new_empty(shape)
        tensor[row : row + len(piece)] = piece
        row += len(piece)
    return tensor


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself; LookupError and ValueError as `read_tensor`."""
    with _Opened(path) as file:
        return file.metadata() or {}


def check_finite_tensor(tensor: Tensor, key: str, path: Path) -> None:
    """Raises a ValueError that names tensor and file where a value is NaN or infinite."""
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise ValueError(f"{key} in {path} contains NaN or infinite weights; get an intact copy of that file.")


def write_shard(path: Path, tensors: Mapping[str, Tensor], *, scratch: Path, metadata: dict | None = None) -> None:
    """Write a safetensors file that appears under its name only when it is complete.

    Args:
        scratch: folder on the same disk for the unfinished file.

    Raises:
        OSError: it cannot be written, with what to do about it; nothing is left of it.
    """
    unfinished = scratch / path.name
    try:
        save_file(dict(tensors), unfinished, metadata={"format": "pt", **(metadata or {})})
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        unfinished.chmod(0o644)  # safetensors makes it private
        os.replace(unfinished, path)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        raise explain_failed_write(path, error) from error


def explain_failed_write(path: Path, error: Exception) -> OSError:
    """An OSError that says what stood in the way of writing a file and what to do."""
    found = re.search(r"os error (\d+)", str(error))  # safetensors hands on the system's errors as text
    code = getattr(error, "errno", None) or (int(found[1]) if found else errno.EIO)
    if code in NO_ROOM:
        return OSError(code, f"No room left for {path}. Free some space and call again with the same arguments")
    if code in NO_ACCESS:
        return OSError(code, f"{path.parent} cannot be written to. Choose a folder with write access")
    return OSError(code, f"{path} could not be written: {error}")


def _pieces(path: Path, key: str) -> Iterator[Tensor]:
    """A tensor's rows, some at a time; a piece is to be used before the next one is asked for."""
    shape = _shape(path, key)
    if shape.numel() <= PIECE:
        with _Opened(path) as file:
            yield file.get_tensor(key)
        return
    rows = max(1, PIECE * shape[0] // shape.numel())
    for start in range(0, shape[0], rows):
        with _Opened(path) as file:
            yield file.get_slice(key)[start : start + rows]


def _shape(path: Path, key: str) -> torch.Size:
    with _Opened(path) as file:
        if key not in file.keys():  # noqa: SIM118 (not a mapping)
            raise LookupError(f"{path} holds no tensor {key!r}.")
        return torch.Size(file.get_slice(key).get_shape())


class _Opened:
    """A safetensors file, opened for reading; errors say which file and what to do."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> safe_open:
        try:
            self.file = safe_open(self.path, framework="pt")
        except FileNotFoundError as error:
            raise LookupError(f"{self.path} is missing. Put it back; what has been pruned so far is kept.") from error
        except SafetensorError as error:
            raise ValueError(
                f"{self.path} is truncated or not a safetensors file ({error}). Download or copy it again; what has "
                "been pruned so far is kept."
            ) from error
        return self.file.__enter__()

    def __exit__(self, *error: object) -> None:
        self.file.__exit__(*error)
