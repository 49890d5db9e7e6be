"""LoRA on a pruned model, through peft: adapters that never touch a pruned weight, and a merge that keeps the mask.

An ordinary adapter adds s · B A to a whole matrix, so that merging it fills the zeros again, and dropping what falls on
them changes the model that was trained. Here the update is masked from the start, W + M ⊙ (s · B A) with M = 1 where W
is not zero: what is trained is what is merged. Source of the adapters: Hu et al. 2022. The experts of a mixture, fused
in one parameter, get an adapter each; `labutils.training.masked_experts` masks them. Routers are not adapted.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.core.progress import progress
from labutils.models.experts import ExpertMatrix
from labutils.models.positions import check_context
from labutils.models.structure import Layer, check_causal, check_token_ids, find_blocks, prunable_layers
from labutils.training.lora import ADAPTER, wrap_with_lora
from labutils.training.masked_experts import is_fused, mask_experts
from labutils.training.parts_of_batches import rows_that_fit, step_in_parts
from labutils.training.text_loss import text_loss

if TYPE_CHECKING:
    from peft import PeftModel


def add_lora(
    model: PreTrainedModel, *, rank: int = 8, alpha: float = 16.0, layers: list[str] | None = None
) -> "PeftModel":
    """Put masked LoRA adapters on a pruned model's block matrices; only the adapters are trainable.

        adapted = lab.training.add_lora(model, rank=8, layers=["q_proj", "v_proj"])

    Args:
        rank: of the adapters; alpha: the update is scaled by alpha / rank.
        layers: names of the matrices that get one, as `prune` reports them, or their endings, such as `q_proj`,
            `down_proj` (of all experts) or `experts.down_proj[3]` (of one); None takes all matrices that are pruned.

    Raises:
        LookupError: peft is not installed, or no matrix has such a name.
        ValueError: a rank below 1, an alpha that is not above 0, or `layers` that is no list of names.
    """
    if rank < 1 or not alpha > 0:
        raise ValueError(f"rank={rank} must be at least 1, and alpha={alpha} above 0.")
    chosen = _chosen_matrices(model, layers)
    fused = dict.fromkeys(_fused(name) for name, matrix in chosen.items() if isinstance(matrix, ExpertMatrix))
    linear = [name for name, matrix in chosen.items() if not isinstance(matrix, ExpertMatrix)]
    trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    adapted = wrap_with_lora(model, linear, rank=rank, alpha=alpha, parameters=list(fused))
    adapted.was_trainable = trainable
    for layer in _adapted_layers(adapted):
        if is_fused(layer):
            mask_experts(layer, [matrix for matrix in chosen.values() if isinstance(matrix, ExpertMatrix)])
        else:
            layer.register_buffer("kept", layer.get_base_layer().weight.detach() != 0, persistent=False)
            layer.masking = [layer.register_forward_hook(_take_back_dropped)]
    return adapted


def tune_lora(
    model: PreTrainedModel,
    tokens: Int64[Tensor, "n seq_len"],
    *,
    rank: int = 8,
    layers: list[str] | None = None,
    steps: int = 100,
    learning_rate: float = 1e-3,
    batch_size: int = 8,
    seed: int = 0,
) -> tuple[PreTrainedModel, list[float]]:
    """Train masked adapters on a pruned causal language model and merge them: it learns again, and stays sparse.

        model, losses = lab.tune_lora(model, tokens, steps=100)

    A batch goes through the model in parts where it would keep more than 1 GiB for the way back.

    Args:
        rank, layers: as of `add_lora`.

    Returns:
        the model, its pruned weights still zero, and the training loss (nats per token) of every step.

    Raises:
        LookupError: peft is not installed, or no matrix has such a name.
        ValueError: not a causal language model, no tokens or ids outside its vocabulary, sequences longer than its
            table of positions, or a rank, a number of steps or a batch below 1.
    """
    check_causal(model, "tune_lora")
    if steps < 1 or batch_size < 1 or len(tokens) == 0:
        raise ValueError(f"steps={steps}, batch_size={batch_size} and tokens ({len(tokens)}) must be at least 1.")
    check_token_ids(model, tokens)
    if tokens.shape[1] < 2:
        raise ValueError(f"tune_lora: sequences of {tokens.shape[1]} token have nothing to predict; give two or more.")
    check_context(model, tokens.shape[1], "tune_lora")
    generator, losses = torch.Generator().manual_seed(seed), []
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # the adapters begin at random
        adapted = add_lora(model, rank=rank, layers=layers)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.0)

    def loss_of(rows: Int64[Tensor, "rows seq_len"]) -> Tensor:
        return text_loss(adapted, rows)

    rows = rows_that_fit(adapted, loss_of, tokens[:1].to(model.device).expand(batch_size, -1))
    for step in progress(range(steps), description="tune adapters", unit="step"):
        batch = tokens[torch.randint(len(tokens), (batch_size,), generator=generator)].to(model.device)
        losses.append(step_in_parts(optimizer, loss_of, batch, rows=rows, step=step))
    return merge_lora(adapted), losses


def merge_lora(adapted: "PeftModel") -> PreTrainedModel:
    """Add the masked updates to the weights, remove the adapters, and return the model as it was before `add_lora`.

        model = lab.training.merge_lora(adapted)

    Its outputs are those of the adapted model, and every pruned weight is still zero.

    Raises:
        ValueError: the adapters were not made by `add_lora`.
    """
    layers = _adapted_layers(adapted)
    if not layers or not all(hasattr(layer, "kept") for layer in layers):
        raise ValueError("This model's adapters know no mask; put them on with `add_lora`.")
    with torch.no_grad():
        for layer in layers:
            weight = layer.get_param() if is_fused(layer) else layer.get_base_layer().weight
            weight += (layer.get_delta_weight(ADAPTER) * layer.kept).to(weight.dtype)
    return drop_lora(adapted)


def drop_lora(adapted: "PeftModel") -> PreTrainedModel:
    """Take the adapters of `add_lora` off without merging them, and return the model as it was before.

    model = lab.training.drop_lora(adapted)
    """
    for layer in _adapted_layers(adapted):
        for hook in layer.masking:
            hook.remove()
    model = adapted.unload()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(adapted.was_trainable[name])
    return model


def _take_back_dropped(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Subtract what the adapter's update does through weights that were pruned."""
    if layer.disable_adapters:
        return output
    dropped = layer.get_delta_weight(ADAPTER).masked_fill(layer.kept, 0.0).to(output.dtype)
    return output - F.linear(args[0], dropped.T if layer.fan_in_fan_out else dropped)


def _adapted_layers(adapted: "PeftModel") -> list[nn.Module]:
    from peft.tuners.lora import LoraLayer

    return [module for module in adapted.modules() if isinstance(module, LoraLayer)]


def _chosen_matrices(model: PreTrainedModel, layers: list[str] | None) -> dict[str, Layer]:
    """The block matrices whose names, with or without the number of an expert, end in one of `layers`."""
    prefix, blocks = find_blocks(model)
    matrices = {
        f"{prefix}.{index}.{name}": layer
        for index, block in enumerate(blocks)
        for name, layer in prunable_layers(block).items()
    }
    if layers is None:
        return matrices
    if isinstance(layers, str) or not all(isinstance(name, str) and name for name in layers):
        raise ValueError(f"layers={layers!r} must be a list of names, such as ['q_proj', 'v_proj'].")
    chosen = {
        name: layer
        for name, layer in matrices.items()
        if name.endswith(end := tuple(layers)) or _fused(name).endswith(end)
    }
    unknown = [end for end in layers if not any(name.endswith(end) or _fused(name).endswith(end) for name in chosen)]
    if unknown or not chosen:
        endings = sorted({_fused(name).rpartition(".")[2] for name in matrices})
        raise LookupError(f"No block matrix has a name that ends in {unknown}; there are {', '.join(endings)}.")
    return chosen


def _fused(name: str) -> str:
    """The name of the parameter that holds an expert's matrix; of any other matrix its own."""
    return name.partition("[")[0]
