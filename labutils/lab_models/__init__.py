"""The lab models: small language models trained on the controlled language by one command, with cards that tell all.

`python -m labutils train lab-llama` trains, measures and writes `data/models/lab-llama`; `--resume` goes on after a
kill.

Imports `core`, `world`, `models`, `data`, `pruning`, `training`, `evaluation` and `recovery`. A new lab model
is an entry of `specs`; whether it is fit for use is judged in `fitness`, and no pruning method may enter its design.
"""

from labutils.lab_models.command import add_arguments, main
from labutils.lab_models.large_or_small import compare_large_and_small
from labutils.lab_models.loop import train_lab_model
from labutils.lab_models.specs import SPECS, ModelSpec

__all__ = ["SPECS", "ModelSpec", "add_arguments", "compare_large_and_small", "main", "train_lab_model"]
