"""Before anything is changed: does running the blocks one after the other give what the model itself computes?

Papers prune block by block because a decoder is a stack of blocks and nothing else. Whether a given model is one is
tried out, on one sequence of the calibration, before its first weight is touched.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from labutils.models.experts import ExpertMatrix
from labutils.models.modes import eval_mode
from labutils.models.structure import block_lists, prunable_layers
from labutils.pruning.capture import BlockCalls, Call, Inputs, hidden_of
from labutils.pruning.refusals import check_read
from labutils.pruning.statistics import StopForward

PLAIN = Tensor | bool | int | float | str | torch.dtype | torch.device | None


def check_replay(blocks: BlockCalls, sequence: Inputs) -> None:
    """Refuse a model whose blocks, run one after the other with what was captured, do not give its own hidden states.

    The states that leave the last block are compared, at the sequence's tokens, with what leaves it in the model's own
    forward pass, up to the square root of the dtype's resolution times the largest state. The head is not run.

    Args:
        sequence: one sequence of the calibration, [1, length].

    Raises:
        LookupError: the states differ; the message tells by how much.
        ValueError: a matrix that nothing is seen to read, or other blocks beside these that token ids run through.
    """
    with eval_mode(blocks.model):
        first, calls = blocks.capture(sequence)
        own, read = _observe(blocks, sequence)
        for index, (block, (layers, names)) in enumerate(zip(blocks.blocks, read, strict=True)):
            check_read(block, f"{blocks.prefix}.{index}", layers, names)
        for replayed in _replays(blocks, first, calls):
            _check_equal(blocks, _tokens(replayed, sequence), _tokens(own, sequence))


def check_outputs(model: PreTrainedModel, replayed: Tensor, own: Tensor) -> None:
    """Refuse to compare outputs of a model whose replayed output is not its own, both as `read_output` gives them.

    Raises:
        LookupError: what follows the blocks reads more than what the last one puts out.
    """
    found, allowed = relative_difference(replayed, own), tolerance(torch.float32, model.dtype)
    if found > allowed:
        raise LookupError(
            f"{type(model).__name__}: its output, computed from what its last block puts out, is not its own (relative "
            f"difference {found:.2g}, allowed {allowed:.1g}). Its head reads more than that, so outputs cannot "
            "be compared; choose another allocation than measured, which optiprune-auto has by itself, and evopress."
        )


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest expected value; infinite where shapes or non-finite places differ.

    >>> relative_difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    0.5
    """
    if found.shape != expected.shape or not found.isfinite().equal(expected.isfinite()):
        return float("inf")
    found, expected = (torch.where(tensor.isfinite(), tensor, 0).double() for tensor in (found, expected))
    largest = expected.abs().max().item() if expected.numel() else 0.0
    moved = (found - expected).abs().max().item() if expected.numel() else 0.0
    return moved / largest if largest else float("inf") if moved else 0.0


def tolerance(*dtypes: torch.dtype) -> float:
    """What the order of sums may come to: the square root of the coarsest dtype's resolution."""
    return max(torch.finfo(dtype).eps for dtype in dtypes) ** 0.5


def _observe(blocks: BlockCalls, sequence: Inputs) -> tuple[Tensor, list[tuple[list[str], set[str]]]]:
    """The model's own forward pass: what leaves the last block; and of each block its matrices, and those read."""
    states: list[Tensor] = []
    read: list[tuple[list[str], set[str]]] = []
    others: set[str] = set()
    with ExitStack() as hooks:
        last = blocks.blocks[blocks.order[-1]]
        hooks.enter_context(last.register_forward_hook(lambda block, args, output: states.append(hidden_of(output))))
        for block in blocks.blocks:
            readers, seen = _readers(block), set()
            for module, names in readers.items():
                hooks.enter_context(module.register_forward_pre_hook(_note(seen, names)))
            read.append(([name for names in readers.values() for name in names], seen))
        for name, stack in block_lists(blocks.model).items():
            for member in stack if name != blocks.prefix else ():
                if len(prunable_layers(member)) > 1:  # a block, and not one of several projections
                    hooks.enter_context(member.register_forward_pre_hook(_note(others, [name])))
        try:
            with blocks.ended_before_the_head():
                blocks.forward(sequence)
        except StopForward:
            pass
    if others:
        raise ValueError(
            f"In {type(blocks.model).__name__}, token ids run through the blocks {blocks.prefix!r} and also through "
            f"{' and '.join(map(repr, sorted(others)))}, which would stay dense. labutils prunes models that "
            "keep all of a block in one module, and all blocks in one list."
        )
    return states[-1], read


def _readers(block: nn.Module) -> dict[nn.Module, list[str]]:
    """The modules that read what a block's matrices read, each with the names of these."""
    found: dict[nn.Module, list[str]] = {}
    for name, layer in prunable_layers(block).items():
        found.setdefault(layer.experts if isinstance(layer, ExpertMatrix) else layer, []).append(name)
    return found


def _note(seen: set[str], names: list[str]):
    return lambda *_: seen.update(names)


def _replays(blocks: BlockCalls, first: Tensor, calls: list[list[Call]]) -> Iterator[Tensor]:
    """What leaves the last block, run twice where a block is called with what it may change, such as a cache."""
    plain = all(isinstance(leaf, PLAIN) for leaf in tree_leaves(calls))
    for _ in range(1 if plain else 2):
        hidden = first
        for block, applied in zip(blocks.blocks, calls, strict=True):
            for args, kwargs in applied:
                hidden = hidden_of(block(hidden, *args, **kwargs))
        yield hidden


def _tokens(states: Tensor, sequence: Inputs) -> Tensor:
    """The states at the sequence's tokens; all where padding cannot be told."""
    mask = sequence.get("attention_mask")
    flat = states.reshape(-1, states.shape[-1])
    return flat if mask is None or mask.numel() != len(flat) else flat[mask.reshape(-1).bool()]


def _check_equal(blocks: BlockCalls, replayed: Tensor, own: Tensor) -> None:
    found, allowed = relative_difference(replayed, own), tolerance(own.dtype, blocks.model.dtype)
    if found > allowed:
        raise LookupError(
            f"{type(blocks.model).__name__}: its {len(blocks.blocks)} blocks {blocks.prefix!r}, run one after the "
            f"other, do not give what the model itself computes (relative difference {found:.2g} in what leaves the "
            f"last, allowed {allowed:.1g}). They are not all that token ids run through there, or hand on more than "
            "their hidden states, so this model cannot be pruned block by block."
        )
