"""Mixtures of experts: the experts' weight matrices, what each of them reads, and the routers that choose.

transformers keeps all experts of a block in one module with one 3-d parameter per projection. Attributes of the module
say how they are kept (transposed, with a bias, with a gate), and it is called with the tokens and, for each token, the
experts chosen for it. Every slice of such a parameter counts as a matrix of its own, whose inputs are the tokens routed
to its expert; the routing weights, which scale an expert's output, do not enter.

Routers are not pruned, as in the work on sparse mixtures (MoE-Pruner, Xie et al. 2024): they are a vanishing share of
the weights, and what they choose decides which weights are used at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from labutils.models.wrappers import base_layer, base_modules

DESCRIPTION = ("num_experts", "has_gate", "has_bias", "is_transposed", "_apply_gate")  # of a module of fused experts


@dataclass(frozen=True)
class ExpertMatrix:
    """One expert's slice of a fused parameter.

    Attributes:
        experts: the module that holds the parameter.
        parameter: the parameter's name in it.
        index: which expert.
    """

    experts: nn.Module
    parameter: str
    index: int

    @property
    def name(self) -> str:
        """The slice's name in its module, as Python would address it."""
        return f"{self.parameter}[{self.index}]"

    @property
    def weight(self) -> Float[Tensor, "rows columns"]:
        """The slice as it is stored, a view that writes through; (in × out) where the module is transposed."""
        return getattr(self.experts, self.parameter).data[self.index]

    @property
    def transposed(self) -> bool:
        """Whether `weight` is stored (in × out)."""
        return self.experts.is_transposed


def holds_fused_experts(module: nn.Module) -> bool:
    """Whether a module keeps all experts of a block in 3-d parameters, in the form that transformers describes."""
    return "num_experts" in vars(module) and all(hasattr(module, attribute) for attribute in DESCRIPTION)


def expert_matrices(experts: nn.Module) -> list[ExpertMatrix]:
    """The matrices of a module of fused experts, expert by expert."""
    names = _projections(experts)
    return [ExpertMatrix(experts, name, index) for index in range(experts.num_experts) for name in names]


def expert_inputs(
    experts: nn.Module, tokens: Float[Tensor, "tokens width"], chosen: Int[Tensor, "tokens k"]
) -> Iterator[tuple[str, Float[Tensor, "routed in"]]]:
    """What each matrix of the experts reads: its name in the module, and its inputs, for experts that got tokens.

    An expert's second projection reads what its first one and the activation make of the tokens, so these are computed
    here, expert by expert, whatever way the module itself takes.

    Args:
        tokens: the hidden states that enter the module.
        chosen: the experts that each token is routed to.
    """
    first, second = _projections(experts)
    for index in range(experts.num_experts):
        routed = tokens[(chosen == index).any(dim=-1)]
        if len(routed):
            yield f"{first}[{index}]", routed
            yield f"{second}[{index}]", _inner_states(experts, first, index, routed)


def find_routers(block: nn.Module) -> set[nn.Module]:
    """The linear layers that choose among a block's experts, which stay dense.

    A router stands alone beside the experts and has one output for each of them, or a single one (the gate of an
    expert that all tokens share). Routers that are no linear layers of their own are not prunable in any case.
    """
    routers = set()
    for _, owner in base_modules(block):
        children = [base_layer(child) for child in owner.children()]
        counts = {count for child in children if (count := _count_experts(child))}
        for child in children if counts else ():
            linear = [module for _, module in base_modules(child) if isinstance(module, nn.Linear)]
            if len(linear) == 1 and linear[0].out_features in counts | {1}:
                routers.add(linear[0])
    return routers


def holds_experts(block: nn.Module) -> bool:
    """Whether a block is, or may be, a mixture of experts, so that some of its matrices may see no token."""
    return bool(expert_containers(block))


def expert_containers(block: nn.Module) -> list[str]:
    """The names of what holds a block's experts; nothing outside these may see no token."""
    return [name for name, module in base_modules(block) if _count_experts(module)]


def check_fused_parameters(block: nn.Module, name: str) -> None:
    """Refuse a block whose weights are fused in a way that is not known here: they would silently stay dense.

    Raises:
        LookupError: naming the parameter, its shape and the class of its module.
    """
    for path, module in base_modules(block):
        if holds_fused_experts(module) or isinstance(module, nn.modules.conv._ConvNd):
            continue
        for parameter_name, parameter in module.named_parameters(prefix=f"{name}.{path}", recurse=False):
            if sum(size > 1 for size in parameter.shape) > 2:
                raise LookupError(
                    f"{parameter_name} fuses several matrices in one parameter of shape {tuple(parameter.shape)}, and "
                    f"labutils does not know what {type(module).__name__} multiplies with each of them. It prunes "
                    "linear layers, and experts in the form of transformers' experts interface (as Mixtral's)."
                )


def _projections(experts: nn.Module) -> tuple[str, str]:
    return "gate_up_proj" if experts.has_gate else "up_proj", "down_proj"


def _inner_states(
    experts: nn.Module, first: str, index: int, routed: Float[Tensor, "routed in"]
) -> Float[Tensor, "routed inner"]:
    """What the first projection and the activation of one expert make of its tokens."""
    weight = getattr(experts, first)[index]
    bias = getattr(experts, f"{first}_bias")[index] if experts.has_bias else None
    states = nn.functional.linear(routed, weight.T if experts.is_transposed else weight, bias)
    return experts._apply_gate(states) if experts.has_gate else experts.act_fn(states)


def _count_experts(module: nn.Module) -> int:
    """How many experts a module holds, fused or in a list of modules; 0 for any other module."""
    if holds_fused_experts(module):
        return module.num_experts
    if not isinstance(module, nn.ModuleList | nn.ModuleDict) or len(module) < 2:
        return 0
    members = [base_layer(child) for child in module.children()]
    linear = all(any(isinstance(part, nn.Linear) for part in member.modules()) for member in members)
    return len(members) if linear and len({type(member) for member in members}) == 1 else 0
