"""Carry out the study of notebook 08 and store its rows.

    python -m labutils.distillation --jobs 16

The plan is what the notebook declares, changed by a profile and by `-p name=value`; or it is read from a JSON file, as
every stored study has one beside its rows (`--plan data/distillation_runs/origin.json`). Finished runs are kept in the
folder named by `--runs`: the same command goes on where it was stopped.
"""

import sys
from collections.abc import Sequence

from labutils.distillation.plan import DistillPlan
from labutils.runner.study_command import run_study


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit status, 2 for what was refused."""
    return run_study(words, DistillPlan, description=__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
