"""Tensors in safetensors files, one at a time: reading with clear errors, writing that is all or nothing.

A file is open only while a piece of a tensor is copied out of it. So nothing stays mapped, and a process holds the
tensors it asked for and no more.
"""

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from labutils.core.files import read_json
from labutils.core.profiling import trim_malloc
from labutils.core.progress import progress

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PIECE = 2**24  # numbers that are read together
GIVE_BACK_BYTES = 2**26  # read and freed before the allocator is asked to give its gaps back
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "BOOL": torch.bool, "U8": torch.uint8,
    "I8": torch.int8, "U16": torch.uint16, "I16": torch.int16, "U32": torch.uint32, "I32": torch.int32,
    "U64": torch.uint64, "I64": torch.int64,
}  # fmt: skip
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True)
class Shards:
    """The weights of a folder in the Hugging Face format.

    Attributes:
        files: the file of every tensor, by the tensor's name in the checkpoint.
        shapes, dtypes: of every tensor.
    """

    folder: Path
    files: dict[str, Path]
    shapes: dict[str, torch.Size]
    dtypes: dict[str, torch.dtype]

    @contextmanager
    def reading(self) -> Iterator[Callable[[str], Tensor]]:
        """What gives one tensor after the other, with all files open; what was read is not to be kept.

        Raises:
            ValueError: a damaged file.
        """
        with ExitStack() as stack:
            files = {path: stack.enter_context(opened(path)) for path in {*self.files.values()}}
            yield lambda key: files[self.files[key]].get_tensor(key)

    def first_dtype(self) -> torch.dtype:
        """The dtype by which transformers knows a checkpoint whose configuration names none."""
        floats = (dtype for dtype in self.dtypes.values() if dtype.is_floating_point)
        return next(floats, torch.float32)

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
    headers, files = {}, {}
    for name in sorted({*listed.values()} or {SINGLE}):
        found = read_header(folder / name)
        headers |= found
        files |= dict.fromkeys(found, folder / name)
    if absent := sorted(set(listed) - set(files)):
        raise LookupError(f"{folder}: {INDEX} lists {absent[0]!r}, which is in none of its files. Download them again.")
    shapes = {key: shape for key, (shape, _) in headers.items()}
    return Shards(folder, files, shapes, {key: dtype for key, (_, dtype) in headers.items()})


def _listed_files(folder: Path) -> dict[str, str]:
    """The index's file of every tensor; empty for a single file, which has no index."""
    if (folder / INDEX).exists():
        listed = read_json(folder / INDEX).get("weight_map")
        if not isinstance(listed, dict) or not all(_is_name(name) for name in listed.values()):
            raise ValueError(f"{folder / INDEX} does not tell the file of every tensor in its 'weight_map'.")
        return listed
    if not (folder / SINGLE).exists():
        raise LookupError(
            f"{folder} holds neither {SINGLE} nor {INDEX}. Only safetensors weights are read; other formats can be "
            "converted with transformers' `save_pretrained`."
        )
    return {}


def _is_name(name: object) -> bool:
    """Whether it is the name of a file in the same folder."""
    return isinstance(name, str) and Path(name).name == name


def read_header(path: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and dtype of each tensor of a file, from its header; LookupError and ValueError as `read_tensor`."""
    found = {}
    with opened(path) as file:
        for key in file.keys():  # noqa: SIM118 (not a mapping)
            entry = file.get_slice(key)
            if entry.get_dtype() not in DTYPES:
                raise ValueError(f"{key} in {path} is of the type {entry.get_dtype()}, which is not read here.")
            found[key] = torch.Size(entry.get_shape()), DTYPES[entry.get_dtype()]
    return found


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
    with opened(path) as file:
        return file.metadata() or {}


def check_finite_tensor(tensor: Tensor, key: str, path: Path) -> None:
    """Raises a ValueError that names tensor and file where a value is NaN or infinite."""
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise ValueError(f"{key} in {path} contains NaN or infinite weights; get an intact copy of that file.")


def write_shard(path: Path, tensors: Mapping[str, Tensor], *, scratch: Path, metadata: dict | None = None) -> None:
    """Write a safetensors file that appears under its name only when it is complete and was read back.

    Args:
        scratch: folder on the same disk for the unfinished file.

    Raises:
        OSError: it cannot be written, with what to do about it, or is not what was written; nothing is left of it.
    """
    unfinished = scratch / path.name
    try:
        save_file(dict(tensors), unfinished, metadata={"format": "pt", **(metadata or {})})
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        with opened(unfinished) as file:
            for name, tensor in tensors.items():
                check_same(name, file.get_tensor(name), tensor, path)
        unfinished.chmod(0o644)  # safetensors makes it private
        os.replace(unfinished, path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError | SafetensorError):
            raise explain_failed_write(path, error) from error
        raise


def bits(tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """A tensor's numbers as integers of the same bits, so that NaN equals itself, and the two zeros differ."""
    return tensor.contiguous().view(INTEGERS[tensor.element_size()])


def check_same(name: str, written: Tensor, expected: Tensor, path: Path) -> None:
    """OSError unless a tensor that was read back has the bits of the one that was to be written."""
    expected = expected.detach().cpu()
    same = written.dtype == expected.dtype and written.shape == expected.shape
    if not (same and torch.equal(bits(written), bits(expected))):
        raise OSError(
            errno.EIO, f"{name} was read back from {path.name} otherwise than it was written; the disk, or the way to "
            "it, is at fault",
        )  # fmt: skip


def explain_failed_write(path: Path, error: Exception) -> OSError:
    """An OSError that says what stood in the way of writing a file and what to do."""
    found = re.search(r"os error (\d+)", str(error))  # safetensors hands on the system's errors as text
    code = getattr(error, "errno", None) or (int(found[1]) if found else errno.EIO)
    if code in NO_ROOM:
        return OSError(code, f"No room left for {path}. Free some space and call again with the same arguments")
    if file := next((parent for parent in path.parents if parent.is_file()), None):
        return OSError(code, f"{path} cannot be written: {file} is a file. Choose another folder")
    if code in NO_ACCESS:
        return OSError(code, f"{path.parent} cannot be written to. Choose a folder with write access")
    return OSError(code, f"{path} could not be written: {error}")


def _pieces(path: Path, key: str) -> Iterator[Tensor]:
    """A tensor's rows, some at a time; a piece is to be used before the next one is asked for."""
    shape = _shape(path, key)
    if shape.numel() <= PIECE:
        with opened(path) as file:
            yield file.get_tensor(key)
        return
    rows = max(1, PIECE * shape[0] // shape.numel())
    for start in range(0, shape[0], rows):
        with opened(path) as file:
            yield file.get_slice(key)[start : start + rows]


def _shape(path: Path, key: str) -> torch.Size:
    with opened(path) as file:
        if key not in file.keys():  # noqa: SIM118 (not a mapping)
            raise LookupError(f"{path} holds no tensor {key!r}.")
        return torch.Size(file.get_slice(key).get_shape())


class opened:  # noqa: N801 (used like a function, as `open` is)
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

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> None:
        self.file.__exit__(kind, error, traceback)
        if isinstance(error, SafetensorError):
            raise ValueError(f"{self.path} is damaged ({error}). Download or copy it again.") from error
