"""What a whole run of notebooks will take, told before its first notebook starts: time, memory and disk.

`loss_notebooks`, `task_notebook` and `neuron_notebook` say, from a notebook's parameters alone, which prunings and
which readings it makes; `costing` turns them into seconds and bytes of a loaded model, by the forecasts of `pruning`
and by short passes that are timed (`meter`); `foreseeing` does so for a run, whose notebooks share prunings as `sweeps`
keeps them; `outlooks` writes it down, and `command` asks for it in a process of its own. When a notebook changes what
it prunes or reads, its function here changes with it: a test runs the notebooks and compares the prunings that the run
has kept with those that were foreseen.

Imports `core`, `models`, `runner`, `data`, `world`, `pruning`, `evaluation` and `sweeps`. Nothing but the command line
imports it.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__, {"foreseeing": ["foresee"], "outlooks": ["Outlook"], "plans": ["plan_work"], "command": ["tell_run"]}
)
