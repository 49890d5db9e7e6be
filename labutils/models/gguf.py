"""Models from GGUF files: any architecture and quantisation that transformers reads, as plain dense tensors.

transformers builds configuration, weights and tokenizer from the one file. What it has no place for it leaves out
without a word; where that would make another model, it is put right here (`gguf_config`) or refused.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations.gguf import GGUF_ARCHS
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

from labutils.core.extras import import_optional
from labutils.core.files import hash_file
from labutils.models.gguf_config import ROPE_FACTORS, configuration
from labutils.models.gguf_header import Header, check_data, read_header
from labutils.models.gguf_tokens import split_as_trained

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def find_gguf(place: str | Path) -> Path | None:
    """The GGUF file that a path names: the file itself, or the only one in a folder without another model.

        find_gguf("downloads/model.gguf")

    Raises:
        LookupError: a folder with several of them.
    """
    place = Path(place)
    if place.is_file():
        return place if place.suffix == ".gguf" else None
    found = sorted(place.glob("*.gguf")) if place.is_dir() and not (place / "config.json").exists() else []
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise LookupError(f"{place} holds {len(found)} GGUF files ({names}); give the path of one of them.")
    return found[0] if found else None


def load_gguf(path: Path, *, dtype: str | torch.dtype = "auto") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and the tokenizer of a GGUF file, dequantised, on the CPU.

        model, tokenizer = load_gguf(Path("model.gguf"), dtype="float32")

    Args:
        dtype: a torch dtype or its name; "auto" takes the file's where its matrices are plain floats, else float32.

    Returns:
        a model like one from a folder: it can be pruned, tuned and saved. Its attribute `labutils_origin` tells the
        file's SHA-256, architecture and types, for `provenance`.

    Raises:
        LookupError: the packages of the extra are missing, or transformers cannot read the architecture or a type.
        ValueError: the file is damaged.
    """
    header = open_gguf(path)
    types = tensor_types(header)
    about = f"architecture {header.architecture!r}, types {', '.join(types)}"
    try:
        config = configuration(header)
        dtype = dtype if dtype != "auto" else _float_type(types)
        model, found = _class(config).from_pretrained(
            path.parent, gguf_file=path.name, config=config, dtype=dtype, output_loading_info=True,
            quantization_config=transformers.GgufConfig(dequantize=True),
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        unused = sorted({*_unused(header, model), *found["unexpected_keys"]})
    except MemoryError:
        raise
    except Exception as error:  # transformers and gguf answer what they cannot read with errors of any kind
        raise _unreadable(path, about, f"{type(error).__name__}: {error}") from error
    if missing := sorted(found["missing_keys"]):
        raise _unreadable(path, about, f"the file has no tensor for {missing[0]!r} ({len(missing)} are missing in all)")
    if unused:
        raise _unreadable(
            path, about, f"the model it makes of it has no place for {unused[0]!r} ({len(unused)} in all)"
        )
    split_as_trained(tokenizer, header)
    model.config._name_or_path = str(path)
    model.labutils_origin = {"gguf sha256": hash_file(path), "gguf": about}
    return model, tokenizer


def open_gguf(path: Path) -> Header:
    """The header of a whole GGUF file whose types can all be dequantised; raises as `load_gguf`."""
    gguf = import_gguf()
    import_optional("accelerate", purpose="Reading a GGUF file", extra="gguf")
    header = read_header(path)
    check_data(header, {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()})
    if (parts := header.metadata.get("split.count", 1)) != 1:
        raise LookupError(
            f"{path} is one of {parts} parts of a model; join them into one file (llama-gguf-split --merge)."
        )
    for kind in {tensor.kind for tensor in header.tensors}:
        _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
        try:
            gguf.dequantize(np.zeros((1, size), np.uint8), gguf.GGMLQuantizationType(kind))
        except NotImplementedError as error:
            name = gguf.GGMLQuantizationType(kind).name
            raise _unreadable(path, f"architecture {header.architecture!r}, type {name}", str(error)) from error
    return header


def import_gguf() -> object:
    """The package `gguf`."""
    return import_optional("gguf", purpose="Reading a GGUF file", extra="gguf")


def tensor_types(header: Header) -> list[str]:
    """The types of a file's tensors by name, that of most tensors first.

    >>> tensor_types(read_header(Path("SmolLM2-135M-Instruct.Q4_1.gguf")))
    ['Q4_1', 'F32', 'Q8_0']
    """
    kinds = Counter(tensor.kind for tensor in header.tensors)
    return [import_gguf().GGMLQuantizationType(kind).name for kind, _ in kinds.most_common()]


def processor_of(header: Header, config: PreTrainedConfig) -> TensorProcessor:
    """What transformers does to the tensors of this architecture on their way into the model."""
    return TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(config=config.to_dict())


def parameter_names(header: Header, model: PreTrainedModel) -> dict[str, str]:
    """By the file's names of tensors, the model's."""
    base = getattr(model, model.base_model_prefix, None)
    inner = [(model.base_model_prefix, _Names(model.config, base.state_dict(), []))] if base is not None else []
    names = get_gguf_hf_weights_map(_Names(model.config, model.state_dict(), inner), processor_of(header, model.config))
    # Experts stand there without the ending.
    return {
        name: found for name in header.shapes if (found := names.get(name) or names.get(name.removesuffix(".weight")))
    }


@dataclass(frozen=True)
class _Names:
    """What transformers asks of a model for names of tensors; it looks at all modules anew, of which two are enough."""

    config: PreTrainedConfig
    state: dict[str, torch.Tensor]
    children: list[tuple[str, "_Names"]]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.state

    def named_children(self) -> list[tuple[str, "_Names"]]:
        return self.children


def _unused(header: Header, model: PreTrainedModel) -> list[str]:
    """Tensors of the file that are not in the model, though they would change what it computes."""
    if header.architecture in GGUF_ARCHS:  # read by transformers' newer reader, which tells what it did not expect
        return []
    used = {*parameter_names(header, model), ROPE_FACTORS}
    if model.config.tie_word_embeddings:
        used.add("output.weight")  # some converters store the embedding twice
    left = [name for name in header.shapes if name not in used]
    return [name for name in left if not (model.config.is_encoder_decoder and name.startswith("dec."))]


def _class(config: PreTrainedConfig) -> type:
    """With the head that predicts tokens where there is one; of a model with encoder and decoder, the encoder."""
    if config.is_encoder_decoder:
        return AutoModelForTextEncoding
    return AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModel


def _float_type(types: list[str]) -> torch.dtype:
    """The narrowest float type of a file, whose norms are F32 whatever its matrices are; float32 where blocks are."""
    if any(name not in FLOATS for name in types):
        return torch.float32
    return min((FLOATS[name] for name in types), key=lambda dtype: (dtype.itemsize, str(dtype)))


def _unreadable(path: Path, about: str, why: str) -> LookupError:
    return LookupError(
        f"{path} ({about}) cannot be made a model of with transformers {transformers.__version__}: {why}. "
        "Take a file of another architecture or type, or the safetensors folder that it was made from."
    )
