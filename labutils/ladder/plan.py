"""The study of notebook 15 as a plan: which rungs, pruned and read on what."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from labutils.core import paths
from labutils.core.files import hash_json
from labutils.core.provenance import hash_weights
from labutils.ladder.rungs import read_rungs
from labutils.ladder.study import LadderRows, run_ladder
from labutils.models.loading import load_model
from labutils.runner.long_study import LongStudy
from labutils.runner.stored_rows import Tables
from labutils.sweeps.losses import SweepSizes

NAMES = ("model", "arm")


@dataclass(frozen=True)
class LadderPlan(LongStudy):
    """All that the rows of a study depend on.

        plan = lab.ladder.LadderPlan.of(globals())
        rows = plan.load("data:ladder_runs")

    `models`: lines as for `read_rungs`. `text`, `sparsities`, `n_draws`: as for `run_ladder`, and `tokens`. `sizes`: of
    the sweep.
    """

    room: ClassVar[str] = "ladder"
    notebook: ClassVar[str] = "15_seeds_and_sizes"

    models: list[str]
    text: str
    sparsities: list[float]
    n_draws: int = 3
    tokens: int | None = None
    sizes: SweepSizes = SweepSizes()

    def carry_out(self, *, folder: Path | str | None = None, n_jobs: int | None = None) -> LadderRows:
        """Train and prune all rungs; see `run_ladder` for the rows, `folder` and `n_jobs`."""
        return run_ladder(
            read_rungs(self.models), self.text, sparsities=self.sparsities, n_draws=self.n_draws, sizes=self.sizes,
            tokens=self.tokens, folder=None if folder is None else paths.expand(folder), n_jobs=n_jobs,
        )  # fmt: skip

    def count_runs(self) -> int:
        """A run for every rung."""
        return len(read_rungs(self.models))

    def hash_model(self) -> str:
        """SHA-256 over the weights of those rungs that come with the collection; the recipe makes the others."""
        shipped = [rung.recipe for rung in read_rungs(self.models) if rung.seed is None]
        return hash_json({name: hash_weights(load_model(name, device="cpu")[0]) for name in shipped})

    def to_tables(self, rows: LadderRows) -> Tables:
        """Runs, and losses in the smallest types that hold them."""
        slim = dict.fromkeys(NAMES, "category") | {"draw": "int8", "item": "int16"}
        return {"runs": rows.runs, "losses": rows.losses.astype(slim)}

    def from_tables(self, tables: Tables) -> LadderRows:
        """Runs and losses in the types that `run_ladder` gives them."""
        losses = tables["losses"]
        plain = {name: losses[name].cat.categories.dtype for name in NAMES} | {"draw": "int64", "item": "int64"}
        return LadderRows(tables["runs"], losses.astype(plain))

    def count_seconds(self, rows: LadderRows) -> float:
        """Training and prunings."""
        return float(rows.runs["training_seconds"].sum() + rows.runs["seconds"].sum())
