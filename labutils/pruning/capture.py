"""What a model calls its blocks with: captured in a pass in which the blocks hand their input on, at hardly any cost.

A replay of blocks with what was captured is the model's own computation, as long as nothing that a block is called
with, beside its hidden states, depends on them. `proof` tries that out on every model.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from labutils.pruning.statistics import StopForward

Call = tuple[tuple, dict]
Inputs = dict[str, Tensor]


class BlockCalls:
    """How a model calls its blocks, learnt from the first inputs that are captured.

    Attributes:
        order: which block each call is for. A block may be called several times in a row (ALBERT).
        kind: what a block returns: `tuple` or `list`, with the hidden states first, or `Tensor`.
    """

    def __init__(self, model: PreTrainedModel, prefix: str, blocks: nn.ModuleList):
        self.model, self.prefix, self.blocks = model, prefix, blocks
        self.order: list[int] = []
        self.kind: type = Tensor
        self._n_beside = 0  # values that a block returns beside the hidden states
        takes = inspect.signature(model.forward).parameters
        self._no_cache = {"use_cache": False} if "use_cache" in takes else {}  # a cache would grow with every replay

    def forward(self, inputs: Inputs) -> Any:
        """The model's output, without a cache.

        Raises:
            ValueError: the model needs more than the calibration holds.
        """
        try:
            return self.model(**_as_read(self.model, inputs), **self._no_cache)
        except (TypeError, ValueError, AttributeError, KeyError, IndexError, AssertionError) as error:
            raise ValueError(
                f"{type(self.model).__name__} does not run on {', '.join(inputs)} alone: {error}. Give the calibration "
                "as a mapping with what its forward pass needs, or prune the part of the model that reads token ids."
            ) from error

    def capture(self, inputs: Inputs) -> tuple[Tensor, list[list[Call]]]:
        """The hidden states that enter the first block, and per block the arguments of each of its calls beside them.

        Raises:
            LookupError: blocks that are not reached, that are called in another order than they stand in, or that
                return something unknown.
        """
        calls: list[list[Call]] = [[] for _ in self.blocks]
        forwards = [block.forward for block in self.blocks]
        states: list[Tensor] = []
        order: list[int] = []
        returned: list[Any] = []  # by the first block: T5's hand on their position bias

        def record(index: int, args: tuple, kwargs: dict) -> Any:
            args, kwargs = _without_cache(args, kwargs)
            if not order and (not self.order or self.kind is not Tensor):
                returned.append(forwards[index](*args, **kwargs))
                self._learn_kind(returned[0], index)
            hidden, args, kwargs = _split(args, kwargs, forwards[index])
            states.append(hidden)
            order.append(index)
            calls[index].append((args, kwargs))
            if len(order) == len(self.order):
                raise StopForward
            return self.as_returned(hidden, beside=returned[0][1:] if self.kind is not Tensor else ())

        with patched_forwards(self.blocks, record), suppress(StopForward), self.ended_before_the_head():
            self.forward(inputs)
        if not self.order:
            self.order = self._checked_order(order)
        return states[0], calls

    def as_returned(self, hidden: Tensor, beside: tuple | list | None = None) -> Any:
        """Hidden states in the form in which blocks return them; what stands beside them is None where it is not given.

        Such values may be large, and what blocks read of them is among their arguments.
        """
        if self.kind is Tensor:
            return hidden
        return self.kind([hidden, *([None] * self._n_beside if beside is None else beside)])

    def _learn_kind(self, output: Any, index: int) -> None:
        kind = Tensor if isinstance(output, Tensor) else type(output)
        if kind not in (Tensor, tuple, list) or (kind is not Tensor and not isinstance(output[0], Tensor)):
            raise LookupError(
                f"{self.prefix}.{index}, a {type(self.blocks[index]).__name__}, returns a {kind.__name__}; labutils "
                "prunes models whose blocks return their hidden states, alone or first in a tuple or a list."
            )
        self.kind = kind
        self._n_beside = 0 if kind is Tensor else len(output) - 1

    def _checked_order(self, order: list[int]) -> list[int]:
        if missing := sorted(set(range(len(self.blocks))) - set(order)):
            raise LookupError(
                f"Only {len(self.blocks) - len(missing)} of the {len(self.blocks)} blocks in {self.prefix!r} were "
                f"reached by a forward pass; the first that was not is {self.prefix}.{missing[0]}."
            )
        if order != sorted(order):
            raise LookupError(
                f"{type(self.model).__name__} calls its blocks {self.prefix!r} in the order {order}; labutils prunes "
                "block by block, each behind the pruned ones before it, which needs all calls of a block in a row."
            )
        return order

    @contextmanager
    def ended_before_the_head(self) -> Iterator[None]:
        """While this lasts, a forward pass that comes to the model's head over the vocabulary raises `StopForward`."""
        head = self.model.get_output_embeddings()
        with head.register_forward_pre_hook(_stop) if isinstance(head, nn.Module) else nullcontext():
            yield


def _stop(*_: object) -> None:
    raise StopForward


def _as_read(model: PreTrainedModel, inputs: Inputs) -> Inputs:
    """Inputs in the form that the model takes: a choice among several reads [n, choices, length], here one each."""
    if type(model).__name__.endswith("ForMultipleChoice"):
        return {name: tensor.unsqueeze(1) for name, tensor in inputs.items()}
    return inputs


def hidden_of(output: Any) -> Tensor:
    """The hidden states in what a block returns."""
    return output if isinstance(output, Tensor) else output[0]


def _without_cache(args: tuple, kwargs: dict) -> Call:
    """The arguments of a block with no past: a cache would grow with every replay, and change what is replayed."""
    args = tuple(None if isinstance(value, Cache) else value for value in args)
    return args, {name: None if isinstance(value, Cache) else value for name, value in kwargs.items()}


def _split(args: tuple, kwargs: dict, forward: Callable) -> tuple[Tensor, tuple, dict]:
    """Separate the hidden states, which the walk replaces, from everything else that a block receives."""
    if args:
        return args[0], args[1:], kwargs
    first = "hidden_states" if "hidden_states" in kwargs else next(iter(inspect.signature(forward).parameters))
    return kwargs[first], (), {name: value for name, value in kwargs.items() if name != first}


@contextmanager
def patched_forwards(blocks: nn.ModuleList, record: Callable[[int, tuple, dict], Any]) -> Iterator[None]:
    """Blocks hand their number and what they are called with to `record`, and return what it returns."""
    own = [block.__dict__.get("forward") for block in blocks]  # set where another library wrapped the block
    for index, block in enumerate(blocks):
        block.forward = lambda *args, index=index, **kwargs: record(index, args, kwargs)
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
