"""Are the meanings true? What matching finds where the truth is known, by chance, and again on other texts.

Concepts are given as words; a random word set of matched frequency replaces every word of a concept by another that is
about as frequent. Whatever a measure reaches with random sets is what it reaches by chance.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int64
from scipy.stats import spearmanr
from torch import Tensor

from labutils.attribution.activations import WordActivations
from labutils.attribution.matching import concept_neurons, standardise
from labutils.stats.ranks import unit_ranks

NEIGHBOURS = 10  # words, by frequency, of which one is drawn


def recovered_share(
    found: WordActivations, planted: pd.DataFrame, concepts: Mapping[str, Sequence[str]], *, ks: Sequence[int]
) -> pd.DataFrame:
    """Share of the planted neurons that are among the k neurons with the largest mean z over their concept's words.

        recovered_share(found, planted, concepts, ks=[1, 10])

    Args:
        planted: the truth, one row per neuron: ``block, neuron, concept``.

    Returns:
        ``k, recovered`` and ``chance``: the share that k neurons drawn at random would hold, k / neurons.
    """
    n_neurons = sum(means.shape[1] for means in found.means)
    ranks = []
    for concept, part in planted.groupby("concept"):
        order = concept_neurons(found, concepts[concept], n_neurons)
        place = {pair: rank for rank, pair in enumerate(zip(order["block"], order["neuron"], strict=True), start=1)}
        ranks += [place[pair] for pair in zip(part["block"], part["neuron"], strict=True)]
    shares = [float(np.mean(np.array(ranks) <= k)) for k in ks]
    return pd.DataFrame({"k": list(ks), "recovered": shares, "chance": [min(1.0, k / n_neurons) for k in ks]})


def concept_precision(
    found: WordActivations,
    concepts: Mapping[str, Sequence[str]],
    *,
    ks: Sequence[int],
    n_random: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """Precision at k: of the k words with the largest z of a concept's best neuron, the share that are the concept's.

        concept_precision(found, concepts, ks=[1, 5])

    The best neuron is the one with the largest mean z over the concept's words. Random sets choose theirs in the same
    way, so that the advantage of having chosen is in the comparison too. Concepts with fewer than two words among the
    measured ones are left out.

    Returns:
        ``concept, kind`` ("concept" or "random"), ``draw`` (of the random set; 0 for the concept), ``k, precision``.

    Raises:
        ValueError: no concept has two words among the measured ones.
    """
    z = torch.cat([standardise(means) for means in found.means], dim=1)
    generator = np.random.default_rng(seed)
    rows = []
    for concept, words in concepts.items():
        places = found.select(words)
        if len(places) < 2:
            continue
        sets = [("concept", 0, places)]
        sets += [("random", draw, random_words(found.counts, places, generator)) for draw in range(n_random)]
        for kind, draw, members in sets:
            for k, precision in zip(ks, _precisions(z, members, ks), strict=True):
                rows.append({"concept": concept, "kind": kind, "draw": draw, "k": k, "precision": precision})
    if not rows:
        raise ValueError(
            f"none of the {len(concepts)} concepts has two words among the {len(found.words)} measured: give more "
            "texts, a lower min_count, or concepts whose words these texts hold"
        )
    return pd.DataFrame(rows, columns=["concept", "kind", "draw", "k", "precision"])


def _precisions(z: Float64[Tensor, "words neurons"], members: Sequence[int], ks: Sequence[int]) -> list[float]:
    best = int(z[list(members)].mean(0).argmax())
    order = z[:, best].argsort(descending=True, stable=True).tolist()
    inside = np.cumsum([place in set(members) for place in order])
    return [float(inside[min(k, len(order)) - 1] / min(k, len(order))) for k in ks]


def random_words(counts: Int64[Tensor, " words"], places: Sequence[int], generator: np.random.Generator) -> list[int]:
    """For each place another word about as frequent, none twice and none of the given ones.

    It is drawn among the `NEIGHBOURS` words that are nearest in the logarithm of their count. ValueError when there are
    too few words.
    """
    logs = np.log(counts.numpy())
    free = [place for place in range(len(logs)) if place not in set(places)]
    if len(free) < len(places):
        raise ValueError(f"{len(free)} other words cannot stand in for {len(places)}; measure more words")
    drawn = []
    for place in generator.permutation(np.asarray(places)):
        nearest = sorted(free, key=lambda other: abs(logs[other] - logs[place]))[:NEIGHBOURS]  # noqa: B023
        drawn.append(int(generator.choice(nearest)))
        free.remove(drawn[-1])
    return drawn


def match_stability(
    measured: Mapping[str, WordActivations], concepts: Mapping[str, Sequence[str]], *, top_k: int = 10
) -> pd.DataFrame:
    """Does matching find the same neurons on other texts (or with other seeds)?

        match_stability({"first half": found, "second half": other}, concepts)

    Args:
        measured: name of the texts → activations measured on them, by one model.
        top_k: neurons per concept.

    Returns:
        one row per concept and pair of texts that both hold its words: ``concept, first, second``, ``overlap`` (share
        of the `top_k` neurons that both find), ``chance`` (its expectation for neurons drawn at random), ``rho``
        (Spearman's correlation of all neurons' mean z).
    """
    n_neurons = {name: sum(means.shape[1] for means in found.means) for name, found in measured.items()}
    rows = []
    for concept, words in concepts.items():
        orders = {
            name: concept_neurons(found, words, n_neurons[name])
            for name, found in measured.items()
            if found.select(words)
        }
        best = {
            name: set(zip(order["block"][:top_k], order["neuron"][:top_k], strict=True))
            for name, order in orders.items()
        }
        scores = {
            name: order.sort_values(["block", "neuron"])["z"].to_numpy(dtype=float) for name, order in orders.items()
        }
        for first, second in combinations(orders, 2):
            rows.append(
                {
                    "concept": concept, "first": first, "second": second,
                    "overlap": len(best[first] & best[second]) / top_k, "chance": min(1.0, top_k / n_neurons[first]),
                    "rho": float(spearmanr(scores[first], scores[second]).statistic),
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=["concept", "first", "second", "overlap", "chance", "rho"])


def attribution_agreement(
    first: pd.DataFrame, second: pd.DataFrame, *, n_shuffles: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Do two ways of scoring neurons rank those of a block alike? Spearman's correlation with a shuffled null.

        attribution_agreement(z_scores, conductances)

    Args:
        first, second: ``block, neuron, score``, the same neurons in both.

    Returns:
        one row per block: ``block, neurons, rho``, ``null_low`` and ``null_high`` (the `level` range of ρ with the
        neurons of the second score shuffled), ``p_value`` (two-sided, of the shuffles).

    Raises:
        ValueError: the two score different neurons.
    """
    merged = first.merge(second, on=["block", "neuron"], suffixes=("_first", "_second"), validate="one_to_one")
    if not len(merged) == len(first) == len(second):
        raise ValueError(f"{len(first)} and {len(second)} neurons were scored, {len(merged)} in both; score the same")
    generator = np.random.default_rng(seed)
    rows = []
    for block, part in merged.groupby("block"):
        ranks = [unit_ranks(part[f"score_{side}"].to_numpy(dtype=float)) for side in ("first", "second")]
        rho = float(ranks[0] @ ranks[1])
        null = np.array([ranks[0] @ generator.permutation(ranks[1]) for _ in range(n_shuffles)])
        low, high = np.quantile(null, [(1 - level) / 2, (1 + level) / 2])
        p_value = (1 + int((np.abs(null) >= abs(rho)).sum())) / (1 + n_shuffles)
        rows.append(
            {
                "block": block, "neurons": len(part), "rho": rho, "null_low": low, "null_high": high,
                "p_value": p_value,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
