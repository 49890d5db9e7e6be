"""Carry out the study of notebook 15 and store its rows.

    python -m labutils.ladder --jobs 2

The plan is what the notebook declares, changed by a profile and by `-p name=value`; or it is read from a JSON file, as
every stored study has one beside its rows (`--plan data/ladder_runs/origin.json` does that study once more). Models in
training and finished sweeps are kept in the folder named by `--runs`: the same command goes on where it was stopped.
"""

import sys
from collections.abc import Sequence

from labutils.ladder.plan import LadderPlan
from labutils.runner.study_command import run_study


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit status, 2 for what was refused."""
    return run_study(words, LadderPlan, description=__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
