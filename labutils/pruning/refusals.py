"""What cannot be pruned as it is, refused before anything runs: zeros would be lost, or be those of half a model."""

from collections.abc import Iterator

from torch import nn
from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, PreTrainedModel

from labutils.models.structure import prunable_layers


def check_prunable(model: PreTrainedModel, prefix: str, blocks: nn.ModuleList) -> None:
    """Refuse a model whose pruning would not be what the report says.

    Raises:
        ValueError: adapters beside the weights, weights that are computed at every call, or a decoder behind an
            encoder; the message names the first, and the way out.
    """
    for index, block in enumerate(blocks):
        for name, module in block.named_modules():
            if type(module).__module__.startswith("peft."):
                raise ValueError(
                    f"{prefix}.{index}.{name} holds adapters, which are no weights to prune. Merge them first, by "
                    "`model.merge_and_unload()`, or prune the base model and train adapters afterwards (`tune_lora`)."
                )
        for name, layer in prunable_layers(block).items():
            if isinstance(layer, nn.Module) and "weight" not in layer._parameters:
                raise ValueError(
                    f"{prefix}.{index}.{name}.weight is computed anew at every call, so zeros written to it would be "
                    "lost. Make it a plain parameter first: `torch.nn.utils.prune.remove(layer, 'weight')`, or "
                    "`torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')`."
                )
    encoders = MODEL_FOR_TEXT_ENCODING_MAPPING.values()
    if model.config.is_encoder_decoder and type(model) not in encoders and len(list(_halves(model))) > 1:
        raise ValueError(
            f"{type(model).__name__} has an encoder and a decoder, of which only one would be pruned. Load its encoder "
            "alone (`lab.load_model` does so for T5 and its kin)."
        )


def _halves(model: PreTrainedModel) -> Iterator[str]:
    """The outermost stacks of blocks."""
    found: list[str] = []
    for name, module in model.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and not nested and any(map(prunable_layers, module)):
            found.append(name)
            yield name
