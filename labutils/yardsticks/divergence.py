"""How far a damaged model's next words are from the dense model's, without keeping all that the dense one said."""

from typing import NamedTuple

import torch
from jaxtyping import Float32, Float64, Int32
from torch import Tensor

TOP = 4096  # words kept of a larger vocabulary: of 128,000 words and 32,000 places 1 GB instead of 17


class Likeliest(NamedTuple):
    """Log-probabilities of a model's likeliest words at every place; `ids` is None where they are all words."""

    logs: Float32[Tensor, "places words"]
    ids: Int32[Tensor, "places words"] | None


def keep_likeliest(logs: Float32[Tensor, "places vocabulary"], most: int = TOP) -> Likeliest:
    """The `most` likeliest words at every place, or all, where there are no more.

    >>> keep_likeliest(model(tokens).logits[0].log_softmax(-1))
    """
    if logs.shape[1] <= most:
        return Likeliest(logs, None)
    top = logs.topk(most)
    return Likeliest(top.values, top.indices.int())


def divergence(dense: Likeliest, logs: Float32[Tensor, "places vocabulary"]) -> Float64[Tensor, " places"]:
    """KL(dense ‖ damaged) at every place, in nats.

    >>> divergence(keep_likeliest(before), after).mean()

    Exact where all words are kept. Otherwise the words that are not count as one, so that it is at most too small, by
    what the two models tell apart among words that are all unlikely.
    """
    own = logs if dense.ids is None else logs.gather(1, dense.ids.long())
    before, after = dense.logs.double(), own.double()
    found = (before.exp() * (before - after)).sum(-1)
    if dense.ids is not None:
        rest, other = (1 - part.exp().sum(-1) for part in (before, after))
        rest, other = rest.clamp(min=0), other.clamp(min=1e-12)
        found = found + torch.special.xlogy(rest, rest / other)
    return found.clamp(min=0)
