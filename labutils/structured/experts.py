"""`drop_experts`: mixtures of experts with fewer of them.

REAP (Cerebras 2025): an expert's score is the mean, over the tokens routed to it, of its routing weight times the norm
of its output; the weights are divided by the sum of the chosen ones. The lowest go, equally many in every block. The
softmax over the experts that stay renormalises by itself.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.models.experts import expert_inputs
from labutils.models.wrappers import bare_model
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.inputs import Calibration
from labutils.pruning.registry import Registry
from labutils.structured.anatomy import Anatomy, read_anatomies
from labutils.structured.removal import Removal
from labutils.structured.report import ShrinkReport, Smaller, count_all, count_blocks
from labutils.structured.surgery import carve
from labutils.structured.unit_allocation import lowest
from labutils.structured.unit_scores import check_scores


@dataclass
class Use:
    """What a calibration says about the experts of one block, summed over the tokens routed to each.

    Attributes:
        tokens: how many; `gates` Σ g; `norms` Σ ‖f(x)‖₂, before the routing weight; `weighted` Σ g ‖f(x)‖₂.
    """

    tokens: Float[Tensor, " experts"]
    gates: Float[Tensor, " experts"]
    norms: Float[Tensor, " experts"]
    weighted: Float[Tensor, " experts"]


Function = Callable[[Use], Float[Tensor, " experts"]]
EXPERT_SCORES: Registry[Function] = Registry("score of experts")


def register_expert_score(name: str) -> Callable[[Function], Function]:
    """Register a score of experts, higher for those that stay; `drop_experts` takes its name from then on.

    >>> register_expert_score("mean gate")(lambda use: use.gates / use.tokens.clamp_min(1))
    """

    def add(function: Function) -> Function:
        EXPERT_SCORES.add(name, function)
        return function

    return add


@register_expert_score("reap")
def reap(use: Use) -> Float[Tensor, " experts"]:
    """Mean of g ‖f‖ over the tokens routed to an expert; 0 where there are none."""
    return use.weighted / use.tokens.clamp_min(1)


@register_expert_score("mean-norm")
def mean_norm(use: Use) -> Float[Tensor, " experts"]:
    """Mean of ‖f‖ over the tokens routed to an expert, the gate left out (arXiv 2606.15716)."""
    return use.norms / use.tokens.clamp_min(1)


@register_expert_score("router-weighted")
def router_weighted(use: Use) -> Float[Tensor, " experts"]:
    """Σ g: how much the router gives to an expert over all tokens."""
    return use.gates.clone()


@register_expert_score("frequency")
def frequency(use: Use) -> Float[Tensor, " experts"]:
    """Tokens routed to an expert."""
    return use.tokens.clone()


def read_use(walk: BlockWalk, anatomies: Sequence[Anatomy]) -> dict[int, Use]:
    """How the experts of every mixture are used by the dense model, in one pass of the walk; padding is left out."""
    walk.rewind()
    found: dict[int, Use] = {}
    for index, anatomy in enumerate(anatomies):
        hidden, after = walk.hidden, []
        for batch, states in enumerate(hidden):
            if anatomy.experts is None:
                after.append(walk.run_block(index, batch, states))
                continue
            use = found.setdefault(index, Use(*torch.zeros((4, anatomy.experts.count), dtype=torch.float64)))
            module = walk.block(index).get_submodule(anatomy.experts.module)
            with module.register_forward_pre_hook(_note(use, walk.batch_inputs(batch))):
                after.append(walk.run_block(index, batch, states))
        walk.hidden = after
    walk.rewind()
    return found


def _note(use: Use, inputs: dict[str, Tensor]):
    mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool().reshape(-1)

    def note(module: nn.Module, args: tuple) -> None:
        tokens, chosen, gates = (value.reshape(-1, value.shape[-1])[mask] for value in args[:3])
        gates = gates / gates.sum(dim=-1, keepdim=True)
        for name, inner in expert_inputs(module, tokens, chosen):
            if not name.startswith("down_proj["):
                continue
            expert = int(name.removeprefix("down_proj[").removesuffix("]"))
            weight = module.down_proj[expert]
            bias = module.down_proj_bias[expert] if module.has_bias else None
            output = nn.functional.linear(inner, weight.T if module.is_transposed else weight, bias)
            norms = output.norm(dim=-1).double().cpu()
            routed = (chosen == expert).any(dim=-1)
            own = (gates * (chosen == expert)).sum(dim=-1)[routed].double().cpu()
            use.tokens[expert] += len(norms)
            use.gates[expert] += own.sum()
            use.norms[expert] += norms.sum()
            use.weighted[expert] += (own * norms).sum()

    return note


def drop_experts(
    model: nn.Module, calibration: Calibration, *, n_experts: int, method: str = "reap", batch_size: int = 8
) -> Smaller:
    """A model whose mixtures have fewer experts; the dense one stays as it is.

    >>> smaller, report = lab.drop_experts(model, tokens, n_experts=2)

    Args:
        calibration: as in `prune`.
        n_experts: how many go from every mixture.
        method: "reap", "mean-norm", "router-weighted", "frequency", or a score that was registered.

    Raises:
        ValueError: more than can go, a calibration that cannot be used, or scores that are not finite.
        LookupError: no mixture of fused experts, an unknown method, or experts chosen group by group.
    """
    started, model = time.perf_counter(), bare_model(model)
    score, anatomies = EXPERT_SCORES[method], read_anatomies(model)
    count = check_mixtures(model, anatomies, n_experts)
    scores = {
        index: torch.as_tensor(score(use)).double()
        for index, use in read_use(BlockWalk(model, calibration, batch_size=batch_size), anatomies).items()
    }
    for index, own in scores.items():
        check_scores(own, (count,), f"the score of the experts of block {index}")
    removal = Removal(experts={index: tuple(lowest(own, n_experts)) for index, own in scores.items()})
    smaller = carve(model, removal, anatomies)
    rows = [
        (index, unit, value, unit in removal.experts[index])
        for index, own in scores.items()
        for unit, value in enumerate(own.tolist())
    ]
    before, after, whole = count_all(model), count_all(smaller), count_blocks(model)
    share = (before - after) / whole
    table = pd.DataFrame(rows, columns=["block", "expert", "score", "removed"])
    widths = {"neurons": None, "groups": None, "experts": count - n_experts}
    asked = {"method": method, "n_experts": n_experts}
    report = ShrinkReport(removal, table, before, after, share, share, widths, asked)
    return Smaller(smaller, replace(report, seconds=time.perf_counter() - started))


def check_mixtures(model: PreTrainedModel, anatomies: Sequence[Anatomy], n_experts: int) -> int:
    """How many experts a mixture of the model has; ValueError and LookupError as `drop_experts`."""
    mixtures = [anatomy.experts for anatomy in anatomies if anatomy.experts]
    if not mixtures:
        raise LookupError(f"a {type(model).__name__} has no mixture of experts in the form that transformers fuses.")
    if isinstance(n_experts, bool) or not isinstance(n_experts, int) or not 0 < n_experts < mixtures[0].count:
        raise ValueError(f"n_experts={n_experts!r} must be a whole number from 1 to {mixtures[0].count - 1}.")
    return mixtures[0].count
