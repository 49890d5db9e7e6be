"""Random input in bulk, and what may come of it. FUZZ_EXAMPLES=5000 makes a longer trial of it, newly drawn."""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings

import labutils

PACKAGE = str(Path(labutils.__file__).parent)
ASKED = os.environ.get("FUZZ_EXAMPLES")


def fuzz(examples: int) -> Callable:
    """Run a test on so many examples, the same ones at every run, each within ten seconds."""
    return settings(
        max_examples=int(ASKED or examples), derandomize=ASKED is None, deadline=timedelta(seconds=10), database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@contextmanager
def only_our_errors() -> Iterator[None]:
    """Input may be refused, by an error that the package raises itself: no other error, and none from below it."""
    try:
        yield
    except (ValueError, LookupError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1].filename
        assert type(error) in (ValueError, LookupError) and place.startswith(PACKAGE), repr(error)
        assert str(error)
