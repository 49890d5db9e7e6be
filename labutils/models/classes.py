"""Which of transformers' classes a configuration asks for."""

from collections.abc import Callable

import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
)

from labutils.models.structure import CAUSAL_HEADS


def model_class(config: PreTrainedConfig) -> type:
    """The automatic class by which `load_model` loads: a causal LM, an encoder, or the encoder of T5 and its kin.

    >>> model_class(AutoConfig.from_pretrained("data/models/lab-llama"))  # AutoModelForCausalLM

    The first of the configuration's `architectures` decides. Where there is none, a type that has a causal LM is one,
    unless it also has a masked LM, as BERT has, and does not call itself a decoder.

    Raises:
        LookupError: a model with encoder and decoder whose encoder cannot be had alone.
    """
    name, encoder = named_architecture(config), MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    if name.endswith(CAUSAL_HEADS) or (not name and _is_causal_type(config)):
        return AutoModelForCausalLM
    if encoder is not None and name == encoder.__name__:  # T5's encoder, saved alone, no longer calls itself a half
        return AutoModelForTextEncoding
    if not config.is_encoder_decoder:
        return AutoModel
    if encoder is None:
        raise LookupError(
            f"{config.model_type!r} is a model with encoder and decoder, and transformers cannot load its encoder "
            "alone; labutils takes causal LMs, encoders, and the encoders of T5 and its kin."
        )
    return AutoModelForTextEncoding


def saved_class(config: PreTrainedConfig) -> type:
    """The class that a model was saved from: transformers' class of that name, else what `model_class` says."""
    return find_class(named_architecture(config)) or model_class(config)


def find_class(name: str) -> type[PreTrainedModel] | None:
    """transformers' own class of models of that name.

    >>> find_class("BertForSequenceClassification"), find_class("MyLlama")
    (<class 'transformers.models.bert.modeling_bert.BertForSequenceClassification'>, None)
    """
    found = getattr(transformers, name, None) if name else None
    return found if isinstance(found, type) and issubclass(found, PreTrainedModel) else None


def builder(kind: type) -> Callable[..., PreTrainedModel]:
    """What builds a model from a configuration, of an automatic class as of a model's own."""
    return kind._from_config if issubclass(kind, PreTrainedModel) else kind.from_config


def named_architecture(config: PreTrainedConfig) -> str:
    """The class that a configuration names first, or an empty text."""
    return (config.architectures or [""])[0]


def check_not_quantised(config: PreTrainedConfig, where: object) -> None:
    """Refuse a checkpoint whose weights are not plain numbers; pruned zeros would not stay zeros in them.

    Raises:
        ValueError: the configuration speaks of a quantisation; the method and the way out are named.
    """
    for owner in (config, config.get_text_config()):
        for entry in ("quantization_config", "compression_config"):
            if found := getattr(owner, entry, None):
                method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", None)
                raise ValueError(
                    f"{where} is quantised ({getattr(method, 'value', method) or 'its config.json says so'}); prune "
                    "the checkpoint it was made from, and quantise afterwards. Where its weights are plain numbers "
                    f"after all, remove {entry!r} from its config.json."
                )


def _is_causal_type(config: PreTrainedConfig) -> bool:
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        return False
    return type(config) not in MODEL_FOR_MASKED_LM_MAPPING or getattr(config, "is_decoder", False)
