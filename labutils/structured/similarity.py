"""How little blocks change the hidden states: angular distance over runs of blocks, and block influence.

Gromov et al. (Deeper Layers, arXiv 2403.17887): the angle between what enters a run of n blocks and what leaves it, at
the last token of each sequence. Men et al. (ShortGPT, Findings of ACL 2025): block influence, 1 − cosine, over all
tokens. Both are read at the blocks themselves: the last of transformers' `hidden_states` has already passed the
final norm.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from labutils.pruning.calibration import BlockWalk


@dataclass(frozen=True)
class Profile:
    """What blocks do to the residual stream of a calibration.

    Attributes:
        last: the states that enter each block, and those that leave the last, at each sequence's last token.
        cosines: per block and token without padding, of what enters and what leaves.
        random_cosines: per block, of what leaves it at a token and at a random other one.
    """

    last: Float[Tensor, "boundaries sequences hidden"]
    cosines: Float[Tensor, "blocks tokens"]
    random_cosines: Float[Tensor, "blocks tokens"]

    @property
    def influence(self) -> Float[Tensor, " blocks"]:
        """ShortGPT's 1 − mean cosine."""
        return 1 - self.cosines.mean(dim=1)


def read_profile(walk: BlockWalk, *, seed: int = 0) -> Profile:
    """One pass of the walk, which is brought back to its first block.

    >>> read_profile(BlockWalk(model, tokens)).influence
    """
    walk.rewind()
    order = None
    last, cosines, others = [_last_tokens(walk)], [], []
    for index in range(len(walk.blocks)):
        entering = _tokens(walk, walk.hidden)
        walk.hidden = [walk.run_block(index, batch, states) for batch, states in enumerate(walk.hidden)]
        leaving = _tokens(walk, walk.hidden)
        if order is None:
            order = torch.randperm(len(leaving), generator=torch.Generator().manual_seed(seed)).to(leaving.device)
        cosines.append(cosine_similarity(entering, leaving, dim=-1).cpu())
        others.append(cosine_similarity(leaving, leaving[order], dim=-1).cpu())
        last.append(_last_tokens(walk))
    walk.rewind()
    return Profile(torch.stack(last), torch.stack(cosines), torch.stack(others))


def angular_distances(last: Float[Tensor, "boundaries sequences hidden"], n_blocks: int) -> Float[Tensor, " starts"]:
    """The mean angle, in units of π, between what enters and what leaves each run of `n_blocks` blocks.

    >>> angular_distances(profile.last, 4)[0]  # of blocks 0 to 3
    """
    cosines = cosine_similarity(last[:-n_blocks], last[n_blocks:], dim=-1).clamp(-1, 1)
    return cosines.arccos().mean(dim=1) / torch.pi


def _tokens(walk: BlockWalk, batches: list[Tensor]) -> Float[Tensor, "tokens hidden"]:
    """All tokens of the calibration, without padding, in float32."""
    found = []
    for number, states in enumerate(batches):
        flat, mask = states.reshape(-1, states.shape[-1]), walk.batch_inputs(number).get("attention_mask")
        found.append((flat if mask is None else flat[mask.reshape(-1).bool()]).float())
    return torch.cat(found)


def _last_tokens(walk: BlockWalk) -> Float[Tensor, "sequences hidden"]:
    found = []
    for number, states in enumerate(walk.hidden):
        inputs = walk.batch_inputs(number)
        states = states.reshape(*inputs["input_ids"].shape, -1)
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        places = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(dim=1)
        found.append(states[torch.arange(len(states)), places].float().cpu())
    return torch.cat(found)
