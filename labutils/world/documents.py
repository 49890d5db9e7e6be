"""Documents of every register and language."""

from collections.abc import Callable, Iterator
from itertools import islice

from labutils.core.options import suggest
from labutils.world import registers
from labutils.world.biomedical import Knobs, biomedical
from labutils.world.grammar import Clause, english, sentence
from labutils.world.languages import LANGUAGES, word_sentence
from labutils.world.seeding import Draws, belongs, check_split

_WRITERS: dict[str, Callable[[Draws], list[Clause]]] = {
    "encyclopedic": registers.encyclopedic,
    "narrative": registers.narrative,
    "review": registers.review,
    "biomedical": biomedical,
}
REGISTERS = tuple(_WRITERS)


def write_documents(
    register: str,
    n: int,
    *,
    language: str = "english",
    seed: int = 0,
    split: str = "train",
    knobs: Knobs | None = None,
) -> list[str]:
    """Write `n` documents, one string each; see `stream_documents`. ValueError when `n` is negative.

    >>> write_documents("biomedical", 10, language="tarvic", knobs=Knobs(term_density=0.9))
    """
    if n < 0:
        raise ValueError(f"n={n} is negative; ask for 0 documents or more.")
    return list(islice(stream_documents(register, language=language, seed=seed, split=split, knobs=knobs), n))


def stream_documents(
    register: str, *, language: str = "english", seed: int = 0, split: str = "train", knobs: Knobs | None = None
) -> Iterator[str]:
    """Documents without end.

    Document i of one language translates document i of another with the same register, seed, split and knobs. No
    document can be in both splits: the English wording decides to which one it belongs.

    Raises:
        LookupError: an unknown register or language.
        ValueError: an unknown split, or knobs for a register without them.
    """
    check_name("register", register, REGISTERS)
    check_name("language", language, LANGUAGES)
    check_split(split)
    if knobs is not None and register != "biomedical":
        raise ValueError(f"knobs belong to the register 'biomedical', not to {register!r}; leave them out.")
    return _stream(register, language, seed, split, knobs)


def _stream(register: str, language: str, seed: int, split: str, knobs: Knobs | None) -> Iterator[str]:
    for document, meanings in draw_meanings(register, seed, split, knobs):
        yield document if language == "english" else " ".join(word_sentence(clause, language) for clause in meanings)


def draw_meanings(
    register: str, seed: int, split: str, knobs: Knobs | None = None
) -> Iterator[tuple[str, list[Clause]]]:
    """English documents without end, each with the clauses that it words; the arguments are not checked."""
    draws = Draws(seed, "documents", register, split)
    write = _WRITERS[register] if knobs is None else lambda stream: biomedical(stream, knobs)
    while True:
        meanings = write(draws)
        document = " ".join(sentence(english(clause)) for clause in meanings)
        if belongs(document, split):
            yield document, meanings


def check_name(kind: str, given: str, allowed: tuple[str, ...]) -> None:
    """Raise LookupError, naming the nearest known name, unless `given` is allowed."""
    if given not in allowed:
        raise LookupError(f"unknown {kind} {given!r}; known are {', '.join(allowed)}.{suggest(given, allowed)}")
