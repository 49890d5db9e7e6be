"""The block walk of a model whose weights stay on disk."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from labutils.checkpoints.shards import explain_failed_write
from labutils.checkpoints.streamed import StreamedModel
from labutils.pruning.calibration import BlockWalk, Calibration


class SpilledActivations:
    """Hidden states of calibration batches in one file; a batch is in memory only while it is used."""

    def __init__(self, path: Path):
        self.path = path
        self.about: list[tuple[torch.Size, torch.dtype, torch.device]] = []
        self.offsets = [0]
        with self._opened("wb"):  # nothing is kept of what an earlier pass has left
            pass

    def append(self, batch: Tensor) -> None:
        self.about.append((batch.shape, batch.dtype, batch.device))
        self.offsets.append(self.offsets[-1] + batch.numel() * batch.element_size())
        self[len(self) - 1] = batch

    def __len__(self) -> int:
        return len(self.about)

    def __getitem__(self, position: int) -> Tensor:
        start, stop = self.offsets[position : position + 2]
        shape, dtype, device = self.about[position]
        stored = torch.from_numpy(np.fromfile(self.path, dtype=np.uint8, count=stop - start, offset=start))
        return stored.view(dtype).reshape(shape).to(device)

    def __setitem__(self, position: int, batch: Tensor) -> None:
        data = batch.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        with self._opened("r+b") as file:
            file.seek(self.offsets[position])
            file.write(data)

    @contextmanager
    def _opened(self, mode: str) -> Iterator[BinaryIO]:
        try:
            with self.path.open(mode) as file:
                yield file
        except OSError as error:
            raise explain_failed_write(self.path, error) from error

    def __iter__(self) -> Iterator[Tensor]:
        return (self[position] for position in range(len(self)))


class StreamedWalk(BlockWalk):
    """A block walk that has one block in memory, and each batch's hidden states once.

    A block's outputs take the place of its inputs batch by batch, in memory or in a file. Going back to the first
    block therefore embeds the calibration anew.

    That the replay of the blocks is what the model computes is tried out once, on the dense model, whose blocks are
    then read one after the other, each when it is called.
    """

    def __init__(
        self, source: StreamedModel, calibration: Calibration, *, batch_size: int, spill: Path | None,
        prove: bool = True,
    ):  # fmt: skip
        """As `BlockWalk`; with `spill`, hidden states are kept in that file."""
        self.source, self.spill = source, spill
        super().__init__(source.model, calibration, batch_size=batch_size, prove=prove)

    def _begin(self) -> None:
        with self.source.outside():
            self.source.visit(0)
            super()._begin()
        self._prove = self._moved = False

    def _check_replay(self) -> None:
        with ExitStack() as hooks:
            for index, block in enumerate(self.blocks):
                visit = partial(_visit, self.source, index)
                hooks.enter_context(block.register_forward_pre_hook(visit, prepend=True))
            super()._check_replay()
        self.source.visit(0)

    def _empty_states(self) -> list[Tensor] | SpilledActivations:
        return [] if self.spill is None else SpilledActivations(self.spill)

    def _capture(self, batch: dict[str, Tensor]) -> None:
        super()._capture(batch)
        self._start.clear()  # the first block's inputs are not kept beside the present ones

    def block(self, index: int) -> nn.Module:
        return self.source.visit(index)

    def rewind(self) -> None:
        if self._moved:
            self._begin()

    def _replace(self, batch: int, output: Tensor) -> None:
        self._moved = True
        self.hidden[batch] = output


def _visit(source: StreamedModel, index: int, *_: object) -> None:
    """Read a block when it is called."""
    source.visit(index)
