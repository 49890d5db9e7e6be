"""Batches that go through a model a few sequences at a time, where what training keeps for the way back is too much.

Backpropagation keeps the intermediate values of all blocks: of 135 million parameters, 8 sequences of 256 tokens and
adapters some 6 GB. The gradient of a mean is the mean of the gradients of its parts, so that parts one after another
come to the same step, but for the order of sums.
"""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

KEPT_AT_ONCE = 2**30  # bytes kept for the way back, beside the model; a batch is cut so that they are no more

Loss = Callable[[Int64[Tensor, "rows seq_len"]], Float[Tensor, ""]]


def rows_that_fit(model: nn.Module, loss_of: Loss, batch: Int64[Tensor, "rows seq_len"]) -> int:
    """How many rows of a batch may go together: measured on its first row; at least one.

    >>> rows_that_fit(model, lambda rows: text_loss(model, rows), batch)
    """
    fixed, of_row = kept_by_rows(model, loss_of, batch[:1])
    return max(1, min(len(batch), (KEPT_AT_ONCE - fixed) // max(1, of_row)))


def kept_by_rows(model: nn.Module, loss_of: Loss, row: Int64[Tensor, "1 seq_len"]) -> tuple[int, int]:
    """Bytes kept for the way back by a pass of however many rows, such as updates of masked adapters; and by each row.

    >>> kept_by_rows(model, lambda rows: text_loss(model, rows), batch[:1])
    """
    one, two = (kept_bytes(model, loss_of, row.expand(n, -1)) for n in (1, 2))
    return max(0, 2 * one - two), two - one


def kept_bytes(model: nn.Module, loss_of: Loss, batch: Int64[Tensor, "rows seq_len"]) -> int:
    """Bytes of all that a loss keeps for the way back, but for parameters and buffers, which are there anyway.

    >>> kept_bytes(model, lambda rows: text_loss(model, rows), batch[:1])
    """
    own = {_place(each) for each in (*model.parameters(), *model.buffers())}
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (place := _place(tensor)) not in own:
            found[place] = tensor.untyped_storage().nbytes()
        # Alive, so that no other tensor can come to stand in its place; detached, since a graph that holds an output of
        # its own through Python is never freed.
        return tensor.detach()

    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(batch)  # held until all is counted
    del loss
    return sum(found.values())


def losses_in_parts(loss_of: Loss, batch: Int64[Tensor, "rows seq_len"], *, rows: int) -> Iterator[Float[Tensor, ""]]:
    """The losses of parts of a batch, each times its share of the batch: they add up to the mean loss.

    >>> with torch.no_grad():
    ...     sum(loss.item() for loss in losses_in_parts(loss_of, batch, rows=2))

    A part is read when its loss is asked for, so that nothing of two parts need be in memory together.

    Args:
        loss_of: the mean loss of some rows, in which all count alike.
        rows: sequences of a part; the last part may have fewer.
    """
    for part in batch.split(rows):
        yield loss_of(part) * (len(part) / len(batch))


def backward_in_parts(loss_of: Loss, batch: Int64[Tensor, "rows seq_len"], *, rows: int) -> float:
    """Add the gradient of a batch's mean loss to what parameters have, part by part; returns the loss.

    >>> backward_in_parts(lambda part: text_loss(model, part), batch, rows=2)

    One that is NaN or infinite is returned as soon as a part shows it; the gradients are then incomplete.
    """
    total = 0.0
    for loss in losses_in_parts(loss_of, batch, rows=rows):
        total += loss.item()
        if not math.isfinite(total):
            return total
        loss.backward()
    return total


def step_in_parts(
    optimizer: torch.optim.Optimizer, loss_of: Loss, batch: Int64[Tensor, "rows seq_len"], *, rows: int, step: int
) -> float:
    """One step down the mean loss of a batch, of which `rows` sequences go at a time; returns the loss.

    >>> step_in_parts(optimizer, lambda part: text_loss(model, part), batch, rows=2, step=0)

    Args:
        loss_of: as of `losses_in_parts`.
        step: its number, from 0, for the message.

    Raises:
        ValueError: the loss is NaN or infinite, before the step that would spoil the weights.
    """
    optimizer.zero_grad(set_to_none=True)
    if not math.isfinite(value := backward_in_parts(loss_of, batch, rows=rows)):
        rate = optimizer.defaults["lr"]
        raise ValueError(f"the loss at step {step} is {value}; lower the learning rate (now {rate:g}).")
    optimizer.step()
    return value


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
