"""Steps of training down a loss: batches in parts, gradients and steps in 32 bits, an error where it is not finite."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from labutils.core.progress import progress
from labutils.training.parts_of_batches import backward_in_parts, losses_in_parts, rows_that_fit
from labutils.training.steps import CLIP_NORM, rate_share

Loss = Callable[[nn.Module, Int64[Tensor, "batch seq_len"]], Float[Tensor, ""]]
Copied = Sequence[tuple[nn.Parameter, nn.Parameter]]  # parameters, each with the copy that is trained in its place


class Diverged(ValueError):
    """A training whose loss is no longer finite, or that leaves a model which cannot be read."""


def descend(
    model: nn.Module,
    parameters: list[nn.Parameter],
    batches: Iterable[Int64[Tensor, "batch seq_len"]],
    loss_of: Loss,
    rate: float,
    steps: int,
    *,
    penalty: Callable[[], Float[Tensor, ""]] | None = None,
) -> list[float]:
    """One step of AdamW per batch, parameters of 16 bits through copies of 32; returns the losses before each step.

    >>> descend(model, list(model.parameters()), draw_batches(tokens, 9, 8, seed=0), choose_loss("text", None), 1e-3, 9)

    Args:
        loss_of: as of `BatchLoss`.
        penalty: what is added to the loss of every batch, and hangs on the parameters alone.

    Raises:
        Diverged: a loss is not finite, of a batch before its step, or of the last batch behind it.
    """
    copied = [(one, wide_copy(one)) for one in parameters if one.dtype.itemsize < 4]
    copy_of = {id(one): copy for one, copy in copied}
    moved = [copy_of.get(id(one), one) for one in parameters]
    optimizer = torch.optim.AdamW(moved, lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_share(step, steps))
    batch_loss, losses = BatchLoss(model, loss_of, copied, penalty), []
    for step, batch in enumerate(progress(batches, total=steps, description="recover", unit="step")):
        optimizer.zero_grad(set_to_none=True)
        losses.append(check_loss(batch_loss.add_gradients(batch), f"at step {step}", rate))
        nn.utils.clip_grad_norm_(moved, CLIP_NORM)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for parameter, copy in copied:
                parameter.copy_(copy)
    check_loss(batch_loss.read(batch), "behind the last step", rate)
    return losses


class BatchLoss:
    """The loss of batches and its gradient, of as many rows at a time as fit together by the first batch.

        batch_loss = BatchLoss(model, choose_loss("text", None))
        batch_loss.add_gradients(batch), batch_loss.read(batch)

    Args:
        loss_of: the mean loss of some rows, in which all count alike.
        copied: whose gradients go to the copies.
        penalty: what is added to the loss of every batch, and hangs on the parameters alone.
    """

    def __init__(
        self, model: nn.Module, loss_of: Loss, copied: Copied = (), penalty: Callable[[], Tensor] | None = None
    ) -> None:
        self.model, self.loss_of, self.copied, self.penalty = model, partial(loss_of, model), copied, penalty
        self.device = next(model.parameters()).device
        self.rows = 0  # of a part; none is known before the first batch

    def add_gradients(self, batch: Int64[Tensor, "batch seq_len"]) -> float:
        """Add the gradients of a batch's loss to what is there; returns the loss, not finite as soon as a part is."""
        batch = batch.to(self.device)
        self.rows = self.rows or rows_that_fit(self.model, self.loss_of, batch)
        with gradients_to_copies(self.copied):
            loss = backward_in_parts(self.loss_of, batch, rows=self.rows)
            if self.penalty is not None:
                extra = self.penalty()
                extra.backward()
                loss += extra.item()
        return loss

    @torch.no_grad()
    def read(self, batch: Int64[Tensor, "batch seq_len"]) -> float:
        """The loss of a batch, after the first one whose gradients were added."""
        parts = losses_in_parts(self.loss_of, batch.to(self.device), rows=self.rows)
        extra = 0.0 if self.penalty is None else self.penalty().item()
        return sum(loss.item() for loss in parts) + extra


def check_loss(loss: float, where: str, rate: float) -> float:
    """The loss itself; Diverged where it is NaN or infinite."""
    if not math.isfinite(loss):
        raise Diverged(f"the loss {where} is {loss}; lower the learning rate (now {rate:g}).")
    return loss


def widened(tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """In 32 bits, or in as many as it has where those are more."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def wide_copy(parameter: nn.Parameter) -> nn.Parameter:
    """A copy to train, `widened`."""
    return nn.Parameter(widened(parameter.detach().clone()))


@contextmanager
def gradients_to_copies(copied: Copied) -> Iterator[None]:
    """Inside the block gradients of parameters are added up in their copies, so that parts are not rounded to 16 bits.

    None stays with the parameters, neither what was there before.
    """
    with ExitStack() as hooks:
        for parameter, copy in copied:
            parameter.grad = None
            hooks.callback(parameter.register_post_accumulate_grad_hook(partial(_hand_over, copy)).remove)
        yield


def _hand_over(copy: nn.Parameter, parameter: nn.Parameter) -> None:
    gradient = widened(parameter.grad)
    copy.grad = gradient if copy.grad is None else copy.grad.add_(gradient)
    parameter.grad = None
