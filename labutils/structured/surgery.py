"""Take units out of a model: a smaller one of the same class, which transformers builds from its configuration alone.

The new configuration is built first, without memory for weights, and every shape of it compared with what is left of
the old tensors: what an architecture cannot express is refused there. The result is then compared, on one sequence,
with the dense model whose units are switched off. The dense model is never changed.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from labutils.checkpoints.skeleton import build_from_config
from labutils.checkpoints.storable import Storable
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_finite, find_blocks
from labutils.pruning.proof import relative_difference, tolerance
from labutils.structured.anatomy import Anatomy, read_anatomies
from labutils.structured.checks import check_removal
from labutils.structured.configuration import smaller_config
from labutils.structured.masking import masked
from labutils.structured.removal import Removal
from labutils.structured.slices import Cut, block_cuts, common_widths, cut

EXPRESSIBLE = (
    "Whole blocks, and neurons of the feed-forward parts, can be taken out of most architectures; key-value groups "
    "only where the configuration has entries for their number and for the size of a head, and leave only numbers that "
    "it accepts: labutils.structured.expressible_groups(model) tells them."
)


@dataclass(frozen=True)
class Plan:
    """A smaller model before it is made: its configuration, its shapes, and where each of its tensors comes from.

    Attributes:
        skeleton: without weights.
        sources: its entries → the dense model's entry, or None for a bias of zeros, and how that is cut.
        widths: neurons, groups and experts of every block, after padding; None where none were taken out.
    """

    config: PreTrainedConfig
    skeleton: PreTrainedModel
    sources: dict[str, tuple[str | None, Cut | None]]
    widths: dict[str, int | None]

    @property
    def parameters(self) -> int:
        """Of the smaller model; tied ones count once."""
        return sum(parameter.numel() for parameter in self.skeleton.parameters())

    @property
    def megabytes(self) -> float:
        """Of its weights, in memory as in a file."""
        return sum(p.numel() * p.element_size() for p in self.skeleton.parameters()) / 1e6


def plan_surgery(
    model: PreTrainedModel,
    removal: Removal,
    anatomies: Sequence[Anatomy] | None = None,
    *,
    biases: frozenset[str] = frozenset(),
    n_groups: int | None = None,
) -> Plan:
    """What the smaller model will be, without making it.

    >>> plan_surgery(model, Removal(blocks=(3,))).parameters

    Args:
        biases, n_groups: as in `carve`.

    Raises:
        ValueError: units that are not there, or that leave nothing.
        LookupError: the architecture cannot express it; the message says what it can.
    """
    anatomies = anatomies or read_anatomies(model)
    prefix, blocks = find_blocks(model)
    check_removal(removal, blocks, anatomies, model.config)
    kept, widths = removal.kept_blocks(len(blocks)), common_widths(removal, anatomies)
    if n_groups is not None and widths["groups"] is not None:
        widths["groups"] = max(widths["groups"], n_groups)
    first = next((own for block in kept if (own := anatomies[block].attention)), None) if widths["groups"] else None
    own = model.state_dict()
    lacking = tuple(
        f"{part}_bias"
        for part in sorted(biases)
        if f"{prefix}.{kept[0]}.{_out(anatomies[kept[0]], part)}.bias" not in own
    )
    try:
        config = smaller_config(
            model.config, kept, len(blocks), width=widths["neurons"], experts=widths["experts"], biases=lacking,
            groups=first and (widths["groups"], first.n_queries, first.head_dim),
        )  # fmt: skip
        skeleton = build_from_config(type(model), config, model.dtype)
    except LookupError:
        raise
    except Exception as error:  # whatever a configuration or a model of transformers raises on sizes it cannot have
        said = " ".join(str(error).split()).rstrip(".!")
        raise LookupError(f"{type(model.config).__name__} cannot express it: {said}. {EXPRESSIBLE}") from error
    cuts = {block: block_cuts(removal, anatomies[block], blocks[block], block, widths) for block in kept}
    sources = _sources(skeleton, own, prefix, kept, cuts)
    _check_shapes(skeleton, own, sources, may_add_biases=bool(lacking))
    return Plan(config, skeleton, sources, widths)


def carve(
    model: PreTrainedModel,
    removal: Removal,
    anatomies: Sequence[Anatomy] | None = None,
    *,
    biases: frozenset[str] = frozenset(),
    n_groups: int | None = None,
) -> PreTrainedModel:
    """A model of its own without the units, in evaluation mode; the dense model stays as it is.

    >>> smaller = carve(model, Removal(blocks=(3,), neurons={0: (1, 2)}))
    >>> smaller.save_pretrained("smaller")  # transformers loads the folder as any other

    Blocks that lose fewer units than others keep as many neurons or groups as the widest, the rest of them zero: a
    configuration has one width for all blocks.

    Args:
        biases: "attention" and "mlp", whose last matrices shall have a bias; where there was none it is zero.
        n_groups: where groups go, pad every block to at least so many; a configuration cannot express every number.

    Raises:
        ValueError, LookupError: as `plan_surgery`; a model that holds adapters or quantised weights; or the smaller
            model does not compute what the dense one does with these units switched off.
    """
    anatomies = anatomies or read_anatomies(model)
    Storable(model)  # refuses adapters, quantised weights, and what else no folder could hold
    check_finite(model)
    plan = plan_surgery(model, removal, anatomies, biases=biases, n_groups=n_groups)
    prefix, blocks = find_blocks(model)
    own, device = model.state_dict(), device_of(model)
    with torch.no_grad():
        shapes = plan.skeleton.state_dict()
        state = {name: _made(own, source, shapes[name]) for name, source in plan.sources.items()}
        kept = removal.kept_blocks(len(blocks))
        for block, part in removal.sublayers:
            if block in kept:
                _silence(state, f"{prefix}.{kept.index(block)}", anatomies[block], part)
    smaller = plan.skeleton
    smaller.load_state_dict(state, strict=False, assign=True)
    missing = set(shapes) - set(state)
    smaller.tie_weights(missing_keys=missing, recompute_mapping=False)
    smaller = smaller.to(device).eval()
    if isinstance(generation := getattr(model, "generation_config", None), GenerationConfig):
        smaller.generation_config = copy.deepcopy(generation)
    _prove(model, smaller, removal, anatomies)
    return smaller


def expressible_groups(model: PreTrainedModel, anatomies: Sequence[Anatomy] | None = None) -> list[int]:
    """Numbers of key-value groups, equal in all blocks, that the architecture can express; the last is the model's own.

    >>> expressible_groups(llama_3)  # 8 groups of 4 heads: hidden_size must be a multiple of the number of heads
    [1, 2, 4, 8]

    Raises:
        LookupError: a block whose groups cannot be told, or blocks that have unequally many.
    """
    anatomies = anatomies or read_anatomies(model)
    counts = {anatomy.attention.n_groups if anatomy.attention else 0 for anatomy in anatomies}
    if len(counts) > 1 or 0 in counts:
        raise LookupError(f"the blocks of a {type(model).__name__} have no equal numbers of key-value groups to take.")
    count = counts.pop()
    return [left for left in range(1, count) if _expresses(model, anatomies, left, count)] + [count]


def _expresses(model: PreTrainedModel, anatomies: Sequence[Anatomy], left: int, count: int) -> bool:
    try:
        plan_surgery(
            model, Removal(groups={block: tuple(range(left, count)) for block in range(len(anatomies))}), anatomies
        )
    except LookupError:
        return False
    return True


def _out(anatomy: Anatomy, part: str) -> str:
    found = anatomy.attention if part == "attention" else anatomy.mlp
    return found.out if found else ""


def _sources(
    skeleton: PreTrainedModel, own: Mapping[str, Tensor], prefix: str, kept: list[int], cuts: dict[int, dict[str, Cut]]
) -> dict[str, tuple[str | None, Cut | None]]:
    tied = set(getattr(skeleton, "all_tied_weights_keys", {}) or {})
    found: dict[str, tuple[str | None, Cut | None]] = {}
    for name in skeleton.state_dict():
        if name in tied:
            continue
        if not name.startswith(f"{prefix}."):
            found[name] = (name if name in own else None, None)
            continue
        number, _, rest = name.removeprefix(f"{prefix}.").partition(".")
        block = kept[int(number)]
        old = f"{prefix}.{block}.{rest}"
        found[name] = (old if old in own else None, cuts[block].get(rest))
    return found


def _check_shapes(
    skeleton: PreTrainedModel,
    own: Mapping[str, Tensor],
    sources: dict[str, tuple[str | None, Cut | None]],
    *,
    may_add_biases: bool,
) -> None:
    """Refuse what the configuration gives other shapes than what is left."""
    wanted = skeleton.state_dict()
    for name, (old, how) in sources.items():
        shape = tuple(wanted[name].shape)
        if old is None:
            if may_add_biases and name.endswith("bias"):
                continue
            raise LookupError(
                f"a {type(skeleton).__name__} without these units has a tensor {name}, which the dense model has not "
                "at that place: the blocks are not alike, and this architecture's configuration cannot say so. Take "
                "out other blocks."
            )
        left = list(own[old].shape)
        if how is not None:
            left[how.dimension] = len(how.places)
        if tuple(left) != shape:
            raise LookupError(
                f"{type(skeleton.config).__name__} cannot express it: {name} would have the shape {tuple(left)}, but "
                f"the configuration that says so gives it {shape}. {EXPRESSIBLE}"
            )


def _made(own: Mapping[str, Tensor], source: tuple[str | None, Cut | None], wanted: Tensor) -> Tensor:
    old, how = source
    if old is None:
        return torch.zeros(wanted.shape, dtype=wanted.dtype)
    return cut(own[old], how) if how is not None else own[old].clone()


def _silence(state: dict[str, Tensor], block: str, anatomy: Anatomy, part: str) -> None:
    """Set what writes a sublayer's output to zero."""
    start = f"{block}.{_out(anatomy, part)}" if _out(anatomy, part) else f"{block}.{anatomy.experts.module}.down_proj"
    for name in [name for name in state if name.startswith(start)]:
        state[name] = torch.zeros_like(state[name])


def _prove(model: PreTrainedModel, smaller: PreTrainedModel, removal: Removal, anatomies: Sequence[Anatomy]) -> None:
    """Refuse a smaller model that does not compute what the dense one does with the units switched off."""
    size = model.get_input_embeddings().weight.shape[0]
    length = min(24, getattr(model.config, "max_position_embeddings", None) or 24)
    tokens = torch.randint(size, (1, length), generator=torch.Generator().manual_seed(0)).to(device_of(model))
    with eval_mode(model), masked(model, removal, anatomies):
        expected = model(input_ids=tokens)[0]
    with eval_mode(smaller):
        found = smaller(input_ids=tokens)[0]
    difference, allowed = relative_difference(found, expected), tolerance(model.dtype)
    if difference > allowed:
        raise LookupError(
            f"the smaller {type(model).__name__} does not compute what the dense one does with these units switched "
            f"off (relative difference {difference:.2g}, allowed {allowed:.1g}). Its parts are put together in a way "
            "that labutils cannot take apart, or depend on the number of their block."
        )
