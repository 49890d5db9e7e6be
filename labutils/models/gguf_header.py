"""The header of a GGUF file: architecture, metadata and the table of tensors, every length checked before it is used.

The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. The package `gguf`
reads the same, but believes the file: from a damaged one it counts to 2⁶⁴, or hands out tensors that are not all there.
So a file is looked through here first, and only one that holds together is given to other readers.
"""

import math
import struct
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

MAGIC, VERSIONS = b"GGUF", (2, 3)
# Of the kinds of value: 0 to 7 and 10 to 12 are scalars, 8 is a text, 9 an array.
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TEXT, ARRAY = 8, 9
LONGEST_KEY, MOST_DIMENSIONS = 2**16, 4  # ggml's own limits
ALIGNMENT = 32


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as its file describes it.

    Attributes:
        shape: as torch has it, the last dimension varying fastest.
        kind: ggml's number of the type, as in `gguf.GGMLQuantizationType`.
        offset: in bytes, from the beginning of the data.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about itself.

    Attributes:
        metadata: scalars and texts by their keys; of an array its length.
        data_start: where the tensors begin, in bytes from the beginning of the file.
    """

    path: Path
    metadata: dict[str, object]
    tensors: tuple[StoredTensor, ...]
    data_start: int

    @property
    def architecture(self) -> str:
        """What ggml calls the kind of model: "llama", "gpt2", "qwen2" …"""
        return str(self.metadata["general.architecture"])

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, by name."""
        return {tensor.name: tensor.shape for tensor in self.tensors}

    def value(self, key: str) -> object:
        """A value of the model's own part of the metadata, such as "context_length"; None where it is not told."""
        return self.metadata.get(f"{self.architecture}.{key}")


def read_header(path: Path) -> Header:
    """The header of a GGUF file.

        read_header(Path("model.gguf")).architecture  # "llama"

    Whether the tensors' data are all there is for `check_data`, which knows the sizes of types.

    Raises:
        ValueError: no GGUF file, one of another version or byte order, or a damaged one.
        OSError: it cannot be opened.
    """
    with path.open("rb") as stream:
        return _Reading(path, stream).header()


def check_data(header: Header, sizes: dict[int, tuple[int, int]]) -> None:
    """Whether every tensor lies within the file, on its boundary, and apart from the others.

    Args:
        sizes: by ggml's number of a type, how many weights a block has and how many bytes; `gguf.GGML_QUANT_SIZES`.

    Raises:
        ValueError: a type that is not among the sizes, a width that is no multiple of the block, or data that are cut
            off or overlap.
    """
    end, available = 0, header.path.stat().st_size - header.data_start
    alignment = _alignment(header.path, header.metadata)
    for tensor in sorted(header.tensors, key=lambda tensor: tensor.offset):
        if tensor.kind not in sizes:
            raise damaged(header.path, f"{tensor.name!r} is of type {tensor.kind}, which ggml does not have")
        weights, size = sizes[tensor.kind]
        width = tensor.shape[-1] if tensor.shape else 1
        if width % weights:
            raise damaged(header.path, f"{tensor.name!r} is {width} wide, and its type has blocks of {weights}")
        if tensor.offset % alignment or tensor.offset < end:
            raise damaged(header.path, f"{tensor.name!r} does not begin where the tensor before it ends")
        end = tensor.offset + math.prod(tensor.shape) // weights * size
        if end > available:
            raise damaged(
                header.path,
                f"it is cut off: {tensor.name!r} ends {end:,} bytes into the data, and {available:,} are there",
            )


def damaged(path: Path, what: str) -> ValueError:
    """The error that a file is no whole GGUF file."""
    return ValueError(f"{path} is not a whole GGUF file: {what}. Download or copy it again.")


class _Reading:
    """Goes through a file once; nothing is read that the file is too short for."""

    def __init__(self, path: Path, stream: BinaryIO):
        self.path, self.stream, self.left = path, stream, path.stat().st_size
        self.size = self.left

    def header(self) -> Header:
        if (magic := self.take(4)) != MAGIC:
            raise damaged(self.path, f"it begins with {magic!r} instead of {MAGIC!r}")
        version = self.number("<I")
        if version not in VERSIONS:
            foreign = "of the other byte order" if version % 2**16 == 0 else f"of version {version}"
            raise ValueError(
                f"{self.path} is a GGUF file {foreign}; only little-endian ones of version 2 or 3 are read."
            )
        n_tensors, n_entries = self.number("<Q"), self.number("<Q")
        metadata = self.unique([self.entry() for _ in self.times(n_entries, 13)], "the key")
        tensors = self.unique([self.tensor() for _ in self.times(n_tensors, 24)], "the tensor")
        if not isinstance(metadata.get("general.architecture"), str):
            raise damaged(self.path, "it has no text 'general.architecture'")
        alignment, position = _alignment(self.path, metadata), self.size - self.left
        return Header(self.path, metadata, tuple(tensors.values()), -(-position // alignment) * alignment)

    def entry(self) -> tuple[str, object]:
        key = self.text(LONGEST_KEY)
        return key, self.value(self.number("<I"))

    def tensor(self) -> tuple[str, StoredTensor]:
        name, n_dimensions = self.text(LONGEST_KEY), self.number("<I")
        if n_dimensions > MOST_DIMENSIONS:
            raise damaged(self.path, f"{name!r} has {n_dimensions} dimensions")
        shape = tuple(reversed([self.number("<Q") for _ in range(n_dimensions)]))  # ggml has the fastest first
        return name, StoredTensor(name, shape, self.number("<I"), self.number("<Q"))

    def value(self, kind: int) -> object:
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == TEXT:
            return self.text()
        if kind != ARRAY:
            raise damaged(self.path, f"a value of kind {kind}, which there is not")
        kind, length = self.number("<I"), self.number("<Q")
        if kind in SCALARS:
            self.skip(length * struct.calcsize(SCALARS[kind]))
        elif kind == TEXT:
            for _ in self.times(length, 8):
                self.skip(self.number("<Q"))
        else:
            raise damaged(self.path, f"an array of values of kind {kind}")
        return length

    def number(self, form: str) -> int | float | bool:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, longest: int | None = None) -> str:
        length = self.number("<Q")
        if longest is not None and length > longest:
            raise damaged(self.path, f"a name of {length:,} bytes")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise damaged(self.path, "a text that is not UTF-8") from error

    def times(self, count: int, smallest: int) -> range:
        """A range over `count` things of at least so many bytes, refused where the file is too short for them."""
        self.check(count * smallest)
        return range(count)

    def take(self, length: int) -> bytes:
        self.check(length)
        self.left -= length
        return self.stream.read(length)

    def skip(self, length: int) -> None:
        self.check(length)
        self.left -= length
        self.stream.seek(length, 1)

    def check(self, length: int) -> None:
        if length > self.left:
            raise damaged(self.path, f"it is cut off: {length:,} more bytes should follow, and {self.left:,} do")

    def unique(self, pairs: list[tuple[str, object]], what: str) -> dict:
        if len(found := dict(pairs)) < len(pairs):
            ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
            raise damaged(self.path, f"{what} {name!r} stands there twice")
        return found


def _alignment(path: Path, metadata: dict[str, object]) -> int:
    found = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1 or found & (found - 1):
        raise damaged(path, f"its alignment {found!r} is no power of two")
    return found
