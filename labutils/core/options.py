"""Names that a user may mistype, and options that a function takes beyond its named arguments."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

Options = TypeVar("Options")


def suggest(given: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: " Did you mean 'ria'?", or nothing where no known name is near.

    >>> suggest("rai", ["magnitude", "wanda", "ria"])
    " Did you mean 'ria'?"
    """
    nearest = difflib.get_close_matches(given, [str(name) for name in known], n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""


def read_options(kind: type[Options], given: Mapping[str, object], *, of: str) -> Options:
    """The options of a dataclass, with its defaults for what is not given.

    Args:
        of: what has these options, for the message.

    Raises:
        ValueError: an unknown option (the nearest known one is named), or a value that the dataclass refuses.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    for name in given:
        if name not in known:
            raise ValueError(f"{of} has no option {name!r}.{suggest(name, known)} Options: {', '.join(known)}.")
    return kind(**given)
