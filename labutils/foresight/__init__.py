"""What a whole run of notebooks will take, told before its first notebook starts: time, memory and disk.

`loss_notebooks` and the files named after other notebooks say, from a notebook's parameters and what it has `declared`
of its arms, which prunings, trainings and readings it makes; `costing` turns them into seconds and bytes of a loaded
model, by the forecasts of `pruning` and by short passes and steps that are timed (`meter`, `steps`, `making`);
`foreseeing` does so for a run, whose notebooks share prunings as `sweeps` keeps them; `outlooks` writes it down, and
`command` asks for it in a process of its own. When a notebook changes what it prunes or reads, its function here
changes with it: a test runs the notebooks and compares what the run has kept with what was foreseen.

Imports `core`, `models`, `runner`, `data`, `world`, `pruning`, `training`, `evaluation`, `recovery`, `sweeps`,
`yardsticks` and `smaller`. Nothing but the command line imports it.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__, {"foreseeing": ["foresee"], "outlooks": ["Outlook"], "plans": ["plan_work"], "command": ["tell_run"]}
)
