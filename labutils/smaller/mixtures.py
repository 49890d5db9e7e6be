"""Mixtures of experts: experts first and weights second, against weights alone, at equal sparsity (C47).

Sparsity is the share of the weights of the blocks' matrices (attention and experts, without routers) that are gone or
zero. Where experts that hold a share S₁ of these weights go, the other weights lose S₂ of themselves, with
(1 − S) = (1 − S₁)(1 − S₂), so that every arm keeps equally many weights.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
from torch import Tensor
from transformers import PreTrainedModel

from labutils.core.options import suggest
from labutils.core.progress import progress
from labutils.core.provenance import hash_tensors
from labutils.data.corpora import load_tokens
from labutils.data.sources import split_pair
from labutils.evaluation.losses import TEXT_UNIT, sequence_losses
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.pruning.pipeline import prune
from labutils.smaller.keeping import KeptRows
from labutils.smaller.study import Loaded
from labutils.stats.pairing import paired_differences
from labutils.structured.anatomy import read_anatomies
from labutils.structured.expert_clusters import cluster_experts
from labutils.structured.experts import drop_experts
from labutils.structured.surgery import carve

CODE = ("labutils.smaller.mixtures", "labutils.structured.expert_clusters")
WEIGHTS_ALONE = "weights alone"
Smaller = Callable[[PreTrainedModel, Tensor, int], PreTrainedModel]


def _by_score(method: str) -> Smaller:
    return lambda model, tokens, n: drop_experts(model, tokens, n_experts=n, method=method).model


def _by_clusters(model: PreTrainedModel, tokens: Tensor, n_experts: int) -> PreTrainedModel:
    """STUN's own choice, which reads no text."""
    return carve(model, cluster_experts(model, n_experts=n_experts))


CHOICES: dict[str, Smaller] = {
    "router clusters": _by_clusters,
    "REAP": _by_score("reap"),
    "mean norm": _by_score("mean-norm"),
}


def count_experts(model: PreTrainedModel) -> int:
    """How many experts each mixture of a model has; 0 of a model without.

    >>> count_experts(lab.load_model("lab-mixtral")[0])
    8
    """
    return next((anatomy.experts.count for anatomy in read_anatomies(model) if anatomy.experts), 0)


def rest_of_sparsity(sparsity: float, gone: float) -> float:
    """S₂ with (1 − S) = (1 − S₁)(1 − S₂): what the weights that are left must lose of themselves.

    >>> rest_of_sparsity(0.5, 0.2)
    0.375

    Raises:
        ValueError: more is gone than the sparsity asks for.
    """
    if gone > sparsity:
        raise ValueError(
            f"sparsity={sparsity}: the experts that go hold {gone:.3f} of the weights already; ask for more, or drop "
            "fewer experts."
        )
    return 1 - (1 - sparsity) / (1 - gone)


def arm_name(choice: str, n_experts: int) -> str:
    """Of the arm that drops so many experts by a choice and then weights.

    >>> arm_name("REAP", 2)
    'REAP, 2 gone'
    """
    return f"{choice}, {n_experts} gone"


def sweep_mixture(
    name: str, loaded: Loaded, text: str, *, choices: Sequence[str], n_experts: Sequence[int],
    sparsities: Sequence[float], method: str = "wanda", n_draws: int, n_calibration: int, n_items: int, seq_len: int,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """The losses of a mixture with experts dropped and weights pruned, and with weights pruned alone.

    >>> sweep_mixture("lab-mixtral", lab.load_model("lab-mixtral"), "lab:review", choices=["REAP"], n_experts=[1],
    ...               sparsities=[0.5], n_draws=2, n_calibration=16, n_items=32, seq_len=64)

    Under the runner, what is finished is kept in the run's folder.

    Args:
        text: what is calibrated and evaluated on, "a" or "a → b"; draw d takes the calibration windows of seed d.
        choices: "router clusters" (STUN), "REAP", "mean norm".
        n_experts: how many go from every mixture, each number an arm of its own.
        method: of the weights, as for `prune`.

    Returns:
        one row per arm, sparsity, draw and item: model, calibration, evaluation, arm, method, sparsity, draw, item,
        loss, unit, reached (the share of weights that are gone or zero); the dense model's rows have the arm "dense".

    A model without experts has the dense rows alone.

    Raises:
        LookupError: an unknown choice.
        ValueError: a sparsity below the share that the experts hold, or too many experts.
    """
    model, tokenizer = loaded
    for choice in choices:
        if choice not in CHOICES:
            raise LookupError(f"no choice {choice!r}.{suggest(choice, CHOICES)} Known: {', '.join(CHOICES)}.")
    kept, (calibration, source) = KeptRows(model, tokenizer, code=CODE), split_pair(text)
    windows = load_tokens(source, tokenizer, n_sequences=n_items, seq_len=seq_len, seed=seed, split="test")
    about = {"model": name, "calibration": calibration, "evaluation": source, "unit": TEXT_UNIT}
    frames = [_rows(model, model, windows, arm="dense", sparsity=0.0).assign(draw=0)]
    arms = [(WEIGHTS_ALONE, None, 0), *((arm_name(own, n), own, n) for own, n in itertools.product(choices, n_experts))]
    for draw in progress(range(n_draws if count_experts(model) else 0), description=f"experts {name}", unit="draw"):
        tokens = load_tokens(calibration, tokenizer, n_sequences=n_calibration, seq_len=seq_len, seed=draw)
        read = {"calibration": hash_tensors({"ids": tokens}), "evaluation": hash_tensors({"ids": windows})}
        for arm, choice, n in arms:
            key = {"mixture": arm, "sparsities": list(sparsities), "method": method, **read}
            compute = partial(_one_arm, model, tokens, windows, choice, n, list(sparsities), method, arm)
            frames.append(kept.frame(key, compute).assign(draw=draw))
    return pd.concat(frames, ignore_index=True).assign(**about)


def experts_first_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """What each choice of experts gains over weights alone, item by item; positive where experts first is better.

    >>> lab.sweeps.effects_over_models(experts_first_gains(rows).query("choice == 'REAP'")).overall

    Returns:
        a frame of contrasts (model, calibration, evaluation, sparsity, draw, item, value) with the contrast "1 expert
        of each mixture gone" and the choice; without rows where no mixture was swept.
    """
    found = [pd.DataFrame(columns=["model", "value", "contrast", "choice", "sparsity", "draw", "item"])]
    for arm in [name for name in dict.fromkeys(rows["arm"]) if name not in ("dense", WEIGHTS_ALONE)]:
        choice, _, gone = arm.rpartition(", ")
        number = int(gone.split()[0])
        told = f"{number} expert{'s' * (number > 1)} of each mixture gone"
        pairs = paired_differences(rows, {"arm": WEIGHTS_ALONE}, {"arm": arm})
        found.append(pairs.assign(contrast=told, choice=choice))
    return pd.concat(found[1:], ignore_index=True) if len(found) > 1 else found[0]


def _one_arm(
    model: PreTrainedModel, tokens: Tensor, windows: Tensor, choice: str | None, n_experts: int,
    sparsities: Sequence[float], method: str, arm: str,
) -> pd.DataFrame:  # fmt: skip
    """The rows of one arm at all sparsities: its experts are chosen once."""
    start = model if choice is None else CHOICES[choice](model, tokens, n_experts)
    gone = 1 - _count_weights(start) / _count_weights(model)
    frames = []
    for sparsity in sparsities:
        pruned = copy.deepcopy(start)
        prune(pruned, tokens, method=method, sparsity=rest_of_sparsity(sparsity, gone))
        frames.append(_rows(model, pruned, windows, arm=arm, sparsity=sparsity))
    return pd.concat(frames, ignore_index=True)


def _rows(
    dense: PreTrainedModel, model: PreTrainedModel, windows: Tensor, *, arm: str, sparsity: float
) -> pd.DataFrame:
    losses = sequence_losses(model, windows).double().numpy()
    reached = 1 - _count_weights(model, alive=True) / _count_weights(dense)
    return pd.DataFrame({"item": range(len(losses)), "loss": losses}).assign(
        arm=arm, method=arm, sparsity=sparsity, reached=reached
    )


def _count_weights(model: PreTrainedModel, *, alive: bool = False) -> int:
    """Weights of all matrices of the blocks, or those of them that are not zero."""
    matrices = [weight_matrix(layer) for block in find_blocks(model)[1] for layer in prunable_layers(block).values()]
    return sum(int(own.count_nonzero()) if alive else own.numel() for own in matrices)
