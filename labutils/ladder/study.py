"""The study: every rung trained, then pruned in the ways that the claims compare, as tidy rows."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from joblib import delayed

from labutils.core import paths
from labutils.core.progress import progress
from labutils.core.provenance import hash_weights
from labutils.core.separate_tasks import separate_tasks
from labutils.lab_models.loop import find_spec, train_lab_model
from labutils.ladder.rungs import Rung, shipped_folder
from labutils.models.loading import load_model
from labutils.runner.finished_runs import FinishedRuns
from labutils.sweeps.losses import SweepSizes, sweep

FORMAT = 1  # raise it when the same rung comes to give other rows
ALLOCATION = "owl"  # the rule that C01 to C03 were to be judged on before any run
ARMS = tuple(f"{score}/{rule}" for score in ("ria", "sparsegpt") for rule in ("uniform", ALLOCATION))
ARMS += ("magnitude/uniform", "wanda/uniform")
LOSS_COLUMNS = ("model", "arm", "sparsity", "draw", "item", "loss")


class LadderRows(NamedTuple):
    """What the study found: `runs` has a row per rung, `losses` one per rung, arm, sparsity, draw and item."""

    runs: pd.DataFrame
    losses: pd.DataFrame


def run_ladder(
    rungs: Sequence[Rung], text: str, *, sparsities: Sequence[float], n_draws: int, sizes: SweepSizes,
    tokens: int | None = None, folder: Path | None = None, n_jobs: int | None = None,
) -> LadderRows:  # fmt: skip
    """Train the rungs that are not there, prune each in every way, and read the loss of every item.

    >>> run_ladder(read_rungs(["lab-llama@0-2"]), "lab:encyclopedic", sparsities=[0.3, 0.7], n_draws=2,
    ...     sizes=SweepSizes(n_items=32), folder=Path("results/ladder"))

    Args:
        text: what is calibrated and evaluated on, as for `sweep`.
        tokens: of training, of the rungs that are trained; None takes the recipe's.
        folder: where models in training and finished rungs are kept; a study that finds them there goes on from them.
            None keeps nothing.
        n_jobs: parallel processes; None leaves it to `joblib.parallel_config`.

    Returns:
        `runs`: ``model`` ("lab-llama@3"), ``recipe, seed, shipped, architecture, parameters, blocks,
        training_tokens, training_seconds, seconds`` (of the sweep) and ``weights_sha256``; a shipped model has the seed
        it was trained from. `losses`: ``model, arm, sparsity, draw, item,
        loss``, the dense model being the arm "dense" with sparsity 0 and draw −1.

    Raises:
        ValueError, LookupError: those of `train_lab_model` and `sweep`.
    """
    parallel = separate_tasks(n_jobs)
    with tempfile.TemporaryDirectory() as temporary:
        place = paths.expand(folder or temporary)
        asked = {"sparsities": list(sparsities), "n_draws": n_draws, "sizes": sizes}
        run = parallel(delayed(_climb)(rung, text, asked, tokens, place) for rung in rungs)
        found = list(progress(run, total=len(rungs), description="ladder", unit="rung"))
    runs, losses = zip(*found, strict=True)
    return LadderRows(pd.DataFrame(runs), pd.concat(losses, ignore_index=True))


def _climb(
    rung: Rung, text: str, asked: dict[str, Any], tokens: int | None, folder: Path
) -> tuple[dict[str, Any], pd.DataFrame]:
    """One rung's row of `runs`, and its losses."""
    home = train_rung(rung, tokens=tokens, folder=folder / "models")
    model, tokenizer = load_model(str(home), dtype="float32")
    finished = FinishedRuns(folder, FORMAT)
    key = {"model": hash_weights(model), "text": text, "arms": ARMS, **asked, "sizes": vars(asked["sizes"])}
    if not finished.has_frames(key):
        rows = sweep(str(home), [text], arms=ARMS, loaded=(model, tokenizer), **asked)
        seconds = rows.drop_duplicates(["arm", "sparsity", "draw"])["seconds"].sum()
        losses = rows.assign(model=rung.name)[list(LOSS_COLUMNS)]
        finished.write_frames(key, {"losses": losses, "times": pd.DataFrame({"seconds": [float(seconds)]})})
    kept = finished.read_frames(key)
    training = json.loads((home / "training.json").read_text(encoding="utf-8"))
    options = training["options"]
    about = {
        "model": rung.name,
        "recipe": rung.recipe,
        "seed": options["seed"],
        "shipped": rung.seed is None,
        "architecture": model.config.model_type,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "blocks": model.config.num_hidden_layers,
        "training_tokens": options["tokens"],
        "training_seconds": training["seconds"],
        "seconds": kept["times"]["seconds"].iloc[0],
        "weights_sha256": key["model"],
    }
    return about, kept["losses"]


def train_rung(rung: Rung, *, folder: Path, tokens: int | None = None) -> Path:
    """The folder of a rung's model, trained if it is not there, from the checkpoint of an earlier try if there is one.

    >>> train_rung(Rung("lab-opt", 2), folder=Path("results/ladder/models"))

    A shipped model is where it comes with the collection, and is not trained.
    """
    if rung.seed is None:
        return shipped_folder(rung.recipe)
    home = folder / rung.name
    if not (home / "training.json").exists():
        train_lab_model(find_spec(rung.recipe), tokens=tokens, seed=rung.seed, out=home, resume=True)
    return home
