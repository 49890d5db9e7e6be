"""Rows of readings with known answers."""

import numpy as np
import pandas as pd


def question_rows(right: dict[str, dict[str, list[float]]], *, model: str = "made", draws: int = 2) -> pd.DataFrame:
    """Rows of questions: arm → yardstick → right or wrong per question; the same in every draw."""
    parts = []
    for arm, columns in right.items():
        n = len(next(iter(columns.values())))
        for draw in [-1] if arm == "dense" else range(draws):
            frame = pd.DataFrame({"item": range(n), "task": "t", "chance": 0.25, "prediction": 0, "rank": 1, **columns})
            parts.append(frame.assign(model=model, arm=arm, draw=draw, log_likelihood=-0.1))
    rows = pd.concat(parts, ignore_index=True)
    for column in ("choice", "first_token", "answer", "exact", "choice_in_context", "answer_in_context"):
        rows[column] = rows[column].fillna(1.0) if column in rows else 1.0
    return rows


def alternating(n: int, every: int) -> list[float]:
    """Wrong at every so many."""
    return [0.0 if place % every == 0 else 1.0 for place in range(n)]


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n)
