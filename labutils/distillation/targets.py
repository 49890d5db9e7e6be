"""What a frozen teacher says about every training item: its outputs, and the states of its blocks."""

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.distillation.data import Batch, Examples, TaskData, iterate_batches
from labutils.distillation.matchers import States
from labutils.distillation.task_models import TaskModel

BATCH_ITEMS = 32
BYTES_KEPT = 2**30  # states beyond 1 GiB are computed again in every step instead of being kept


class TeacherTargets:
    """A teacher's outputs on all training items, and its states on demand.

    The teacher does not change, so its states of an item are computed once, where they fit in `BYTES_KEPT`. Padding is
    not kept: states that are to include it are computed per batch.

    Attributes:
        outputs: of all items, on the teacher's device.
    """

    outputs: Float[Tensor, "items outputs"]

    def __init__(
        self, teacher: TaskModel, data: TaskData, examples: Examples, *, states: States | None, with_padding: bool
    ) -> None:
        """Run the teacher once over the items.

        Args:
            states: what is to be had of its blocks; None for the outputs alone.
            with_padding: include the states of padding, which depend on the batch.
        """
        self._teacher, self._states = teacher, states
        self._kept: dict[int, Float[Tensor, "blocks tokens width"]] | None = {}
        outputs, size = [], 0
        for batch in iterate_batches(data, examples, range(len(examples)), BATCH_ITEMS, teacher.device):
            reading = teacher.read(batch.ids, batch.mask)
            outputs.append(reading.outputs)
            if states is None or with_padding or self._kept is None:
                continue
            found = getattr(reading, states)
            for position, row in enumerate(batch.rows):
                self._kept[row] = found[:, position, : len(examples.rows[row])].clone()
                size += self._kept[row].nbytes
            if size > BYTES_KEPT:
                self._kept = None
        if with_padding:
            self._kept = None
        self.outputs = torch.cat(outputs)

    def states(self, batch: Batch) -> Float[Tensor, "blocks rows tokens width"]:
        """The states of a batch; where they were kept, zero at the padding."""
        if self._kept is None:
            return getattr(self._teacher.read(batch.ids, batch.mask), self._states)
        rows = [self._kept[row].transpose(0, 1) for row in batch.rows]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).permute(2, 0, 1, 3)
