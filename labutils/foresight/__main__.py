"""The process that makes a forecast, for `labutils.foresight.command`: studies come in as JSON, outlooks go out.

It is one of its own so that the runner need not load torch, and that the models' memory is free again when it ends.
"""

import dataclasses
import json
import sys
from collections.abc import Iterable

from labutils.foresight.foreseeing import foresee


def main(lines: Iterable[str]) -> None:
    """Read studies, `[[stem, parameters], …]`, and write their outlooks as the last line."""
    studies = [tuple(study) for study in json.loads("".join(lines))]
    print(f"\n{json.dumps([dataclasses.asdict(each) for each in foresee(studies)])}", flush=True)


if __name__ == "__main__":
    main(sys.stdin)
