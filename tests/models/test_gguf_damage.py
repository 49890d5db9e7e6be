"""GGUF files that are cut off, changed or made up: an error of ours for each of them, soon, and nothing else."""

import random
import struct
from pathlib import Path

import pytest

gguf = pytest.importorskip("gguf", reason="needs the extra gguf")

from gguf_files import tensors_of, tiny, write_gguf  # noqa: E402

from labutils.models.gguf_header import check_data, read_header  # noqa: E402

SIZES = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
N_CHANGED = 400


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return write_gguf(path, "llama", tensors_of(tiny("llama"), "llama"), kind="Q8_0").read_bytes()


def look(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    check_data(read_header(path), SIZES)


def test_a_whole_file_is_whole(whole: bytes, tmp_path: Path) -> None:
    look(tmp_path / "whole.gguf", whole)


def test_a_file_that_is_cut_off_anywhere_is_refused(whole: bytes, tmp_path: Path) -> None:
    lengths = [*range(0, 200, 3), *random.Random(0).sample(range(len(whole) - 64), 100), len(whole) - 64]
    for length in lengths:
        with pytest.raises(ValueError, match="not a whole GGUF file.*Download or copy it again"):
            look(tmp_path / "cut.gguf", whole[:length])


@pytest.mark.parametrize(
    ("place", "form", "value", "says"),
    [
        (0, "4s", b"PK\3\4", "begins with"),
        (4, "<I", 1, "of version 1"),
        (4, ">I", 3, "other byte order"),
        (8, "<Q", 2**63, "more bytes should follow"),
        (16, "<Q", 2**64 - 1, "more bytes should follow"),
        (24, "<Q", 2**62, "a name of"),
    ],
)
def test_what_cannot_be_is_refused(
    place: int, form: str, value: object, says: str, whole: bytes, tmp_path: Path
) -> None:
    changed = bytearray(whole)
    struct.pack_into(form, changed, place, value)
    with pytest.raises(ValueError, match=says):
        look(tmp_path / "changed.gguf", bytes(changed))


def test_an_array_that_claims_more_than_the_file_holds(tmp_path: Path) -> None:
    for kind in (0, 8, 12):
        entry = struct.pack("<Q1sIIQ", 1, b"k", 9, kind, 2**61)
        with pytest.raises(ValueError, match="more bytes should follow"):
            look(tmp_path / "array.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry + bytes(64))
    entry = struct.pack("<Q1sIIQ", 1, b"k", 9, 9, 1)
    with pytest.raises(ValueError, match="an array of values of kind 9"):
        look(tmp_path / "array.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry + bytes(64))


def test_names_that_stand_twice(tmp_path: Path) -> None:
    entry = struct.pack("<Q1sIB", 1, b"k", 0, 7)
    with pytest.raises(ValueError, match="the key 'k' stands there twice"):
        look(tmp_path / "twice.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + 2 * entry + bytes(64))


def test_tensors_that_overlap(whole: bytes, tmp_path: Path) -> None:
    name = b"blk.1.ffn_up.weight"
    place = whole.index(name) + len(name) + 4 + 2 * 8 + 4  # dimensions, their number before them, type
    changed = bytearray(whole)
    struct.pack_into("<Q", changed, place, 0)
    with pytest.raises(ValueError, match="does not begin where the tensor before it ends"):
        look(tmp_path / "changed.gguf", bytes(changed))


def test_random_changes_of_the_header_are_read_or_refused(whole: bytes, tmp_path: Path) -> None:
    draws, refused = random.Random(1), 0
    header = read_header_of(whole, tmp_path)
    for _ in range(N_CHANGED):
        changed = bytearray(whole)
        for _ in range(draws.choice((1, 1, 2, 8))):
            place = draws.randrange(header)
            width = draws.choice((1, 1, 4, 8))
            changed[place : place + width] = draws.choice((draws.randbytes(width), bytes(width), b"\xff" * width))
        try:
            look(tmp_path / "changed.gguf", bytes(changed))
        except ValueError:
            refused += 1
    assert 0.2 * N_CHANGED < refused < N_CHANGED


def read_header_of(whole: bytes, folder: Path) -> int:
    (folder / "whole.gguf").write_bytes(whole)
    return read_header(folder / "whole.gguf").data_start
