"""Text files: UTF-8 with or without marks; other encodings are refused with the line."""

from pathlib import Path

import pytest

from labutils.core.parts import split_part
from labutils.core.text_files import read_text

LINES = "first\nDie Größe der Straße\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (LINES.encode("latin-1"), r"a\.txt, line 2: the byte 0xf6 is not UTF-8.*cp1252 .*'Die Größe.*iconv -f CP1252"),
        (LINES.replace("\n", "\r\n").encode("cp1252"), "line 2: the byte 0xf6"),
        ("x\n“quoted”".encode("cp1252"), "line 2: the byte 0x93.*'“quoted”'"),
        (LINES.encode()[:-7] + b"\xc3", "line 2: the byte 0xc3"),  # the file ends inside a character
        (LINES.encode("utf-16"), r"a\.txt is in UTF-16, not in UTF-8"),
        (LINES.encode("utf-16-le"), "line 1: a NUL character.*UTF-16"),
        ("ü".encode("utf-16-be") + b"x" * 100, "line 1|UTF-8"),
        (b"y" * 500 + b"\xf6", "line 1.*…"),
    ],
)
def test_other_encodings_are_refused_with_file_and_line(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_text(path)


def test_marks_and_ends_of_lines_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\r\ufeffthree\n\ufefffour \ufeff".encode())
    assert read_text(path) == "one\ntwo\nthree\nfour \ufeff"


def test_the_sign_of_a_part_may_stand_in_a_files_name(tmp_path: Path) -> None:
    (tmp_path / "a#1.txt").touch()
    assert split_part(f"{tmp_path}/a#1.txt") == (f"{tmp_path}/a#1.txt", "")
    assert split_part(f"{tmp_path}/a#1.txt#all") == (f"{tmp_path}/a#1.txt", "all")
    assert split_part(f"{tmp_path}/a#2.txt") == (f"{tmp_path}/a", "2.txt")
    assert split_part("over/there#1/config") == ("over/there#1/config", "")
    assert split_part("owner/name#dev") == ("owner/name", "dev") and split_part("x" * 999 + "#all")[1] == "all"
