"""The configuration of a GGUF file, with what transformers leaves out of it put right, or refused.

Missing in transformers 5.23: how many positions a GPT-2 learned and how wide its MLP is; the frequencies that Llama 3.1
and its kin rotate by; any other scaling of rotary positions.
"""

import math
from collections.abc import Mapping

import numpy as np
from transformers import AutoConfig, PreTrainedConfig

from labutils.models.gguf_header import Header

POSITIONS, ROPE_FACTORS = "position_embd.weight", "rope_freqs.weight"
# Llama 3.1 to 3.3 differ in the factor alone, which is the largest of the file's.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
READS_SCALING = {"gpt-oss"}


def configuration(header: Header) -> PreTrainedConfig:
    """The configuration of the model in a GGUF file.

        configuration(read_header(Path("model.gguf"))).hidden_size

    Raises:
        ValueError: transformers does not know the architecture, or cannot scale its rotary positions as the file asks.
    """
    config = AutoConfig.from_pretrained(header.path.parent, gguf_file=header.path.name)
    if POSITIONS in header.shapes:
        config.max_position_embeddings = header.shapes[POSITIONS][0]
    if header.architecture == "gpt2" and (width := header.value("feed_forward_length")) is not None:
        config.n_inner = width
    scaling = header.value("rope.scaling.type")
    if scaling not in (None, "none") and header.architecture not in READS_SCALING:
        raise ValueError(f"its rotary positions are scaled ({scaling!r}), and transformers leaves that out")
    if ROPE_FACTORS in header.shapes:
        config.rope_parameters = _llama3_rope(config, _read_floats(header, ROPE_FACTORS))
    return config


def llama3_factors(rope: Mapping[str, float | str], width: int) -> np.ndarray:
    """By what Llama 3.1 divides each of its width / 2 rotary frequencies.

    Long waves are stretched by the whole factor, short ones not at all, those between by a mixture; the formula is that
    of Meta's `apply_scaling` (llama-models, models/llama3/model.py).

    Args:
        rope: `rope_theta`, `factor`, `low_freq_factor`, `high_freq_factor` and `original_max_position_embeddings`.
        width: of a head.
    """
    frequencies = rope["rope_theta"] ** (-np.arange(0, width, 2) / width)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)  # within the first context
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - kept) / rope["factor"] + kept)


def _llama3_rope(config: PreTrainedConfig, factors: np.ndarray) -> dict[str, object]:
    """The rotary parameters that give the file's factors; a ValueError where they are not those of a Llama 3."""
    rope = {**config.rope_parameters, **LLAMA3, "factor": float(factors.max()), "rope_type": "llama3"}
    expected = llama3_factors(rope, 2 * len(factors))
    if not np.allclose(factors, expected, rtol=1e-3):
        raise ValueError(
            f"{ROPE_FACTORS!r} holds frequencies that are not those of a Llama 3, and they would be left out"
        )
    return rope


def _read_floats(header: Header, name: str) -> np.ndarray:
    (tensor,) = (tensor for tensor in header.tensors if tensor.name == name)
    if tensor.kind != 0:
        raise ValueError(f"{name!r} is not F32")
    place = header.data_start + tensor.offset
    return np.fromfile(header.path, "<f4", math.prod(tensor.shape), offset=place)
