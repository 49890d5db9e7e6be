"""A tiny random model of any class of transformers, its configuration shrunk field by field from the defaults.

A field's name says what it counts (layers, heads, a width, experts, a token's id), so one table of rules serves all
configurations; where the parts of one must agree in a way of its own, `overrides` says how.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from conformance.overrides import DEFAULTS, OF_CLASS, OVERRIDES
from conformance.plain_passes import plain_output
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, ResNetConfig, TimmBackboneConfig

VOCABULARY = 64
FIRST_SPECIAL = 44  # ids from here on stand for images and the like
LAYERS = 3
MOST_WEIGHTS = 60_000_000  # of a model that is built at all

Rule = int | Callable[[int], int]

# The first pattern that matches a field's name decides; a function gets the default.
RULES: list[tuple[str, Rule]] = [
    (r"(image|frame|input|patch|window|kernel|chunk|block|tile|grid)(_size|_width|_height)s?", lambda old: old),
    (r"type_vocab_size", lambda old: old),
    (r"(\w+_)?vocab(ulary)?_size(_per_layer_input)?|n_vocab", VOCABULARY),
    (r"pretraining_tp|conv_kernel|d_conv|expand|n_shared_experts|num_shared_experts", lambda old: old),
    (r"(n|topk)_group|num_expert_group|mamba_n_groups|n_groups", 1),
    (r"(num_|n_)?(\w+_)?experts_(per_tok(en)?|top_k)|(moe_)?top_?k|num_selected_experts|topk_experts", 2),
    (r"(moe_)?(num|n)_(\w+_)?experts", 4),
    (r"first_k_dense_replace|num_dense_layers|num_kv_shared_layers", lambda old: min(old, 1)),
    (r"qk_head_dim", 16),
    (r"(\w+_)?(head_dim|d_kv|kv_channels|d_head|head_size|head_width|rotary_dim)", 8),
    (r"linear_num_value_heads", 4),
    (r"linear_num_key_heads", 2),
    (r"mamba_n_heads", 8),
    (r"(\w*(kv|key_value)_heads)", lambda old: min(old, 4)),
    (r"(\w+_)?(heads?|attention_heads|n_head|num_head)", lambda old: min(old, 4)),
    (r"(\w+_)?(layers?|n_layer|depth|num_blocks|n_blocks)", lambda old: min(old, LAYERS)),
    (r"(\w+_)?(intermediate|ffn|d_ff|dff|n_inner|mlp|inner|ff)(_size|_dim|_hidden_size)?", 48),
    (r"(max_)?(\w+_)?(positions?|position_embeddings|n_ctx|seq(uence)?_len(gth)?)", lambda old: min(old, 64)),
    (r"(\w+_)?(d_state|state_size|rank|lora_rank|dt_rank|time_step_rank)", lambda old: min(old, 16)),
    (r"(d_model|n_embd|dim|emb_dim|width|hidden|channels|word_embed_proj_dim)", 32),
    (r"\w+_(size|dim|width|channels|hidden|units|embd)", lambda old: min(old, 32)),
]  # fmt: skip
SPECIAL = re.compile(r"\w*(_token_(id|index)|token_ids?|_index|_token)$")


class NotBuilt(Exception):
    """No model of the class could be built; the message says why."""


@dataclasses.dataclass(frozen=True)
class TinyModel:
    """A model, and what a plain forward pass of token ids says: None, or the error."""

    model: PreTrainedModel
    failure: str | None


def tiny_model(model_class: type, config_classes: list[type], ids: Tensor) -> TinyModel:
    """The first recipe by which a model can be built that also reads token ids, else the first that can be built.

    Args:
        config_classes: those that may be the model's; the first that works is taken.

    Raises:
        NotBuilt: with the error of the first recipe.
    """
    built, errors = None, []
    for config_class, recipe in product(config_classes, (tiny_config, shallow_config, default_config)):
        try:
            config = recipe(config_class)
            for name, value in OF_CLASS.get(model_class.__name__, {}).items():
                setattr(config, name, value)
            model = random_model(model_class, config)
        except Exception as error:  # whatever a class of transformers raises on a configuration it cannot use
            errors.append(f"{type(error).__name__}: {error}")
            continue
        failure = forward_failure(model, ids)
        if failure is None or not reads_token_ids(model):
            return TinyModel(model, failure)
        built = built or TinyModel(model, failure)
    if built is None:
        raise NotBuilt(errors[0])
    return built


def reads_token_ids(model: PreTrainedModel) -> bool:
    """Whether its forward pass names `input_ids`."""
    return "input_ids" in inspect.signature(model.forward).parameters


def forward_failure(model: PreTrainedModel, ids: Tensor) -> str | None:
    """The error of a forward pass of token ids alone, or None."""
    try:
        first = plain_output(model, ids)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if not isinstance(first, Tensor):
        return f"the first output is a {type(first).__name__}"
    return None if first.isfinite().all() else "the output is not finite"


def random_model(model_class: type, config: PreTrainedConfig) -> PreTrainedModel:
    """The same random model at every call; what a class initialises at a constant is random too."""
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in model_class(config).parameters())
    if size > MOST_WEIGHTS:
        raise ValueError(f"{size / 1e6:.0f} million weights")
    torch.manual_seed(0)
    model = model_class(config).eval().float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(0.15 * torch.randn(parameter.shape))
            elif parameter.is_floating_point():  # a scale of zero would hide what it scales
                parameter.add_(0.1 * torch.randn(parameter.shape))
        for name, table in model.named_buffers():
            if name.endswith("tid2eid"):  # which experts a word is routed to: any that differ from each other
                table.copy_(torch.stack([torch.randperm(4)[: table.shape[1]] for _ in table]))
    return model


def tiny_config(
    config_class: type, default: PreTrainedConfig | None = None, rules: list[tuple[str, Rule]] = RULES
) -> PreTrainedConfig:
    """A configuration of the class, or like the given one, with everything small."""
    return config_class(**_shrunk(default or default_config(config_class), rules))


def default_config(config_class: type) -> PreTrainedConfig:
    """The configuration that a class has without arguments, or with as few as it can do with."""
    return config_class(**DEFAULTS.get(config_class.model_type, {}))


def shallow_config(config_class: type) -> PreTrainedConfig:
    """The default configuration with few layers and words only: widths that must agree do."""
    kept = [rule for rule in RULES if "layers" in rule[0] or "vocab" in rule[0] or "first_k" in rule[0]]
    return config_class(**_shrunk(default_config(config_class), kept))


def _shrunk(default: PreTrainedConfig, rules: list[tuple[str, Rule]]) -> dict[str, Any]:
    special = iter(range(VOCABULARY - 1, FIRST_SPECIAL, -1))
    options: dict[str, Any] = {}
    for name, old in _fields(default):
        if isinstance(old, TimmBackboneConfig):
            options[name] = ResNetConfig(
                embedding_size=16, hidden_sizes=[16] * 4, depths=[1] * 4, out_indices=[1, 2, 3, 4]
            )
        elif isinstance(old, PreTrainedConfig):
            inner = _shrunk(old, rules) | OVERRIDES.get(default.model_type, {}).get(name, {})
            options[name] = type(old)(**inner)
        elif isinstance(old, int) and not isinstance(old, bool):
            new = _shrink_number(name, old, rules, special)
            if new != old:
                options[name] = new
    options |= DEFAULTS.get(default.model_type, {}) | _short_lists(default, options)
    own = OVERRIDES.get(default.model_type, {})
    groups, heads = (dict(_fields(default)).get(name) for name in ("num_key_value_heads", "num_attention_heads"))
    if isinstance(groups, int) and isinstance(heads, int) and groups < heads:
        options["num_key_value_heads"] = min(groups, 2)
    return options | {name: value for name, value in own.items() if name not in default.sub_configs}


def _fields(config: PreTrainedConfig) -> Iterator[tuple[str, Any]]:
    """The names and values of a configuration's own fields."""
    for field in dataclasses.fields(config):
        try:
            yield field.name, getattr(config, field.name)
        except Exception:  # it differs from layer to layer; the default of the class is what they deviate from
            yield field.name, field.default


def _shrink_number(name: str, old: int, rules: list[tuple[str, Rule]], special: Iterator[int]) -> int:
    if SPECIAL.fullmatch(name):
        return old if 0 <= old < FIRST_SPECIAL or old < 0 else next(special)
    for pattern, rule in rules:
        if re.fullmatch(pattern, name):
            return rule if isinstance(rule, int) else rule(old)
    return old


def _short_lists(default: PreTrainedConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Lists with an entry for every layer, cut so that each kind of layer stays, and the number of layers with them."""
    count = next((name for name in ("num_hidden_layers", "n_layer", "num_layers") if name in options), None)
    if count is None:
        return {}
    total = getattr(default, count)
    lists = {
        name: list(value)
        for name, value in _fields(default)
        if isinstance(value, list | tuple) and len(value) == total and not name.startswith("_")
    }
    if not lists:
        return {}
    rows = list(zip(*lists.values(), strict=True))
    kept = [index for index, row in enumerate(rows) if row not in rows[:index]][:6]
    kept = sorted({*kept, *range(total - 1, 0, -1)} if len(kept) >= total else {*kept, *_last(total, kept)})
    return {count: len(kept)} | {name: [value[index] for index in kept] for name, value in lists.items()}


def _last(total: int, kept: list[int]) -> list[int]:
    """Further layers from the end, where fewer than the usual number are kept."""
    others = [index for index in range(total - 1, -1, -1) if index not in kept]
    return others[: max(0, LAYERS - len(kept))]
