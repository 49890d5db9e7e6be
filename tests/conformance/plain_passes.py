"""What every matrix of a model reads in a plain forward pass, seen from outside: the reference for a walk's statistics.

Linear layers are watched by hooks; slices of fused experts, which no hook sees, at the products of torch in which they
take part.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

# transformers 5.23 makes their cache from a number of layers that their configuration does not have.
WITHOUT_CACHE = ("BltModel", "BltForCausalLM")
PRODUCTS = {torch.nn.functional.linear: (0, 1), torch.matmul: (0, 1), Tensor.matmul: (0, 1), Tensor.__matmul__: (0, 1)}


@dataclass
class Reads:
    """Running sums over what one matrix has read, in float64."""

    gram: Tensor | None = None
    n_tokens: int = 0
    n_calls: int = 0

    def add(self, inputs: Tensor) -> None:
        rows = inputs.detach().reshape(-1, inputs.shape[-1]).double()
        product = rows.T @ rows
        self.gram = product if self.gram is None else self.gram + product
        self.n_tokens += len(rows)
        self.n_calls += 1


@dataclass
class Products(TorchFunctionMode):
    """Records what is multiplied with any of the given matrices, known by where they lie in memory."""

    names: dict[tuple[int, torch.Size], str]
    seen: dict[str, Reads] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204 (torch's signature)
        if func in PRODUCTS and len(args) >= 2 and isinstance(args[1], Tensor) and args[1].dim() == 2:
            for matrix in (args[1], args[1].T):
                if (name := self.names.get((matrix.data_ptr(), matrix.shape))) is not None:
                    self.seen.setdefault(name, Reads()).add(args[0])
                    break
        return func(*args, **(kwargs or {}))


def plain_reads(model: PreTrainedModel, batches: list[Tensor], slices: dict[str, Tensor]) -> dict[str, Reads]:
    """What each linear layer, and each of the given slices of fused parameters, reads over plain forward passes.

    Args:
        slices: the matrices that are no layers, by the names that they get in the result.
    """
    seen: dict[str, Reads] = {}
    hooks = [
        module.register_forward_pre_hook(_watch(seen.setdefault(name, Reads())), with_kwargs=True)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]
    products = Products({(matrix.data_ptr(), matrix.shape): name for name, matrix in slices.items()})
    try:
        with ExitStack() as stack:
            for context in (_literal_experts(model), products) if slices else ():
                stack.enter_context(context)
            for batch in batches:
                plain_output(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return seen | products.seen


def plain_output(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """The first output of a plain forward pass of token ids alone."""
    torch.manual_seed(0)
    options = {"use_cache": False} if type(model).__name__ in WITHOUT_CACHE else {}
    with torch.no_grad():
        return model(input_ids=ids, **options)[0]


def _watch(reads: Reads):
    def watch(module: nn.Module, args: tuple, kwargs: dict) -> None:
        reads.add(args[0] if args else next(iter(kwargs.values())))

    return watch


@contextmanager
def _literal_experts(model: PreTrainedModel) -> Iterator[None]:
    """Experts run one by one, each by a product of its own."""
    before = model.config._experts_implementation
    model.set_experts_implementation("eager")
    try:
        yield
    finally:
        model.set_experts_implementation(before)
