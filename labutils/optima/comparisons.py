"""Layer errors against losses, and masks of two scores: frames that intervals are made of."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from labutils.optima.layer_errors import ratios_to_best


def dispersion_gain(errors: pd.DataFrame, reference: str, candidate: str) -> pd.DataFrame:
    """How much more unevenly one score's mask is spread over the inputs than another's: log ratio, matrix by matrix.

    >>> dispersion_gain(layer_errors(...), "wanda", "gblm")  # above 0: gblm's kept weights crowd on fewer inputs

    Args:
        errors: rows of `layer_errors` of several draws, with the column model.

    Returns:
        model, draw, item (the matrix), sparsity, contrast and value, as contrasts of arms have them.

    Raises:
        LookupError: a method that the rows lack.
    """
    keys = ["model", "draw", "layer", "sparsity", "pattern"]
    if missing := {reference, candidate} - set(errors["method"]):
        raise LookupError(f"the rows hold no {' and no '.join(sorted(missing))}; they hold {set(errors['method'])}.")
    own = errors[errors["method"].isin([reference, candidate])]
    wide = own.pivot(index=keys, columns="method", values="dispersion").reset_index()
    value = np.log(wide[candidate] / wide[reference])
    found = wide[["model", "draw", "sparsity"]].assign(item=wide["layer"], value=value, contrast=candidate)
    return found[np.isfinite(found["value"])]


def loss_and_error(losses: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """Of every method and sparsity: the loss that pruning adds, and the mean log ratio of its layers' errors.

    >>> loss_and_error(rows, layer_errors(...))

    Args:
        losses: rows of `sweep`; errors: of `layer_errors`, of the same models.

    Returns:
        model, method, pattern, sparsity, added (nats or the loss's unit), ratio (geometric mean over the layers of the
        error over the best known one) and error (geometric mean).
    """
    keys = ["model", "method", "pattern", "sparsity"]
    dense = losses[losses["method"] == "dense"].groupby("model")["loss"].mean()
    added = losses[losses["method"] != "dense"].groupby(keys)["loss"].mean().rename("added").reset_index()
    added["added"] -= added["model"].map(dense)
    logs = ratios_to_best(errors)
    logs = logs.assign(ratio=np.log(logs["ratio"]), error=np.log(logs["error"].clip(lower=1e-12)))
    means = np.exp(logs.groupby(keys)[["ratio", "error"]].mean()).reset_index()
    return added.merge(means, on=keys)


def order_agreement(points: pd.DataFrame) -> pd.DataFrame:
    """Whether a better layer makes a better model: Spearman's ρ of error and added loss over methods.

    >>> order_agreement(loss_and_error(rows, errors))

    The unit is the method, at one sparsity of one model.

    Returns:
        model, pattern, sparsity, methods (their number), rho (NaN with fewer than three), best_layer and best_model:
        the method with the lowest error, and the one with the lowest loss.
    """
    found = []
    for key, part in points.groupby(["model", "pattern", "sparsity"], sort=False):
        varied = len(part) > 2 and part["error"].nunique() > 1 and part["added"].nunique() > 1
        rho = float(spearmanr(part["error"], part["added"]).statistic) if varied else float("nan")
        best = {"best_layer": "error", "best_model": "added"}
        names = {name: part.loc[part[column].idxmin(), "method"] for name, column in best.items()}
        found.append({**dict(zip(["model", "pattern", "sparsity"], key, strict=True)), "methods": len(part), "rho": rho}
                     | names)  # fmt: skip
    return pd.DataFrame(found)


def size_table(errors: pd.DataFrame, by: Sequence[str] = ("method", "n_sequences")) -> pd.DataFrame:
    """By the amount of calibration text: geometric means of the errors on it and on held-out text, over the layers.

    >>> size_table(errors)  # rows of `layer_errors` with a column n_sequences

    Returns:
        the columns `by`, tokens_per_input (of the widest layer), error, held_out, and gap = held_out / error.
    """
    logs = errors.assign(**{name: np.log(errors[name].clip(lower=1e-12)) for name in ("error", "held_out")})
    groups = logs.groupby(list(by), sort=False)
    means = np.exp(groups[["error", "held_out"]].mean())
    widest = groups["tokens_per_input"].min()
    return means.assign(tokens_per_input=widest, gap=means["held_out"] / means["error"]).reset_index()


def raised_errors(errors: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """How often one method has a larger layer error than another, and by how much they differ.

    >>> raised_errors(layer_errors(...), [("wanda", "wanda+dsnot"), ("sparsegpt", "rose")])

    Args:
        pairs: of a method and what comes of it; both are in the rows, with the same problems.

    Returns:
        a row per pair: before, after, problems (layers × draws × sparsities), raised (share of them in which the error
        rises by more than a millionth), ratio (geometric mean of the error after over that before) and held_out (the
        same on other text).
    """
    keys, found = ["model", "draw", "layer", "pattern", "sparsity"], []
    wide = {name: errors.pivot(index=keys, columns="method", values=name) for name in ("error", "held_out")}
    for before, after in pairs:
        ratios = {name: (table[after] / table[before]).dropna() for name, table in wide.items()}
        means = {name: float(np.exp(np.log(ratio.clip(lower=1e-12)).mean())) for name, ratio in ratios.items()}
        raised = float((ratios["error"] > 1 + 1e-6).mean())
        found.append({"before": before, "after": after, "problems": len(ratios["error"]), "raised": raised,
                      "ratio": means["error"], "held_out": means["held_out"]})  # fmt: skip
    return pd.DataFrame(found)


def taken_back(dense: float, before: float, after: float) -> float:
    """Of what pruning adds to the loss, the share that a further step takes back, from perplexities.

    >>> round(taken_back(9.75, 23.51, 18.84), 2)
    0.25

    Raises:
        ValueError: perplexities below one, or a pruned model no worse than the dense one.
    """
    if min(dense, before, after) < 1 or before <= dense:
        raise ValueError(f"perplexities {dense}, {before} and {after} of dense, pruned and mended: 1 < dense < pruned")
    return 1 - math.log(after / dense) / math.log(before / dense)
