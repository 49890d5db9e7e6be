"""Which sequences of a pool to train on: by a reference model's perplexity or errors, or by what pruning took.

Sources: perplexity and EL2N as filters, Marion et al. 2023 (arXiv:2309.04564), the reference being never the model that
is trained; a small reference model, Ankner et al. 2024 (arXiv:2405.20541); degradation-targeted data, PASER
(arXiv:2502.12594). PASER clusters instructions by embeddings; here the clusters are given, mostly the sources of the
pool, and all sequences are equally long, so that its division by the cost of a sample changes no order.
"""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import PreTrainedModel

from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_causal, check_token_ids
from labutils.pruning.pipeline import prune

BANDS = ("low", "middle", "high")
# What the papers keep: 30 % (Marion et al.), 50 % (Ankner et al.), a twentieth to a fifth (PASER).
SHARES = {"perplexity": 0.3, "el2n": 0.3, "small": 0.5, "targeted": 0.2}

PASSES = {"perplexity": 1, "el2n": 1, "small": 1, "targeted": 2}  # of a model over the pool; targets compare two


def score_data(model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], *, batch_size: int = 16) -> pd.DataFrame:
    """Perplexity and EL2N of every sequence under a reference model: ``sequence, perplexity, el2n``.

        lab.recovery.score_data(reference, pool)

    Perplexity is exp of the mean loss. EL2N is the mean over tokens of ‖p − onehot(y)‖₂ = √(Σp² − 2p_y + 1); the paper
    averages it over reference models early in their training, here it is that of one model as it is.
    """
    check_causal(model, "scores of data")
    check_token_ids(model, tokens)
    losses, errors = [], []
    with eval_mode(model):
        for batch in tokens.split(batch_size):
            batch = batch.to(device_of(model))
            found = model(input_ids=batch, use_cache=False).logits[:, :-1].float().log_softmax(-1)
            right = found.gather(-1, batch[:, 1:, None])[..., 0]
            losses.append(-right.mean(1).cpu())
            probabilities = found.exp()
            squares = probabilities.square().sum(-1) - 2 * right.exp() + 1
            errors.append(squares.clamp(min=0).sqrt().mean(1).cpu())
    perplexities = torch.cat(losses).double().exp().numpy()
    el2n = torch.cat(errors).double().numpy()
    return pd.DataFrame({"sequence": range(len(tokens)), "perplexity": perplexities, "el2n": el2n})


def choose_share(scores: Sequence[float] | np.ndarray | pd.Series, share: float, band: str = "middle") -> list[int]:
    """The positions of the share of scores that lies lowest, highest or around the median, in their own order.

    >>> choose_share([5.0, 1.0, 3.0, 2.0], 0.5)
    [2, 3]

    Raises:
        ValueError: a share outside (0, 1], an unknown band, or scores that are not finite.
    """
    found = np.asarray(scores, dtype=float)
    if not 0 < share <= 1 or band not in BANDS or not np.isfinite(found).all() or found.size == 0:
        raise ValueError(
            f"share={share} must lie in (0, 1], band={band!r} be one of {', '.join(BANDS)}, scores finite."
        )
    count = max(1, round(share * len(found)))
    start = {"low": 0, "middle": (len(found) - count) // 2, "high": len(found) - count}[band]
    return sorted(np.argsort(found, kind="stable")[start : start + count].tolist())


def divergences(
    dense: PreTrainedModel, pruned: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], *, batch_size: int = 16
) -> Float[np.ndarray, " n"]:
    """Jensen-Shannon divergence of the two models' next-token distributions, in nats, mean over each sequence's tokens.

    lab.recovery.divergences(model, pruned, pool)
    """
    check_token_ids(dense, tokens)
    found = []
    with eval_mode(dense), eval_mode(pruned):
        for batch in tokens.split(batch_size):
            batch = batch.to(device_of(dense))
            each = [one(input_ids=batch, use_cache=False).logits.float().log_softmax(-1) for one in (dense, pruned)]
            found.append(js_divergence(*each).mean(1).cpu())
    return torch.cat(found).double().numpy()


def js_divergence(
    first: Float[Tensor, "*places vocabulary"], second: Float[Tensor, "*places vocabulary"]
) -> Float[Tensor, "*places"]:
    """Jensen-Shannon divergence of two distributions given by their logarithms, in nats: from 0 to log 2."""
    middle = torch.logaddexp(first, second) - np.log(2.0)
    # xlogy's convention: a probability of zero adds nothing, though its logarithm is −∞
    parts = [torch.where(one.exp() > 0, one.exp() * (one - middle), 0.0).sum(-1) for one in (first, second)]
    return ((parts[0] + parts[1]) / 2).clamp(min=0.0)


def target_clusters(
    degradation: Float[np.ndarray, " n"] | Sequence[float], clusters: Sequence[str], count: int
) -> list[int]:
    """`count` sequences, each cluster given a number in proportion to its mean degradation, its most degraded first.

    >>> target_clusters([0.3, 0.1, 0.2, 0.2], ["a", "a", "b", "b"], 2)
    [0, 2]

    A cluster that has fewer sequences than its due gives all, and the others take over the rest.

    Raises:
        ValueError: more sequences than there are, or lengths that do not agree.
    """
    lost, names = np.asarray(degradation, dtype=float), list(clusters)
    if len(lost) != len(names) or not 1 <= count <= len(lost) or not (lost >= 0).all():
        raise ValueError(
            f"{count} of {len(lost)} degradations (none negative) in {len(names)} clusters cannot be chosen."
        )
    members = {name: [i for i, own in enumerate(names) if own == name] for name in dict.fromkeys(names)}
    for own in members.values():
        own.sort(key=lambda i: (-lost[i], i))
    means = {name: max(float(lost[own].mean()), 1e-12) for name, own in members.items()}
    chosen: list[int] = []
    taken = dict.fromkeys(members, 0)
    for _ in range(count):  # the cluster furthest behind its due takes the next (highest averages)
        free = [name for name in members if taken[name] < len(members[name])]
        name = max(free, key=lambda name: (means[name] / (taken[name] + 0.5), -names.index(name)))
        chosen.append(members[name][taken[name]])
        taken[name] += 1
    return sorted(chosen)


def select_pools(
    pool: Mapping[str, Sequence[Tensor]],
    *,
    dense: PreTrainedModel,
    calibrations: Sequence[Tensor],
    method: str,
    sparsity: float,
    reference: PreTrainedModel,
    small: PreTrainedModel,
    shares: Mapping[str, float] = SHARES,
    band: str = "middle",
) -> tuple[dict[str, list[Int64[Tensor, "n seq_len"]]], pd.DataFrame]:
    """Parts of a pool, chosen in every way that is compared, each beside a random part of its own size.

        pools, table = lab.recovery.select_pools(
            pool, dense=model, calibrations=tokens, method="wanda", sparsity=0.7, reference=other, small=tiny
        )

    Args:
        pool: source → its sequences in every draw.
        calibrations: what the sweep prunes with in every draw (`load_calibrations`), so that what is damaged here is
            the very model that will be healed; the pool must hold none of it.
        reference, small: models whose perplexity and EL2N are read, neither of them the one that will be trained.
        shares: of the pool that each way keeps; "perplexity", "el2n", "small" and "targeted".
        band: which part of a score is kept by the filters.

    Returns:
        name → the chosen sequences of every draw: "all", the four ways, and "random-30" for each share; and a row per
        draw, name and source: ``share`` of what was chosen, and ``read``, how many tokens some model had to read for
        the choice (forward passes; a random choice needs none).

    Raises:
        ValueError: a calibration sequence is in the pool.
    """
    chosen: dict[str, list[Tensor]] = {}
    rows = []
    for draw, tokens in enumerate(calibrations):
        check_apart(tokens, {source: own[draw] for source, own in pool.items()})
        pruned = copy.deepcopy(dense)
        prune(pruned, tokens, method=method, sparsity=sparsity)
        names = [source for source, own in pool.items() for _ in range(len(own[draw]))]
        whole = torch.cat([own[draw] for own in pool.values()])
        by_reference = score_data(reference, whole)
        by_small = score_data(small, whole)
        places = {
            "all": list(range(len(whole))),
            "perplexity": choose_share(by_reference["perplexity"], shares["perplexity"], band),
            "el2n": choose_share(by_reference["el2n"], shares["el2n"], band),
            "small": choose_share(by_small["perplexity"], shares["small"], band),
        }
        count = max(1, round(shares["targeted"] * len(whole)))
        places["targeted"] = target_clusters(divergences(dense, pruned, whole), names, count)
        for number, share in enumerate(sorted(set(shares.values()))):
            order = np.random.default_rng([draw, number]).permutation(len(whole))
            places[random_name(share)] = sorted(order[: max(1, round(share * len(whole)))].tolist())
        for name, own in places.items():
            chosen.setdefault(name, []).append(whole[own])
            for source in pool:
                share = sum(names[i] == source for i in own) / len(own)
                read = PASSES.get(name, 0) * whole.numel()
                rows.append({"draw": draw, "selection": name, "source": source, "share": share, "read": read})
    return chosen, pd.DataFrame(rows)


def check_apart(tokens: Int64[Tensor, "n seq_len"], pool: Mapping[str, Int64[Tensor, "m seq_len"]]) -> None:
    """ValueError where a pool holds a calibration sequence: its damage would be understated beside the others'."""
    used = set(map(tuple, tokens.tolist()))
    for source, own in pool.items():
        if used & set(map(tuple, own.tolist())):
            raise ValueError(f"{source}: the pool holds sequences that pruning is calibrated on; leave them out.")


def random_name(share: float) -> str:
    """The name of a random part of a pool.

    >>> random_name(0.3)
    'random-30'
    """
    return f"random-{100 * share:g}"
