"""Scores that mix a domain's text with general text, beside the same score of either text alone.

What such a score reads of either text alone is its own formula without the other text: D-Pruner's general importance is
the mask of SparseGPT on general text, and its importance for the domain is itself without general importance; GAPrune's
is its formula with one text's Fisher information. So nothing but the mixing differs.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.sweeps.contrasts import contrast
from labutils.sweeps.losses import DENSE, SweepSizes, sweep

BOTH, DOMAIN, GENERAL = "both", "domain alone", "general alone"


class Mixture(NamedTuple):
    """A score of two texts, and what it comes to with one.

    Attributes:
        alone: the options with which it reads the domain's text alone.
        general: the method that general text alone decides, and its options.
    """

    alone: Mapping[str, object]
    general: tuple[str, Mapping[str, object]]


ONE_TEXT = {"general_weight": 0.0, "alignment_weight": 0.0}
MIXTURES = {
    "d-pruner": Mixture({"general_strength": 0.0}, ("sparsegpt-mask", {})),
    "gaprune": Mixture(ONE_TEXT, ("gaprune", ONE_TEXT)),
}


def mixture_sweep(
    source: str,
    domain: str,
    general: str,
    *,
    method: str,
    sparsities: Sequence[float],
    n_draws: int,
    sizes: SweepSizes,
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    **options: object,
) -> pd.DataFrame:
    """Prune one model by a score of two texts and by either text alone, and measure the loss on both texts.

    >>> rows = mixture_sweep("lab-llama", "lab:biomedical", "lab:encyclopedic", method="d-pruner", sparsities=[0.5],
    ...                      n_draws=2, sizes=SweepSizes(), loaded=lab.load_model("lab-llama"))

    Args:
        domain, general: text sources; calibration takes their train parts, evaluation their test parts.
        method: "d-pruner" or "gaprune".
        **options: of the method, but for what takes one text away, and `batch_size`.

    Returns:
        as `sweep`, with arms named "<method>, both", "<method>, domain alone", "<method>, general alone" and one name
        of the calibration, so that they are compared item by item.

    Raises:
        LookupError: a method that mixes no texts.
    """
    if method not in MIXTURES:
        raise LookupError(f"{method!r} mixes no two texts; those that do: {', '.join(MIXTURES)}.")
    mixture, both = MIXTURES[method], f"{domain} & {general}"
    other, without = mixture.general
    kept = options if other == method else {name: value for name, value in options.items() if name == "batch_size"}
    runs = {
        BOTH: (both, method, options),
        DOMAIN: (domain, method, {**options, **mixture.alone}),
        GENERAL: (general, other, {**kept, **without}),
    }
    frames = []
    for reads, (calibration, own, given) in runs.items():
        texts = [f"{calibration} → {domain}", f"{calibration} → {general}"]
        fixed = {"sparsities": sparsities, "n_draws": n_draws, "sizes": sizes, "loaded": loaded}
        rows = sweep(source, texts, arms=[f"{own}/uniform"], **fixed, **given)
        pruned = rows["arm"] != DENSE["arm"]
        named = rows["arm"].where(~pruned, f"{method}, {reads}")
        frames.append(rows.assign(arm=named, calibration=both)[pruned | (reads == BOTH)])
    return pd.concat(frames, ignore_index=True)


def mixture_gains(rows: pd.DataFrame, method: str, domain: str, general: str) -> pd.DataFrame:
    """What both texts gain: over general text alone on the domain's text, over the domain's alone on general text.

    >>> lowest_over_models(mixture_gains(rows, "d-pruner", "biomedical", "encyclopedic"))

    Args:
        rows: of `mixture_sweep`.
        domain, general: the evaluations, as the rows name them.

    Returns:
        as `contrast`, with one contrast on either text; both have one evaluation's name, since each text has one of
        the two contrasts alone.

    Raises:
        LookupError: rows without one of the two texts.
    """
    found = []
    for evaluation, reads, name in ((domain, GENERAL, "keeps the domain"), (general, DOMAIN, "keeps general text")):
        own = rows[rows["evaluation"] == evaluation]
        if own.empty:
            raise LookupError(f"the rows hold no evaluation {evaluation!r}; they hold {set(rows['evaluation'])}.")
        pair = {f"{method} {name}": (f"{method}, {reads}", f"{method}, {BOTH}")}
        found.append(contrast(own, pair))
    return pd.concat(found, ignore_index=True).assign(evaluation=f"{domain} and {general}")
