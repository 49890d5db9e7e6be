"""Which places of a pruned model are zero for good, and which of its parameters a recovery may train."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from jaxtyping import Bool
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from labutils.core.options import suggest
from labutils.models.structure import find_blocks

Places = Mapping[str, Bool[Tensor, "..."]]
ALL, LORA = "all", "lora"


def kept_places(model: PreTrainedModel, dense: PreTrainedModel | None = None) -> dict[str, Bool[Tensor, "..."]]:
    """Where the blocks' parameters may differ from zero after a pruning, by the parameter's name.

        kept = lab.recovery.kept_places(pruned, dense)

    Args:
        dense: the model before it was pruned. With it, a place counts as pruned only where there was something to
            prune, and biases that were taken out with their neurons count too. Without it every zero of a matrix does.

    Returns:
        True where a place is kept; parameters without a pruned place are left out.

    Raises:
        ValueError: a dense model of other shapes.
    """
    prefix, blocks = find_blocks(model)
    before = {} if dense is None else dict(dense.named_parameters())
    found = {}
    for name, parameter in blocks.named_parameters(prefix=prefix):
        if dense is None:
            kept = parameter.detach() != 0 if parameter.ndim > 1 else None
        elif name not in before or before[name].shape != parameter.shape:
            raise ValueError(f"{name} is not in the dense model in the same shape: give the model before its pruning")
        else:
            kept = (parameter.detach() != 0) | (before[name].detach().to(parameter.device) == 0)
        if kept is not None and not kept.all():
            found[name] = kept
    return found


def pair_masks(model: nn.Module, kept: Places) -> list[tuple[nn.Parameter, Bool[Tensor, "..."]]]:
    """The parameters themselves beside their masks, since adapters change the names."""
    parameters = dict(model.named_parameters())
    return [(parameters[name], mask) for name, mask in kept.items()]


@contextmanager
def masked_gradients(pairs: list[tuple[nn.Parameter, Bool[Tensor, "..."]]]) -> Iterator[None]:
    """Inside the block gradients are zero at pruned places, so that no optimizer of moments moves them."""
    with ExitStack() as hooks:
        for parameter, mask in pairs:
            if parameter.requires_grad:
                handle = parameter.register_hook(lambda grad, mask=mask: grad.masked_fill(~mask, 0.0))
                hooks.callback(handle.remove)
        yield


def _biases(model: PreTrainedModel) -> Iterator[nn.Parameter]:
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D) and module.bias is not None:
            yield module.bias


def is_norm(module: nn.Module) -> bool:
    """Whether a module has a gain for every channel and no matrix, as norms have."""
    own = dict(module.named_parameters(recurse=False))
    weight = own.get("weight")
    return weight is not None and weight.ndim == 1 and all(parameter.ndim == 1 for parameter in own.values())


def _norms(model: PreTrainedModel) -> Iterator[nn.Parameter]:
    for module in model.modules():
        if is_norm(module):
            yield from module.parameters(recurse=False)


def _head(model: PreTrainedModel) -> Iterator[nn.Parameter]:
    head = model.get_output_embeddings()
    if head is not None:
        yield head.weight


PARTS: dict[str, Callable[[PreTrainedModel], Iterator[nn.Parameter]]] = {
    "biases": _biases,  # of linear layers
    "norms": _norms,  # gains, and biases where they have one
    "head": _head,  # where it is tied, the embeddings with it
    ALL: lambda model: model.parameters(),
}


def split_parts(trained: str) -> tuple[list[str], bool]:
    """The parts joined by "+", and whether masked adapters are among them.

    >>> split_parts("biases+norms+lora")
    (['biases', 'norms'], True)

    Raises:
        LookupError: an unknown part, or one that stands there twice.
    """
    names = trained.split("+")
    for name in names:
        if name not in (*PARTS, LORA):
            known = [*PARTS, LORA]
            raise LookupError(f"no part is called {name!r}.{suggest(name, known)} There are {', '.join(known)}.")
    if len(set(names)) < len(names) or (ALL in names and len(names) > 1):
        raise LookupError(f"{trained!r} names a part twice: {ALL!r} stands alone, any other part once.")
    return [name for name in names if name != LORA], LORA in names


def parameters_of(model: PreTrainedModel, parts: list[str]) -> list[nn.Parameter]:
    """The parameters of some parts, each once.

        lab.recovery.parameters_of(model, ["biases", "norms"])

    Args:
        parts: of "biases", "norms", "head", "all".

    Raises:
        LookupError: the model has nothing of the kind, as a Llama has no biases.
    """
    found = list({id(one): one for part in parts for one in PARTS[part](model)}.values())
    if parts and not found:
        raise LookupError(
            f"{type(model).__name__} has no {' or '.join(parts)} to train; choose among {', '.join(PARTS)}."
        )
    return found


def count_zeros(model: PreTrainedModel, kept: Places) -> int:
    """How many pruned places are still zero; all of them, or a recovery is broken."""
    parameters = dict(model.named_parameters())
    return sum(int((parameters[name].detach()[~mask] == 0).sum()) for name, mask in kept.items())


def assert_kept(model: PreTrainedModel, kept: Places) -> None:
    """RuntimeError where a pruned place is not zero: a fault of this package, never to be passed on in silence."""
    wanted = sum(int((~mask).sum()) for mask in kept.values())
    if (found := count_zeros(model, kept)) != wanted:
        raise RuntimeError(f"{wanted - found} of {wanted} pruned places are no longer zero after the recovery")
