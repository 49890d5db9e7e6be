"""Text files of readers: in UTF-8, or refused with the line that is not."""

from pathlib import Path

MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}  # byte-order marks that no UTF-8 file begins with
NEWLINE = b"\n"
CODE_PAGE = "cp1252"  # what Windows writes in western Europe and America, and what its text most often turns out to be


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, its lines ended by a newline alone, without the byte-order marks of its lines.

        text = read_text(Path("notes.txt"))

    A mark may begin any line, since files that begin with one are also put together.

    Raises:
        ValueError: the file is not in UTF-8: names the file and the line, and says how to convert it.
    """
    data = path.read_bytes()
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            raise ValueError(f"{path} is in {encoding}, not in UTF-8. {_how_to_convert(path, encoding)}")
    if b"\0" in data:
        place = data.index(b"\0")
        raise ValueError(
            f"{path}, line {data.count(NEWLINE, 0, place) + 1}: a NUL character is no text; such files are most often "
            f"in UTF-16 without a mark. {_how_to_convert(path, 'UTF-16LE' if place % 2 else 'UTF-16BE')}"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(_not_utf8(path, data, error.start)) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.removeprefix("\ufeff").replace("\n\ufeff", "\n")


def _not_utf8(path: Path, data: bytes, place: int) -> str:
    line = data.count(NEWLINE, 0, place) + 1
    start, end = data.rfind(NEWLINE, 0, place) + 1, data.find(NEWLINE, place)
    read = data[start : len(data) if end < 0 else end].decode(CODE_PAGE, errors="replace").strip()
    around = read if len(read) <= 60 else f"{read[:60]}…"
    return (
        f"{path}, line {line}: the byte 0x{data[place]:02x} is not UTF-8. In the Windows code page {CODE_PAGE} the "
        f"line reads {around!r}. {_how_to_convert(path, CODE_PAGE.upper())}"
    )


def _how_to_convert(path: Path, encoding: str) -> str:
    return f"Save it as UTF-8: iconv -f {encoding} -t UTF-8 '{path.name}' > 'utf8-{path.name}'"
