"""What a check attempts and requires: a clear refusal is told from a fault, and both in one line."""

import re
import traceback
from collections.abc import Callable
from pathlib import Path

from labutils.core import paths


class Wrong(Exception):
    """A check failed; the message says which, and by how much."""


def attempt(what: str, action: Callable[[], object]) -> object:
    """The result, or the message of a clear refusal: one of our own, of a kind that is documented.

    Raises:
        Wrong: any other exception, with the place where it was raised.
    """
    try:
        return action()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        ours = Path(frame.filename).is_relative_to(paths.PACKAGE)
        if ours and type(error) in (ValueError, LookupError):
            return one_line(error)
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        raise Wrong(f"{what}: {type(error).__name__} at {place}: {error}") from error


def attempt_only(what: str, action: Callable[[], object]) -> object:
    """The result; a refusal is wrong here."""
    result = attempt(what, action)
    if isinstance(result, str):
        raise Wrong(f"{what} refused: {result}")
    return result


def require(condition: bool, message: str) -> None:
    if not condition:
        raise Wrong(message)


def one_line(text: object) -> str:
    """Without line breaks, paths of this run and addresses, so that the same fault reads the same."""
    line = re.sub(r"\s+", " ", str(text)).strip()
    return re.sub(r"/\S*/(\S+)", r"…/\1", line)[:400]
