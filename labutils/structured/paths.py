"""Run a model along other paths than its own: blocks skipped, sublayers silent, from any block on.

A path starts from hidden states that are already there, so that what candidates have in common is computed once.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.evaluation.readout import log_likelihoods
from labutils.pruning.calibration import BlockWalk
from labutils.structured.anatomy import Anatomy, out_layers, zero_output
from labutils.structured.remembered import known_losses

Unit = tuple[int, str]  # a block, and "block", "attention" or "mlp"


class Paths:
    """The blocks of a walk, run with units off; it counts what it runs.

    Attributes:
        known: losses of a batch with units off, as a search keeps them.
        block_runs: blocks run so far, each on one batch.
        head_runs: how often the head was run on one batch.
    """

    def __init__(self, walk: BlockWalk, anatomies: Sequence[Anatomy]):
        self.walk, self.anatomies = walk, anatomies
        self.block_runs = self.head_runs = 0
        self.known = known_losses(walk.model, walk.inputs, walk.batch_size)

    @property
    def n_batches(self) -> int:
        """Of the calibration."""
        return len(self.walk.hidden)

    def step(self, index: int, batch: int, hidden: Float[Tensor, "..."], off: Collection[Unit]) -> Float[Tensor, "..."]:
        """What a block makes of hidden states with these units off; a block that is off hands them on."""
        if (index, "block") in off:
            return hidden
        self.block_runs += 1
        with ExitStack() as hooks:
            for part in [part for block, part in off if block == index]:
                for module in out_layers(self.walk.block(index), self.anatomies[index], part):
                    hooks.enter_context(module.register_forward_hook(zero_output))
            return self.walk.run_block(index, batch, hidden)

    def along(
        self, batch: int, paths: Sequence[tuple[int, ...]]
    ) -> Iterator[tuple[tuple[int, ...], Float[Tensor, "..."]]]:
        """Each path and the states at its end: a path names blocks in the order in which they run, any of them any
        number of times. What paths have in common at their beginning is run once.

        >>> for path, hidden in paths.along(0, [(0, 1, 3), (0, 1, 1, 2)]): ...
        """
        run: list[int] = []
        states = [self.walk.hidden[batch]]
        for path in sorted(paths):
            shared = next((at for at, pair in enumerate(zip(path, run, strict=False)) if len(set(pair)) > 1), None)
            shared = min(len(path), len(run)) if shared is None else shared
            del run[shared:], states[shared + 1 :]
            for index in path[shared:]:
                states.append(self.step(index, batch, states[-1], ()))
                run.append(index)
            yield path, states[-1]

    def losses(
        self, start: int, batch: int, hidden: Float[Tensor, "..."], off: Collection[Unit]
    ) -> Float[Tensor, " predicting"]:
        """Mean next-token loss (nats) of a batch's sequences, from the states that enter block `start`."""
        for index in range(start, len(self.walk.blocks)):
            hidden = self.step(index, batch, hidden, off)
        self.head_runs += 1
        inputs = self.walk.batch_inputs(batch)
        logits = self.walk.predict(hidden, batch).logits
        return next_token_losses(logits, inputs["input_ids"], inputs.get("attention_mask"))


def next_token_losses(
    logits: Float[Tensor, "n length vocabulary"], ids: Tensor, mask: Tensor | None = None
) -> Float[Tensor, " predicting"]:
    """Mean next-token loss of each sequence that has one to predict, in nats, double on the CPU.

    What padding would predict is left out, and a sequence of one token as a whole.
    """
    found = [torch.empty(0, dtype=torch.float64)]
    for row, tokens, kept in zip(logits, ids, ids.new_ones(ids.shape) if mask is None else mask, strict=True):
        places = (kept[1:] * kept[:-1]).bool().nonzero().flatten()
        if len(places):
            found.append(-log_likelihoods(row, places, tokens[1:][places]).double().mean().cpu()[None])
    return torch.cat(found)
