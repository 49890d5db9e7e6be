"""The block walk and the dense statistics of a model whose weights stay on disk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from labutils.checkpoints.shards import explain_failed_write
from labutils.checkpoints.streamed import StreamedModel
from labutils.pruning.calibration import BlockWalk, Calibration
from labutils.pruning.dense_statistics import DenseStatistics
from labutils.pruning.statistics import Statistics


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
    """

    def __init__(self, source: StreamedModel, calibration: Calibration, *, batch_size: int, spill: Path | None):
        """As `BlockWalk`; with `spill`, hidden states are kept in that file."""
        self.source, self.batch_size, self.spill = source, batch_size, spill
        self._begin(calibration)

    def _begin(self, calibration: Calibration) -> None:
        with self.source.outside():
            self.source.visit(0)
            super().__init__(self.source.model, calibration, batch_size=self.batch_size)
        self._moved = False

    def _capture(self, batch: dict[str, Tensor]) -> None:
        super()._capture(batch)
        self._start.clear()  # the first block's inputs are not kept beside the present ones
        if self.spill is not None and isinstance(self.hidden, list):  # from the first batch on
            first, self.hidden = self.hidden[0], SpilledActivations(self.spill)
            self.hidden.append(first)

    def rewind(self) -> None:
        if self._moved:
            self._begin(self.inputs)

    def collect(self, index: int, *, hessian: bool) -> dict[str, Statistics]:
        self.source.visit(index)
        return super().collect(index, hessian=hessian)

    def collect_and_advance(self, index: int, *, hessian: bool) -> dict[str, Statistics]:
        self.source.visit(index)
        return super().collect_and_advance(index, hessian=hessian)

    def run(self, index: int) -> list[Tensor]:
        self.source.visit(index)
        return super().run(index)

    def advance(self, index: int) -> None:
        self.source.visit(index)
        super().advance(index)

    def _replace(self, batch: int, output: Tensor) -> None:
        self._moved = True
        self.hidden[batch] = output

    @contextmanager
    def blocks_in_memory(self) -> Iterator[None]:
        """While this lasts, a block of `blocks` has its weights when it is looked at; shapes can be had without."""
        blocks, self.blocks = self.blocks, _VisitedBlocks(self.source)
        try:
            yield
        finally:
            self.blocks = blocks


class StreamedStatistics(DenseStatistics):
    """Dense statistics whose blocks are brought into memory when their weights are read."""

    def wanda_statistics(self, multiple: float) -> tuple[Tensor, Tensor]:
        _ = self.norms  # its pass ends by capturing the calibration anew, which needs the blocks as they are
        with self.walk.blocks_in_memory():
            return super().wanda_statistics(multiple)

    @cached_property
    def hill_exponents(self) -> Tensor:
        with self.walk.blocks_in_memory():
            return super().hill_exponents


class _VisitedBlocks(Sequence):
    """A model's blocks, each of which is brought into memory when it is asked for."""

    def __init__(self, source: StreamedModel):
        self.source = source

    def __len__(self) -> int:
        return len(self.source.blocks)

    def __getitem__(self, index: int) -> nn.Module:
        if index >= len(self):
            raise IndexError(index)
        return self.source.visit(index)
