"""One pass of calibration statistics per block, with the already pruned blocks before it.

`BlockWalk` runs a model block by block over the calibration batches. For each block: `collect` runs it as it is and
gathers the statistics of all its matrices in that one pass; after its weights were changed, `advance` runs it
again to make the inputs of the next block. Whatever a block receives from the model is captured and replayed, so the
walk does not depend on the architecture. Padding is left out of the statistics, and the batch size changes nothing
but the last digits. Protocol: SparseGPT, Wanda and their successors.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from labutils.models.experts import check_fused_parameters
from labutils.models.modes import eval_mode
from labutils.models.structure import check_reads_tokens, find_blocks, prunable_layers
from labutils.models.wrappers import bare_model
from labutils.pruning.capture import BlockCalls, Call, hidden_of, patched_forwards
from labutils.pruning.inputs import Calibration, CalibrationTexts, check_calibration
from labutils.pruning.output_divergence import read_output
from labutils.pruning.proof import check_outputs, check_replay
from labutils.pruning.refusals import check_prunable, check_read
from labutils.pruning.statistics import BlockInputs, Collector, Statistics, StopForward


class BlockWalk:
    """A model, walked block by block over calibration batches.

    Attributes:
        blocks: the model's blocks; `prefix` is their name in the model.
        inputs: the checked calibration; of `CalibrationTexts`, the text that the blocks read.
        general: its general text, checked; None where there is none.
        gradient_inputs: what gradients of the model's loss are taken on; `inputs` where nothing else was given.
        batch_size: sequences that run together.
        hidden: per batch, the inputs of the block that comes next.
        calls: per batch and block, the arguments and keywords that the block gets beside its hidden states, once for
            each time that it is applied.
        gradients: per block those of the dense model's loss, by what was asked for (`gradient_passes`).
    """

    def __init__(self, model: nn.Module, calibration: Calibration, *, batch_size: int = 8, prove: bool = True):
        """Check the calibration and bring its hidden states to the first block.

        Args:
            calibration: int64 token ids [n, seq_len], or a mapping with `input_ids` and, for padding, `attention_mask`;
                or several of these as `CalibrationTexts`.
            batch_size: sequences that run together; a matter of memory and speed only.
            prove: try out on one sequence that the replay of the blocks is what the model computes; False where that
                is known, or where the model cannot be run as a whole.

        Raises:
            ValueError: no sequences, ids outside the vocabulary, wrong shape or type, too many tokens.
            ValueError: what cannot be pruned as it is (`check_prunable`), or a matrix that nothing is seen to read.
            LookupError: the model's blocks cannot be found, or hold weights in a form that is not known; or their
                replay is not what the model computes (`check_replay`).
        """
        self.model: PreTrainedModel = (model := bare_model(model))
        self._kept: dict[int, BlockInputs] = {}
        self.gradients: dict[object, list[dict[str, Tensor]]] = {}
        check_reads_tokens(model)
        self.prefix, self.blocks = find_blocks(model)
        check_prunable(model, self.prefix, self.blocks)
        for index, block in enumerate(self.blocks):
            check_fused_parameters(block, f"{self.prefix}.{index}")
        self.inputs = self.gradient_inputs = check_calibration(calibration, model)
        self.general: dict[str, Tensor] | None = None
        if isinstance(calibration, CalibrationTexts):
            self._check_texts(calibration)
        self.n_sequences = len(self.inputs["input_ids"])
        self._block_calls = BlockCalls(model, self.prefix, self.blocks)
        self.batch_size, self._prove = batch_size, prove
        self._begin()

    def _check_texts(self, calibration: CalibrationTexts) -> None:
        """Keep what stands beside the text that the blocks read."""
        if calibration.general is not None:
            self.general = check_calibration(calibration.general, self.model)
        if calibration.gradients is not None:
            self.gradient_inputs = check_calibration(calibration.gradients, self.model)

    def _begin(self) -> None:
        """Embed the calibration and bring its hidden states to the first block."""
        self.hidden = self._empty_states()
        self._start: list[Tensor] = []
        self.calls: list[list[list[Call]]] = []
        self._masks: list[Tensor | None] = []
        with eval_mode(self.model):
            if self._prove:
                self._check_replay()
            elif not self._block_calls.order:
                self._block_calls.capture(self._one_sequence())
            for number in range(-(-self.n_sequences // self.batch_size)):
                self._capture(self.batch_inputs(number))

    def _check_replay(self) -> None:
        """Try out on one sequence that the replay of the blocks is what the model computes."""
        check_replay(self._block_calls, self._one_sequence())

    def _empty_states(self) -> list[Tensor]:
        """What hidden states are kept in."""
        return []

    def block(self, index: int) -> nn.Module:
        """A block with its weights in memory; of `blocks` only the shapes are sure to be."""
        return self.blocks[index]

    def batch_inputs(self, number: int) -> dict[str, Tensor]:
        """The calibration of one batch, on the model's device."""
        rows = slice(number * self.batch_size, (number + 1) * self.batch_size)
        return {key: value[rows].to(self.model.device) for key, value in self.inputs.items()}

    def rows_of(self, inputs: dict[str, Tensor], size: int = 1) -> Iterator[dict[str, Tensor]]:
        """A checked text, so many sequences at a time, on the model's device."""
        for row in range(0, len(inputs["input_ids"]), size):
            yield {key: value[row : row + size].to(self.model.device) for key, value in inputs.items()}

    def forward(self, inputs: dict[str, Tensor]) -> Any:
        """The model's own forward pass."""
        return self._block_calls.forward(inputs)

    def _one_sequence(self) -> dict[str, Tensor]:
        """The first batch's first sequence; with padding, its first among the longest."""
        batch = self.batch_inputs(0)
        row = int(batch["attention_mask"].sum(dim=1).argmax()) if "attention_mask" in batch else 0
        return {key: value[row : row + 1] for key, value in batch.items()}

    def _capture(self, batch: dict[str, Tensor]) -> None:
        """Keep what the blocks are called with on a batch, and the hidden states that enter the first."""
        hidden, calls = self._block_calls.capture(batch)
        self.hidden.append(hidden)
        self._start.append(hidden)
        self.calls.append(calls)
        mask = batch.get("attention_mask")
        self._masks.append(mask.bool() if mask is not None and not mask.all() else None)

    def collect(self, index: int, *, hessian: bool) -> dict[str, Statistics]:
        """Run block `index` as it is and return the statistics of its matrices, by their name in the block.

        Layers that read the same tensor (query, key and value; gate and up) share one `Statistics` object. After the
        first batch has shown the order, a batch stops at the block's last matrix, whose output nobody needs.

        Raises:
            ValueError: the activations that enter a layer are not finite; the layer is named.
        """
        with Collector(prunable_layers(self.block(index)), hessian, stop_early=True) as collector:
            for _ in self._outputs(index, collector):
                pass
        return self._results(index, collector)

    def _results(self, index: int, collector: Collector) -> dict[str, Statistics]:
        """Statistics of a block; only an expert may have read no token."""
        name = f"{self.prefix}.{index}"
        found = collector.results(name, self.n_sequences)
        check_read(self.block(index), name, found, {own for own, statistics in found.items() if statistics.n_tokens})
        return found

    def inputs_of(self, index: int, *, move_on: bool = False) -> BlockInputs:
        """What the matrices of block `index` read on the present hidden states, computed when it is asked for.

        With `move_on` the walk then goes on with the outputs of the same pass, where there is a next block.
        """
        if index in self._kept:
            return self._kept[index]
        collect = self.collect_and_advance if move_on and index + 1 < len(self.blocks) else self.collect
        return BlockInputs(partial(collect, index))

    @contextmanager
    def inputs_kept(self, *, hessian: Collection[bool] | None) -> Iterator[None]:
        """While this lasts, what prunings of the dense model read of it in common is computed once.

        Args:
            hessian: None for prunings in sequence, which have the first block's inputs in common. Else what is wanted
                of all blocks, with or without a Hessian or both: it is gathered now, in a pass for each.
        """
        if hessian is None:
            self._kept = {0: BlockInputs(partial(self.collect, 0))}
        else:
            self._kept = {index: BlockInputs(partial(_gather_late, index)) for index in range(len(self.blocks))}
            for wanted in hessian:
                self.rewind()
                for index, kept in self._kept.items():
                    kept.keep(self.collect_and_advance(index, hessian=wanted), hessian=wanted)
        try:
            yield
        finally:
            self._kept = {}

    def collect_and_advance(self, index: int, *, hessian: bool) -> dict[str, Statistics]:
        """As `collect`, and move on with the outputs of the same pass: for a model that stays as it is."""
        with Collector(prunable_layers(self.block(index)), hessian, stop_early=False) as collector:
            self._move_on(index, collector)
        return self._results(index, collector)

    def run(self, index: int) -> list[Tensor]:
        """The outputs of block `index` on the present hidden states, per batch; the walk does not move."""
        return list(self._outputs(index, None))

    def outputs_of(self, index: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """As `run`, one by one, with gradients where they are computed; and per batch the mask of its tokens."""
        return (self.output_of(index, batch) for batch in range(len(self.hidden)))

    def output_of(self, index: int, batch: int) -> tuple[Tensor, Tensor | None]:
        """The same of one batch."""
        return self._run(index, batch, self.hidden[batch]), self._masks[batch]

    def advance(self, index: int) -> None:
        """Run block `index` and move on to the next: its outputs replace the hidden states."""
        self._move_on(index, None)

    def outputs_from(self, index: int, batch: int) -> Float[Tensor, "n ..."]:
        """A batch's predictions when the blocks from `index` on read its present hidden states; the walk stays.

        See `read_output`. Embedding, final norm and head are the model's own; the blocks before are not run.
        """
        hidden = self.hidden[batch]
        for later in range(index, len(self.blocks)):
            hidden = self.run_block(later, batch, hidden)
        return read_output(self.model, self.predict(hidden, batch), self.batch_inputs(batch))

    def run_block(self, index: int, batch: int, hidden: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """What block `index` makes of any hidden states of a batch; the walk stays."""
        with eval_mode(self.block(index)):
            return self._run(index, batch, hidden)

    def text_tokens(self, batch: int, states: Float[Tensor, "..."]) -> Float[Tensor, "tokens width"]:
        """What stands at a batch's tokens, in float32, padding left out."""
        flat, mask = states.reshape(-1, states.shape[-1]).float(), self._masks[batch]
        return flat if mask is None else flat[mask.reshape(-1)]

    def predict(self, hidden: Float[Tensor, "..."], batch: int) -> ModelOutput:
        """The model's output where these states leave its last block; embedding, norm and head are its own."""
        value = self._block_calls.as_returned(hidden)
        with eval_mode(self.model), patched_forwards(self.blocks, lambda *_: value):
            return self._block_calls.forward(self.batch_inputs(batch))

    def check_outputs(self) -> None:
        """A LookupError for a model whose head reads more than `outputs_from` gives it; one sequence tells."""
        sequence = self._one_sequence()
        one = BlockWalk(self.model, sequence, prove=False)
        with eval_mode(self.model):
            own = read_output(self.model, self._block_calls.forward(sequence), sequence)
        check_outputs(self.model, one.outputs_from(0, 0), own)

    def rewind(self) -> None:
        """Back to the first block."""
        self.hidden = list(self._start)

    def _move_on(self, index: int, collector: Collector | None) -> None:
        for batch, output in enumerate(self._outputs(index, collector)):
            self._replace(batch, output)

    def _replace(self, batch: int, output: Tensor) -> None:
        """Let a block's output take the place of its input, unless that is needed to go back to the first block."""
        first = self._start[batch]
        if self.hidden[batch] is not first:
            self.hidden[batch].copy_(output)
        else:
            self.hidden[batch] = output.clone() if output.data_ptr() == first.data_ptr() else output

    def _outputs(self, index: int, collector: Collector | None) -> Iterator[Tensor]:
        """One by one, of all batches."""
        with eval_mode(self.block(index)):
            for batch, hidden in enumerate(self.hidden):
                with suppress(StopForward):
                    yield self._run(index, batch, hidden, collector)

    def _run(self, index: int, batch: int, hidden: Tensor, collector: Collector | None = None) -> Tensor:
        """What a block makes of hidden states, applied as often as the model applies it."""
        block, calls = self.block(index), self.calls[batch][index]
        for number, (args, kwargs) in enumerate(calls, start=1):
            if collector:
                collector.start(self._masks[batch], last=number == len(calls))
            hidden = hidden_of(block(hidden, *args, **kwargs))
        return hidden


def _gather_late(index: int, *, hessian: bool) -> dict[str, Statistics]:
    """In place of a pass over a model that may not be dense any more."""
    raise RuntimeError(f"What block {index} reads of the dense model was not gathered with hessian={hessian}.")
