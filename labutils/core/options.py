"""Options that a function takes beyond its named arguments, kept in a dataclass that checks their values."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import TypeVar

Options = TypeVar("Options")


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
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise ValueError(f"{of} has no option {name!r}.{hint} Options: {', '.join(known)}.")
    return kind(**given)
