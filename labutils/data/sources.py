"""Source strings: how a text or task is named, taken apart, and shortened for a reader."""

from collections.abc import Sequence
from dataclasses import dataclass

from labutils.core.options import suggest
from labutils.core.parts import split_part

SCHEMES = ("lab", "file", "hub")


@dataclass(frozen=True)
class Source:
    """A parsed source string ``<scheme>:<name>[#<part>]``; `part` is empty when none is given."""

    scheme: str
    name: str
    part: str = ""


def parse_source(source: str) -> Source:
    """Take ``<scheme>:<name>[#<part>]`` apart; an existing file or folder whose own name holds a `#` wins.

    ValueError when the scheme is not known (the nearest is named), nothing is named, or there is no such part.
    """
    scheme, colon, rest = source.partition(":")
    if not colon or scheme not in SCHEMES:
        known = [f"{scheme}:" for scheme in SCHEMES]
        raise ValueError(f"source {source!r} must start with {', '.join(known)}.{suggest(scheme + colon, known)}")
    name, part = split_part(rest)
    if not name:
        raise ValueError(f"source {source!r} names nothing after '{scheme}:'; give a register, a path or a data set")
    if (scheme == "file" and part not in ("", "all")) or (scheme == "lab" and part):
        file = f"; there is no file {rest!r}" if scheme == "file" else ""
        raise ValueError(f"source {source!r}: '#{part}' is not known{file}; files take '#all', data sets '#<split>'")
    return Source(scheme, name, part)


def short_source(source: str) -> str:
    """The part of a source that tells it from others: `lab:review` → review, a file's name without folders.

    >>> short_source("file:/texts/reviews.txt")  # "reviews.txt"

    Of a domain's text with general text beside it, both: `lab:biomedical & lab:review` → biomedical & review.
    """
    if " & " in source:
        return " & ".join(map(short_source, source.split(" & ")))
    if source.startswith("file:"):
        return source.removesuffix("#all").rsplit("/", 1)[-1].removeprefix("file:")
    tail = source.removeprefix("lab:").partition("#")[0]
    return tail.rsplit("/", 1)[-1] if source.startswith("hub:") else tail


def split_pair(text: str) -> tuple[str, str]:
    """Calibration and evaluation source of a text "a → b"; a single source serves as both.

    >>> split_pair("lab:review → lab:narrative")
    ('lab:review', 'lab:narrative')
    """
    calibration, arrow, evaluation = (part.strip() for part in text.partition("→"))
    return calibration, evaluation if arrow else calibration


def sources_of(texts: Sequence[str]) -> list[str]:
    """All sources of some texts, each once; a text may be a pair "calibration → evaluation".

    >>> sources_of(["lab:review", "lab:review → lab:narrative"])
    ['lab:review', 'lab:narrative']
    """
    return list(dict.fromkeys(source for pair in texts for source in split_pair(pair)))


def language_of(source: str) -> str:
    """The language of a controlled-language source; real text is "as given"."""
    if not source.startswith("lab:"):
        return "as given"
    parts = source.removeprefix("lab:").split("/")
    return parts[1] if len(parts) > 1 else "english"


def pair_name(calibration: str, evaluation: str) -> str:
    """A pair of sources without folders: "encyclopedic → review", or one name where they are the same."""
    names = list(dict.fromkeys(short_source(source) for source in (calibration, evaluation)))
    return " → ".join(names)
