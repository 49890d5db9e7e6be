"""Rows of a sweep whose losses are known by construction."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

ARMS = ("ria/uniform", "ria/owl", "sparsegpt/uniform", "sparsegpt/owl")
GRID = (0.2, 0.4, 0.6, 0.8)


def made_sweep(
    loss: Callable[[str, str, float], float],
    *,
    models: Sequence[str] = ("m0",),
    texts: Sequence[str] = ("a",),
    arms: Sequence[str] = ARMS,
    grid: Sequence[float] = GRID,
    noise: float = 0.01,
    dense: float = 2.0,
    n_items: int = 12,
) -> pd.DataFrame:
    """Every item's loss is `dense` + loss(model, arm, sparsity) + noise of its own and noise that all arms share."""
    generator, rows = np.random.default_rng(0), []
    for model, text, draw, item in itertools.product(models, texts, range(3), range(n_items)):
        about = {"model": model, "calibration": text, "evaluation": text, "item": item}
        shared = generator.normal()
        if draw == 0:
            rows.append(about | {"arm": "dense", "sparsity": 0.0, "draw": -1, "loss": dense})
        for arm, sparsity in itertools.product(arms, grid):
            value = dense + loss(model, arm, sparsity) + shared + noise * generator.normal()
            rows.append(about | {"arm": arm, "sparsity": sparsity, "draw": draw, "loss": value})
    return pd.DataFrame(rows)


def paper(model: str, arm: str, s: float) -> float:
    """What OptiPrune's paper says: a rule and the Hessian cost at low sparsity and gain at high."""
    gain = s - 0.5
    return 0.1 - gain * arm.endswith("owl") - gain * arm.startswith("sparsegpt")
