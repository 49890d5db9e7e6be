"""One pass of calibration statistics per block, with the already pruned blocks before it.

`BlockWalk` runs a model block by block over the calibration batches. For each block: `collect` runs it as it is and
gathers the statistics of all its matrices in that one pass; after its weights were changed, `advance` runs it
again to make the inputs of the next block. Whatever a block receives from the model is captured and replayed, so the
walk does not depend on the architecture. Padding is left out of the statistics, and the batch size changes nothing
but the last digits. Protocol: SparseGPT, Wanda and their successors.
"""

import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from labutils.models.experts import check_fused_parameters, holds_experts
from labutils.models.modes import eval_mode
from labutils.models.structure import check_token_ids, find_blocks, prunable_layers
from labutils.pruning.output_divergence import read_output
from labutils.pruning.refusals import check_prunable
from labutils.pruning.statistics import BlockInputs, Collector, Statistics, StopForward

Calibration = Tensor | Mapping[str, Tensor]


class BlockWalk:
    """A model, walked block by block over calibration batches.

    Attributes:
        blocks: the model's blocks; `prefix` is their name in the model.
        inputs: the checked calibration.
        hidden: per batch, the inputs of the block that comes next.
        calls: per batch and block, the arguments and keywords that the block gets beside its hidden states.
    """

    def __init__(self, model: PreTrainedModel, calibration: Calibration, *, batch_size: int = 8):
        """Check the calibration and bring its hidden states to the first block.

        Args:
            calibration: int64 token ids [n, seq_len], or a mapping with `input_ids` and, for padding, `attention_mask`.
            batch_size: sequences that run together; a matter of memory and speed only.

        Raises:
            ValueError: no sequences, ids outside the vocabulary, wrong shape or type.
            ValueError: adapters, computed weights, or a decoder behind an encoder (`check_prunable`).
            LookupError: the model's blocks cannot be found, or hold weights in a form that is not known.
        """
        self.model = model
        self._kept: dict[int, BlockInputs] = {}
        self.prefix, self.blocks = find_blocks(model)
        check_prunable(model, self.prefix, self.blocks)
        for index, block in enumerate(self.blocks):
            check_fused_parameters(block, f"{self.prefix}.{index}")
        self.inputs = check_calibration(calibration, model)
        self.n_sequences = len(self.inputs["input_ids"])
        self._n_beside = 0  # values that a block returns beside the hidden states
        takes = inspect.signature(model.forward).parameters
        self._no_cache = {"use_cache": False} if "use_cache" in takes else {}  # a cache would grow with every replay
        self._returns_tuple: bool | None = None  # learnt by running the first block once
        self._batch_size = batch_size
        self._begin()

    def _begin(self) -> None:
        """Embed the calibration and bring its hidden states to the first block."""
        self.hidden = self._empty_states()
        self._start: list[Tensor] = []
        self.calls: list[list[tuple[tuple, dict]]] = []
        self._masks: list[Tensor | None] = []
        with eval_mode(self.model):
            for number in range(-(-self.n_sequences // self._batch_size)):
                self._capture(self.batch_inputs(number))

    def _empty_states(self) -> list[Tensor]:
        """What hidden states are kept in."""
        return []

    def block(self, index: int) -> nn.Module:
        """A block with its weights in memory; of `blocks` only the shapes are sure to be."""
        return self.blocks[index]

    def batch_inputs(self, number: int) -> dict[str, Tensor]:
        """The calibration of one batch, on the model's device."""
        rows = slice(number * self._batch_size, (number + 1) * self._batch_size)
        return {key: value[rows].to(self.model.device) for key, value in self.inputs.items()}

    def _capture(self, batch: dict[str, Tensor]) -> None:
        """Record what every block is called with; the blocks themselves hand their input on, at no cost."""
        calls: list[tuple[tuple, dict]] = []
        first: list[Tensor] = []
        beside: tuple = ()  # what the first block returns beside the hidden states: T5's hand on their position bias
        first_block = self.blocks[0].forward

        def record(args: tuple, kwargs: dict) -> Any:
            nonlocal beside
            args, kwargs = _without_cache(args, kwargs)
            if not calls and self._returns_tuple is not False:
                output = first_block(*args, **kwargs)
                self._returns_tuple = isinstance(output, tuple)
                beside = output[1:] if self._returns_tuple else ()
            hidden, args, kwargs = _split(args, kwargs)
            first.append(hidden)
            calls.append((args, kwargs))
            if len(calls) == len(self.blocks):
                raise StopForward
            return (hidden, *beside) if self._returns_tuple else hidden

        with patched_forwards(self.blocks, record), suppress(StopForward):
            self.model(**batch, **self._no_cache)
        if len(calls) != len(self.blocks):
            raise LookupError(
                f"Only {len(calls)} of the {len(self.blocks)} blocks in {self.prefix!r} were reached by a forward pass."
            )
        self.hidden.append(first[0])
        self._start.append(first[0])
        self.calls.append(calls)
        self._n_beside = len(beside)  # the values may be large, and what blocks read of them is in the calls
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
        found = collector.results(f"{self.prefix}.{index}", self.n_sequences)
        unread = [name for name, statistics in found.items() if not statistics.n_tokens]
        if unread and not holds_experts(self.block(index)):
            raise ValueError(
                f"{self.prefix}.{index}.{unread[0]} was not seen to read a single token ({len(unread)} of {len(found)} "
                "matrices of its block). A compiled block hides its layers: prune the model before compiling it. Or "
                "the attention mask leaves no token."
            )
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

    def advance(self, index: int) -> None:
        """Run block `index` and move on to the next: its outputs replace the hidden states."""
        self._move_on(index, None)

    def outputs_from(self, index: int, batch: int) -> Float[Tensor, "n ..."]:
        """A batch's predictions when the blocks from `index` on read its present hidden states; the walk stays.

        See `read_output`. Embedding, final norm and head are the model's own; the blocks before are not run.
        """
        hidden, inputs = self.hidden[batch], self.batch_inputs(batch)
        with eval_mode(self.model):
            for later in range(index, len(self.blocks)):
                hidden = self._run(later, batch, hidden)
            value = (hidden, *[None] * self._n_beside) if self._returns_tuple else hidden
            with patched_forwards(self.blocks, lambda *_: value):
                return read_output(self.model, self.model(**inputs, **self._no_cache), inputs)

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
                if collector:
                    collector.start(self._masks[batch])
                with suppress(StopForward):
                    yield self._run(index, batch, hidden)

    def _run(self, index: int, batch: int, hidden: Tensor) -> Tensor:
        args, kwargs = self.calls[batch][index]
        output = self.block(index)(hidden, *args, **kwargs)
        return output[0] if isinstance(output, tuple) else output


def _gather_late(index: int, *, hessian: bool) -> dict[str, Statistics]:
    """In place of a pass over a model that may not be dense any more."""
    raise RuntimeError(f"What block {index} reads of the dense model was not gathered with hessian={hessian}.")


def check_calibration(calibration: Calibration, model: PreTrainedModel) -> dict[str, Int64[Tensor, "n seq_len"]]:
    """The calibration as a dictionary of tensors on the CPU, or a ValueError that says what is wrong with it."""
    inputs = dict(calibration) if isinstance(calibration, Mapping) else {"input_ids": calibration}
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.dtype != torch.int64:
        raise ValueError(
            "The calibration must be an int64 tensor [sequences, length], or a mapping with such `input_ids`."
        )
    check_token_ids(model, ids, "the calibration")
    return {key: value.cpu() for key, value in inputs.items()}


def _without_cache(args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """The arguments of a block with no past: a cache would grow with every replay, and change what is replayed."""
    args = tuple(None if isinstance(value, Cache) else value for value in args)
    return args, {name: None if isinstance(value, Cache) else value for name, value in kwargs.items()}


def _split(args: tuple, kwargs: dict) -> tuple[Tensor, tuple, dict]:
    """Separate the hidden states, which the walk replaces, from everything else that a block receives."""
    if args:
        return args[0], args[1:], kwargs
    kwargs = dict(kwargs)
    return kwargs.pop("hidden_states"), (), kwargs


@contextmanager
def patched_forwards(blocks: nn.ModuleList, record: Any) -> Iterator[None]:
    """Blocks hand what they are called with, arguments and keywords, to `record`, and return what it returns."""
    own = [block.__dict__.get("forward") for block in blocks]  # set where another library wrapped the block
    for block in blocks:
        block.forward = lambda *args, **kwargs: record(args, kwargs)
    try:
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            _set_forward(block, forward)


def _set_forward(block: nn.Module, forward: Any) -> None:
    if forward is None:
        block.__dict__.pop("forward", None)
    else:
        block.forward = forward
