"""One part of one block as scores see it: its units, the matrices that make and read them, what they put out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labutils.models.structure import Layer, all_finite, prunable_layers, weight_matrix
from labutils.pruning.calibration import BlockWalk
from labutils.structured.anatomy import Anatomy

KINDS = {"neurons": "mlp", "groups": "attention"}


@dataclass
class Activations:
    """Running sums over what the last matrix of a part reads, without padding, in double precision on the CPU.

    Attributes:
        pairs: channels whose products are summed: those in runs of so many (a unit's own), 0 for none.
        count, n_sequences: tokens, and sequences that have any.
        total, squares: Σ x and Σ x² per channel.
        squared_means: Σ over sequences of the square of the mean of |x| over a sequence's tokens.
        sequence_norms: Σ over sequences of the norm over a sequence's tokens.
        products: Σ x xᵀ within each run of `pairs` channels, [runs, pairs, pairs].
    """

    pairs: int = 0
    count: int = 0
    n_sequences: int = 0
    total: Float[Tensor, " width"] | float = 0.0
    squares: Float[Tensor, " width"] | float = 0.0
    squared_means: Float[Tensor, " width"] | float = 0.0
    sequence_norms: Float[Tensor, " width"] | float = 0.0
    products: Float[Tensor, "runs pairs pairs"] | float = 0.0

    def add(self, sequence: Float[Tensor, "tokens width"]) -> None:
        """The tokens of one more sequence; one without tokens counts for nothing."""
        if not len(sequence):
            return
        x = sequence.double()
        squares = x.square().sum(dim=0).cpu()
        self.count += len(x)
        self.n_sequences += 1
        self.total = self.total + x.sum(dim=0).cpu()
        self.squares = self.squares + squares
        self.squared_means = self.squared_means + x.abs().mean(dim=0).square().cpu()
        self.sequence_norms = self.sequence_norms + squares.sqrt()
        if self.pairs > 1:
            own = sequence if sequence.dtype == torch.float64 else sequence.float()
            runs = own.T.reshape(-1, self.pairs, len(own))
            self.products = self.products + (runs @ runs.mT).double().cpu()

    @property
    def gram(self) -> Float[Tensor, "width width"]:
        """Σ x xᵀ of all channels, where all were taken in pairs."""
        if self.pairs != len(self.squares):
            raise ValueError(f"products of {self.pairs} channels were summed, not of all {len(self.squares)} in pairs.")
        return self.squares.diag() if self.pairs == 1 else self.products[0]

    @property
    def mean(self) -> Float[Tensor, " width"]:
        """Of each channel over all tokens."""
        return self.total / self.count

    @property
    def variance(self) -> Float[Tensor, " width"]:
        """Of each channel over all tokens, divided by their number."""
        return (self.squares / self.count - self.mean.square()).clamp_min(0)


@dataclass(frozen=True)
class View:
    """The units of one kind in one block.

    Attributes:
        block: its number; `kind` is "neurons" or "groups"; `count` units of `width` channels each.
        cost: parameters that go with a unit.
        out: the last matrix's weights, (hidden × channels).
        makers: the rows that make each unit, of all matrices together: (units × entries).
        activations: what `out` reads.
        maker_gradients, out_gradients: of the calibration's loss, where they were asked for; as `makers` and `out`.
    """

    block: int
    kind: str
    count: int
    width: int
    cost: int
    out: Float[Tensor, "hidden channels"]
    makers: Float[Tensor, "units entries"]
    activations: Activations
    maker_gradients: Float[Tensor, "units entries"] | None = None
    out_gradients: Float[Tensor, "hidden channels"] | None = None

    @property
    def moments(self) -> Float[Tensor, "units width width"]:
        """Σ x xᵀ of each unit's channels; of units of one channel their squares."""
        own = self.activations
        if self.width == 1:
            return own.squares[:, None, None]
        if own.pairs != self.width:
            raise ValueError("a score that reads `moments` must be registered with moments=True.")
        return own.products

    def per_unit(self, channels: Float[Tensor, " channels"]) -> Float[Tensor, "units width"]:
        """Values of channels, a row for each unit."""
        return channels.reshape(self.count, self.width)


def walk_activations(
    walk: BlockWalk, anatomies: Sequence[Anatomy], kinds: Sequence[str], *, pairs: str = "none"
) -> Iterator[tuple[tuple[int, str], Activations]]:
    """What the units of these kinds put out in the dense model: block by block, in one pass of the walk.

    Args:
        pairs: channels whose products are summed: "none", those of a "unit", or "all" of a part.

    Raises:
        ValueError: what a block puts out is not finite.
    """
    walk.rewind()
    for index, anatomy in enumerate(anatomies):
        parts = {kind: part for kind in kinds if (part := getattr(anatomy, KINDS[kind]))}
        found = {kind: Activations(_pairs(kind, part, pairs)) for kind, part in parts.items()}
        after = []
        for batch, states in enumerate(walk.hidden):
            with ExitStack() as hooks:
                for kind, part in parts.items():
                    layer = walk.block(index).get_submodule(part.out)
                    note = _note(found[kind], walk.batch_inputs(batch))
                    hooks.enter_context(layer.register_forward_pre_hook(note))
                after.append(walk.run_block(index, batch, states))
        walk.hidden = after
        for kind, own in found.items():
            if not all_finite(own.squares):
                raise ValueError(f"what the {kind} of block {index} put out is not finite on the calibration.")
            yield (index, kind), own
    walk.rewind()


def _pairs(kind: str, part: object, pairs: str) -> int:
    width = 1 if kind == "neurons" else part.width
    return {"none": 0, "unit": width, "all": part.width * (1 if kind == "neurons" else part.n_groups)}[pairs]


def _note(activations: Activations, inputs: dict[str, Tensor]):
    shape = inputs["input_ids"].shape
    mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()

    def note(layer: nn.Module, args: tuple) -> None:
        for sequence, kept in zip(args[0].reshape(*shape, -1), mask, strict=True):
            activations.add(sequence[kept])

    return note


def make_view(
    block: nn.Module,
    index: int,
    anatomy: Anatomy,
    kind: str,
    activations: Activations,
    gradients: dict[str, Tensor] | None = None,
) -> View:
    """The view of one kind of units in one block.

    Args:
        gradients: of the block's matrices, by name, as (out × in).
    """
    layers, part = prunable_layers(block), getattr(anatomy, KINDS[kind])
    rows = unit_rows(anatomy, kind, layers)
    hidden = weight_matrix(layers[part.out]).shape[0]
    units, width = (part.width, 1) if kind == "neurons" else (part.n_groups, part.width)
    makers = [weight_matrix(layers[name]).float().cpu()[places].flatten(1) for name, places in rows]
    biases = sum(places.shape[1] for name, places in rows if layers[name].bias is not None)
    cost = sum(own.shape[1] for own in makers) + biases + width * hidden
    found = None
    if gradients is not None:
        found = torch.cat([gradients[name][places].flatten(1) for name, places in rows], dim=1)
    return View(
        index, kind, units, width, cost, weight_matrix(layers[part.out]).float().cpu(), torch.cat(makers, dim=1),
        activations, found, gradients and gradients[part.out],
    )  # fmt: skip


def unit_rows(anatomy: Anatomy, kind: str, layers: Mapping[str, Layer]) -> list[tuple[str, Tensor]]:
    """Of each matrix that makes units: its name, and the rows of every unit, [units, rows]."""
    if kind == "neurons":
        units = torch.arange(anatomy.mlp.width)
        return [
            (name, torch.stack([units + copy * anatomy.mlp.width for copy in range(copies)], dim=1))
            for name, copies in anatomy.mlp.makers
        ]
    own = anatomy.attention
    queries = torch.arange(own.n_groups * own.width).reshape(own.n_groups, -1)
    keys = torch.arange(own.n_groups * own.head_dim).reshape(own.n_groups, -1)
    if len(own.makers) == 1:
        first = queries.numel()
        return [(own.makers[0], torch.cat([queries, keys + first, keys + first + keys.numel()], dim=1))]
    counts = {name: weight_matrix(layers[name]).shape[0] for name in own.makers}
    return [(name, queries if counts[name] == queries.numel() else keys) for name in own.makers]
