"""Where a block's norms stand: before its sublayers, as in most of today's models, or behind them on the stream."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.pruning.calibration import BlockWalk
from labutils.structured.anatomy import Anatomy, out_layers, read_anatomies, zero_output
from labutils.structured.removal import PARTS

SCALE = 8.0  # of what enters a block, whose mean square is one first: the ε of norms then makes no difference
ALLOWED = 0.05  # relative change of what a sublayer reads


def is_pre_norm(model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"]) -> bool:
    """Whether every block normalises what its sublayers read, and leaves the residual stream itself as it is.

    >>> is_pre_norm(model, tokens)  # True of Llama and GPT-2, False of BERT

    No name is looked at. With both sublayers silent a pre-norm block hands its input on unchanged, which one that
    normalises the stream (the first Transformer, BERT) does not; and what the sublayers then read is the same when the
    input is eight times as large, which it is not where they read the stream itself (OLMo 2).

    Raises:
        LookupError: a block whose attention or feed-forward part cannot be told.
    """
    walk, anatomies = BlockWalk(model, tokens[:1]), read_anatomies(model)
    for index, anatomy in enumerate(anatomies):
        block, hidden = walk.block(index), walk.hidden[0]
        with _silent(block, anatomy) as read:
            same = torch.equal(walk.run_block(index, 0, hidden), hidden)
            even = hidden / hidden.float().square().mean().sqrt().clamp_min(1e-30).to(hidden.dtype)
            walk.run_block(index, 0, even)
            once = dict(read)
            walk.run_block(index, 0, SCALE * even)
        if not same or any(_moved(once[part], read[part]) > ALLOWED for part in once):
            return False
        walk.advance(index)
    return True


@contextmanager
def _silent(block: nn.Module, anatomy: Anatomy) -> Iterator[dict[str, Tensor]]:
    """Within it both sublayers add nothing; yields what each of them read last."""
    read: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for part in PARTS:
            for module in out_layers(block, anatomy, part):
                hooks.enter_context(module.register_forward_hook(zero_output))
            hooks.enter_context(_first(block, anatomy, part).register_forward_pre_hook(_note(read, part)))
        yield read


def _first(block: nn.Module, anatomy: Anatomy, part: str) -> nn.Module:
    if part == "mlp" and anatomy.mlp is None:
        return block.get_submodule(anatomy.experts.module)
    makers = anatomy.attention.makers if part == "attention" else [name for name, _ in anatomy.mlp.makers]
    return block.get_submodule(makers[0])


def _note(read: dict[str, Tensor], part: str):
    return lambda module, args: read.__setitem__(part, args[0].detach().clone())


def _moved(before: Tensor, after: Tensor) -> float:
    return ((after - before).norm() / before.norm().clamp_min(1e-30)).item()
