"""What running one block takes, read off a run without data: torch's meta device knows shapes alone.

The model is built anew from its configuration on the meta device, so that neither weights nor activations exist. A
batch is brought to a block as `BlockWalk` does it, and every operation of the block is counted: multiplications, bytes
that pass through memory, and the most bytes that are alive at once.
"""

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import PreTrainedModel

from labutils.models.experts import ExpertMatrix, holds_fused_experts
from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.calibration import BlockWalk


@dataclass(frozen=True)
class Matrix:
    """One weight matrix: its shape, the number of the input that it reads, and the share of tokens that reach it."""

    rows: int
    columns: int
    input: int
    share: float


@dataclass(frozen=True)
class BlockCosts:
    """One block and one batch.

    Attributes:
        matrices: in the order in which they are read; those with the same `input` share statistics.
        products, attention: floating-point operations of matrix products, and of attention.
        traffic: bytes read and written by everything else.
        operations: calls of torch.
        peak: most bytes alive at once that the block itself makes, its output included.
        hidden: bytes of the hidden states that enter it.
        captured: bytes of what else it is called with.
    """

    matrices: tuple[Matrix, ...]
    products: int
    attention: int
    traffic: int
    operations: int
    peak: int
    hidden: int
    captured: int

    @property
    def weights(self) -> int:
        """Prunable weights."""
        return sum(matrix.rows * matrix.columns for matrix in self.matrices)

    @property
    def inputs(self) -> dict[int, tuple[int, float]]:
        """Width and share of tokens of every distinct input."""
        return {matrix.input: (matrix.columns, matrix.share) for matrix in self.matrices}


def trace_block(model: PreTrainedModel, batch: tuple[int, int]) -> tuple[BlockCosts, int]:
    """Costs of a block of a model on the meta device, on a batch (sequences, length); and the number of blocks.

    Raises:
        LookupError: the blocks cannot be found, or run differently depending on data.
    """
    shares = _replace_experts(model)
    try:
        with _Answers():
            walk = BlockWalk(model, torch.zeros(batch, dtype=torch.int64), batch_size=batch[0], prove=False)
        block, hidden = walk.blocks[0], walk.hidden[0]
        reads = _Reads(prunable_layers(block), shares)
        with torch.no_grad(), reads.watching(), _Counter() as counter, _Attention(counter):
            walk.run(0)
    except (NotImplementedError, RuntimeError) as error:
        raise LookupError(
            f"What {type(model).__name__} computes depends on its data ({error}), so its cost cannot be told before."
        ) from error
    captured = {id(tensor): tensor for tensor in tree_leaves(walk.calls[0]) if isinstance(tensor, Tensor)}
    matrices = tuple(reads.matrices())
    routed = sum(2 * m.rows * m.columns * m.share for m in matrices if m.share < 1) * batch[0] * batch[1]
    costs = BlockCosts(
        matrices, counter.products + int(routed), counter.attention, counter.traffic, counter.operations, counter.peak,
        hidden.nbytes, sum(tensor.nbytes for tensor in captured.values()),
    )  # fmt: skip
    return costs, len(walk.blocks)


def _replace_experts(model: PreTrainedModel) -> float:
    """Let fused experts, whose work depends on the router's choice, hand on their input; returns a token's share.

    Every token counts for k of the E experts.
    """
    config, share = model.config, 1.0
    for module in model.modules():
        if holds_fused_experts(module):
            module.forward = lambda hidden, *_: torch.empty_like(hidden)
            share = getattr(config, "num_experts_per_tok", module.num_experts) / module.num_experts
    return share


class _Reads:
    """Which layers of a block read the same tensor, by watching one run."""

    def __init__(self, layers: dict, share: float):
        self.layers, self.share = layers, share
        self.seen: list[Tensor] = []
        self.input_of: dict[str, int] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow one run of the block while this lasts."""
        with ExitStack() as hooks:
            for name, layer in self.layers.items():
                if not isinstance(layer, ExpertMatrix):
                    hooks.enter_context(layer.register_forward_pre_hook(self._watch(name)))
            yield

    def _watch(self, name: str):
        def note(layer: nn.Module, args: tuple) -> None:
            found = next((number for number, tensor in enumerate(self.seen) if tensor is args[0]), len(self.seen))
            if found == len(self.seen):
                self.seen.append(args[0])
            self.input_of[name] = found

        return note

    def matrices(self) -> Iterable[Matrix]:
        """All layers; every matrix of an expert has an input of its own."""
        order = {name: place for place, name in enumerate(self.input_of)}
        for number, name in enumerate(sorted(self.layers, key=lambda name: order.get(name, len(order)))):
            rows, columns = weight_matrix(self.layers[name]).shape
            expert = isinstance(self.layers[name], ExpertMatrix)
            known = self.input_of.get(name, len(self.seen) + number)
            yield Matrix(rows, columns, known, self.share if expert else 1.0)


class _Answers(TorchDispatchMode):
    """Answers with yes where a model asks about data: whether nothing is padded, whether no sequences are packed."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            return True
        return func(*args, **(kwargs or {}))


class _Counter(_Answers):
    """Counts what is done, and follows which bytes are alive."""

    def __init__(self):
        super().__init__()
        self.products = self.attention = self.traffic = self.operations = self.peak = self._alive = 0
        self._holders: Counter[int] = Counter()
        self._given: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        inputs = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        self._given |= {key for each in inputs if (key := _storage(each)) not in self._holders}
        out = super().__torch_dispatch__(func, types, args, kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        for tensor in made:
            self._follow(tensor)
        flops = flop_registry.get(func.overloadpacket)
        count = flops(*args, **(kwargs or {}), out_val=out) if flops else 0
        self.products += count
        if not func.is_view and not flops:
            self.traffic += sum(tensor.nbytes for tensor in (*inputs, *made))
        self.operations += 1
        return out

    def _follow(self, tensor: Tensor) -> None:
        key, size = _storage(tensor), tensor.untyped_storage().nbytes()
        if key in self._given:
            return
        if not self._holders[key]:
            self._alive += size
            self.peak = max(self.peak, self._alive)
        self._holders[key] += 1
        weakref.finalize(tensor, self._let_go, key, size)

    def _let_go(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self._alive -= size


class _Attention(TorchFunctionMode):
    """Counts fused attention, which never holds the scores of all pairs; a causal one does half of the work."""

    def __init__(self, counter: _Counter):
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args[:3]
        pairs = query.shape[-2] * key.shape[-2] / (2 if (kwargs or {}).get("is_causal") else 1)
        self.counter.attention += int(2 * query[..., 0, 0].numel() * pairs * (query.shape[-1] + value.shape[-1]))
        return query.new_empty(*query.shape[:-1], value.shape[-1])


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
