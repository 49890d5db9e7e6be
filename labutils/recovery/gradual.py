"""Prune while training: the mask follows a score that training itself moves, or the weights' magnitude.

Source: movement pruning, Sanh, Wolf & Rush 2020 (arXiv:2005.07683): with W the weights behind the mask, the score is
S = −Σ_t (∂L/∂W)_t · W_t, collected from the masked forward pass for pruned weights too (straight through), and the
sparsity grows by the cubic schedule of Zhu & Gupta 2017 (arXiv:1710.01878).
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.core.progress import progress
from labutils.models.structure import find_blocks, prunable_layers
from labutils.recovery.clock import Stopwatch
from labutils.recovery.descent import BatchLoss, check_loss, wide_copy
from labutils.recovery.places import assert_kept
from labutils.recovery.recovering import (
    Recovered,
    check_training,
    choose_loss,
    draw_batches,
    restored_on_error,
)
from labutils.training.steps import CLIP_NORM, rate_share

SCORES = ("movement", "magnitude")
FIRST, LAST = 0.1, 0.7  # shares of the steps at which the sparsity begins to grow and has grown


def prune_while_tuning(
    model: PreTrainedModel,
    tokens: Int64[Tensor, "n seq_len"],
    *,
    score: str = "movement",
    sparsity: float,
    steps: int = 100,
    learning_rate: float = 1e-3,
    batch_size: int = 8,
    seed: int = 0,
) -> Recovered:
    """Train all parameters of a dense model while more and more weights of its blocks are masked, in place.

        lab.recovery.prune_while_tuning(model, tokens, score="movement", sparsity=0.7, steps=300)

    Every block matrix gets the same sparsity. The mask is chosen anew at every step, so a weight may come back.
    Movement masks nothing at the first step, before which all its scores are zero.

    Args:
        score: "movement" or "magnitude"; what is largest is kept.

    Raises:
        ValueError, Diverged: an unknown score, a sparsity outside (0, 1), fused experts, or as `recover`; the model is
            then as it was.
    """
    check_training(model, tokens, steps=steps, batch_size=batch_size, learning_rate=learning_rate)
    if score not in SCORES or not 0 < sparsity < 1:
        raise ValueError(f"score={score!r} must be one of {', '.join(SCORES)}, sparsity={sparsity} between 0 and 1.")
    masked = _block_matrices(model)
    watch, was_training = Stopwatch(), model.training
    with restored_on_error(model, model.parameters()):
        model.eval().requires_grad_(True)
        run = _Run(model, masked, score)
        optimizer = torch.optim.AdamW(run.trained(), lr=learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_share(step, steps))
        batches = draw_batches(tokens, steps, batch_size, seed)
        losses = []
        for step, batch in enumerate(progress(batches, total=steps, description="prune while tuning", unit="step")):
            losses.append(run.step(batch, optimizer, growing_share(step + 1, steps, sparsity), learning_rate))
            schedule.step()
        run.show_masked(sparsity)
        check_loss(run.text.read(batch), "behind the last step", learning_rate)
    model.train(was_training)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert_kept(model, {names[id(one)]: mask for one, mask in zip(run.shown, run.masks, strict=True)})
    count = sum(parameter.numel() for parameter in model.parameters())
    return Recovered(losses, watch.spent(), count, steps * batch_size * tokens.shape[1])


def growing_share(step: int, steps: int, sparsity: float) -> float:
    """The sparsity at a step (from 1): zero at first, then s · (1 − (1 − progress)³), the target at the end.

    >>> growing_share(100, 100, 0.7)
    0.7
    """
    progress_made = (step / steps - FIRST) / (LAST - FIRST)
    return sparsity * (1 - (1 - min(1.0, max(0.0, progress_made))) ** 3)


def keep_largest(scores: Float[Tensor, "out in"], share: float) -> Bool[Tensor, "out in"]:
    """All places but the given share with the lowest scores, rounded to whole weights; ties go to the first places.

    >>> keep_largest(torch.tensor([[1.0, 3.0], [2.0, 0.0]]), 0.5).tolist()
    [[False, True], [True, False]]
    """
    dropped = round(share * scores.numel())
    kept = torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    if dropped:
        kept[scores.flatten().argsort(descending=True, stable=True)[scores.numel() - dropped :]] = False
    return kept.reshape(scores.shape)


class _Run:
    """The weights behind the masks, in 32 bits, their scores, and one step of training."""

    def __init__(self, model: PreTrainedModel, shown: list[nn.Parameter], score: str) -> None:
        self.model, self.shown, self.score = model, shown, score
        self.masks = [torch.ones_like(one, dtype=torch.bool) for one in shown]
        own = {id(one) for one in shown}
        self.others = [one for one in model.parameters() if id(one) not in own]
        self.hidden, self.rest = ([wide_copy(one) for one in each] for each in (shown, self.others))
        self.scores = [torch.zeros_like(one) for one in self.hidden]
        copied = list(zip([*shown, *self.others], self.trained(), strict=True))
        self.text = BatchLoss(model, choose_loss("text", None), copied)
        self.scored = score != "movement"  # whether there is anything to choose by: movement has none before a gradient

    def trained(self) -> list[nn.Parameter]:
        return [*self.hidden, *self.rest]

    @torch.no_grad()
    def show_masked(self, share: float) -> None:
        """Choose the masks anew and put the masked weights into the model, the others as they are."""
        for number, (parameter, weights) in enumerate(zip(self.shown, self.hidden, strict=True)):
            ranked = self.scores[number] if self.score == "movement" else weights.abs()
            self.masks[number] = keep_largest(ranked, share)
            parameter.copy_(weights * self.masks[number])
        for parameter, weights in zip(self.others, self.rest, strict=True):
            parameter.copy_(weights)

    def step(self, batch: Tensor, optimizer: torch.optim.Optimizer, share: float, rate: float) -> float:
        self.show_masked(share if self.scored else 0.0)
        optimizer.zero_grad(set_to_none=True)
        loss = check_loss(self.text.add_gradients(batch), "at a step", rate)
        for weights, scores, mask in zip(self.hidden, self.scores, self.masks, strict=True):
            scores -= weights.grad * weights.detach()
            weights.grad.masked_fill_(~mask, 0.0)
        nn.utils.clip_grad_norm_(self.trained(), CLIP_NORM)
        optimizer.step()
        self.scored = True
        return loss


def _block_matrices(model: PreTrainedModel) -> list[nn.Parameter]:
    found = [layer for block in find_blocks(model)[1] for layer in prunable_layers(block).values()]
    if not all(isinstance(layer, nn.Module) for layer in found):
        raise ValueError("pruning while tuning does not know fused experts; prune such a model first, then recover it.")
    return [layer.weight for layer in found]
