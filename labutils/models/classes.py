"""Which of transformers' classes a configuration asks for."""

from collections.abc import Callable, Mapping
from typing import Any

import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
)

from labutils.models.structure import CAUSAL_HEADS


def model_class(config: PreTrainedConfig) -> type:
    """The class by which `load_model` loads: a causal LM's, an encoder's, or that of the encoder of T5 and its kin.

    >>> model_class(AutoConfig.from_pretrained("data/models/lab-llama"))  # AutoModelForCausalLM

    The first of the configuration's `architectures` decides. Where there is none, a type that has a causal LM is one,
    unless it also has a masked LM, as BERT has, and does not call itself a decoder.

    Returns:
        an automatic class of transformers where one knows the configuration, else the model's own.

    Raises:
        LookupError: a model with encoder and decoder whose encoder cannot be had alone.
    """
    name = named_architecture(config)
    if name.endswith(CAUSAL_HEADS) or name in _names(MODEL_FOR_CAUSAL_LM_MAPPING, config) or _is_causal_type(config):
        return _automatic(AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING, config)
    encoders = _names(MODEL_FOR_TEXT_ENCODING_MAPPING, config)
    if name in encoders:  # T5's encoder, saved alone, no longer calls itself a half
        return AutoModelForTextEncoding
    if not config.is_encoder_decoder:
        return _automatic(AutoModel, MODEL_MAPPING, config)
    if not encoders:
        raise LookupError(
            f"{config.model_type!r} is a model with encoder and decoder, and transformers cannot load its encoder "
            "alone; labutils takes causal LMs, encoders, and the encoders of T5 and its kin."
        )
    return AutoModelForTextEncoding


def _names(mapping: Mapping[type, Any], config: PreTrainedConfig) -> list[str]:
    """What an automatic class makes of a configuration."""
    found = mapping.get(type(config), ())
    return [kind.__name__ for kind in (found if isinstance(found, tuple) else (found,))]


def _automatic(auto: type, mapping: Mapping[type, Any], config: PreTrainedConfig) -> type:
    return auto if type(config) in mapping else find_class(named_architecture(config)) or auto


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
    if named_architecture(config) or config.is_encoder_decoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return False
    return type(config) not in MODEL_FOR_MASKED_LM_MAPPING or getattr(config, "is_decoder", False)
