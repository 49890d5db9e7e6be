"""One side of a comparison, in a process of its own that stays alive, so that measurements alternate."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

MARK = "RESULT "


class Worker:
    """A script that answers requests one by one, each a JSON object in a line; its first answer tells its versions.

    >>> worker = Worker(__file__, sys.executable, ["--worker", "ours"])
    >>> worker.ask(task="piqa")

    Args:
        sources: the folder whose `labutils` it imports; None takes this one.
    """

    def __init__(self, script: str, python: str, options: Sequence[str], sources: Path | None = None):
        own = Path(__file__).resolve().parent.parent
        environment = {
            **os.environ, "PYTHONPATH": str(sources or own), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [python, script, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=environment,
        )  # fmt: skip
        self.about = self._answer()

    def ask(self, **request: object) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise RuntimeError(f"The worker {self.process.args} has ended with code {self.process.wait()}.")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)


def answer(found: dict) -> None:
    """Send an answer from the worker's side."""
    print(MARK + json.dumps(found), flush=True)
