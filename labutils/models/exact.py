"""Weights from a folder into a model, all of them and nothing else."""

import functools
import logging
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from labutils.models.classes import find_class, named_architecture
from labutils.models.structure import find_blocks

LOGGER = logging.getLogger("labutils")
NOT_CONVERTED = re.compile(r"^([^|\n]+?) *\|[^|]*CONVERSION", re.MULTILINE)  # lines of transformers' table
POOLER = re.compile(r"(^|\.)pooler\.")  # nothing reads it: it may be random, as transformers makes it


def load_weights(
    kind: type, place: str, config: PreTrainedConfig, *, source: object = None, **options: Any
) -> PreTrainedModel:
    """`kind.from_pretrained`, which leaves missing weights random and drops what it cannot use, made strict.

        model = load_weights(AutoModelForCausalLM, folder, config, dtype="float32")

    A checkpoint with another head than the loaded class, such as a masked LM's of which the encoder is wanted, has
    tensors of that head too; they are left out, and the log says so. A tensor of the blocks or of the base model is
    never left out.

    Args:
        kind: a class of transformers, or an automatic one.
        place: a folder, or a hub id.
        config: what was read from there.
        source: the name by which messages call it; the place where None.
        **options: further arguments of `from_pretrained`.

    Raises:
        OSError: no such files.
        LookupError: a tensor is missing, or is there although the model has no such; the first is named. Or the class
            does not go with the configuration.
        ValueError: a tensor of another shape than the configuration asks for, or a damaged file.
    """
    source = source or place
    try:
        with without_progress_bar(), _table_kept() as told:
            model, found = kind.from_pretrained(
                place, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
    except SafetensorError as error:
        raise ValueError(
            f"{place}: a file with weights is truncated or damaged ({error}). Download or copy it again."
        ) from error
    except RuntimeError as error:
        if "conversion" not in str(error):
            raise
        names = NOT_CONVERTED.findall("\n".join(told)) or ["a tensor"]
        raise LookupError(
            f"The checkpoint of {str(source)!r} does not belong to its configuration: {names[0]} "
            f"cannot be put together from the tensors that are there; an expert's may be missing."
        ) from error
    except ValueError as error:
        raise LookupError(f"{source} cannot be loaded by transformers' {kind.__name__}: {error}") from error
    check_shapes(source, found["mismatched_keys"])
    check_complete(source, found["missing_keys"], named_architecture(config))
    check_nothing_else(source, found["unexpected_keys"], model, config)
    return model


def check_complete(source: object, missing: Iterable[str], named: str = "") -> None:
    """LookupError that names a missing tensor, unless it is the pooler's."""
    if lacking := sorted(name for name in missing if not POOLER.search(name)):
        hint = "" if named else ' Its config.json names no "architectures": name the class it was saved from there.'
        raise LookupError(
            f"The checkpoint of {str(source)!r} does not belong to its configuration: it has no tensor {lacking[0]!r} "
            f"({len(lacking)} are missing in all), which would be left random. Look whether its names carry a "
            f"prefix, or take the config.json that was saved with it.{hint}"
        )


def check_shapes(source: object, mismatched: Collection[tuple]) -> None:
    """ValueError that names a tensor whose shape in the checkpoint is not the model's."""
    if mismatched:
        name, stored, asked = min(mismatched)
        raise ValueError(
            f"The checkpoint of {str(source)!r} and its configuration do not belong together: {name!r} is "
            f"{tuple(stored)}, but the configuration asks for {tuple(asked)} ({len(mismatched)} tensors differ in "
            "all). Take the config.json that was saved with it."
        )


def check_nothing_else(
    source: object, unexpected: Collection[str], model: PreTrainedModel, config: PreTrainedConfig
) -> None:
    """LookupError that names a tensor which the model has no place for, unless another head explains it.

    Buffers that the model computes itself are no such tensors.
    """
    buffers = {name for name, _ in model.named_buffers()}
    foreign = sorted(name for name in unexpected if name not in buffers)
    if _lacks_a_head(model, find_class(named_architecture(config))):
        inside = tuple(_inner_prefixes(model))
        head = [name for name in foreign if not name.startswith(inside)]
        foreign = [name for name in foreign if name.startswith(inside)]
        if head and not foreign:
            _tell_once(f"{source} is loaded as {type(model).__name__}, without the rest of its checkpoint "
                       f"({len(head)} tensors, such as {head[0]}).")  # fmt: skip
    if foreign:
        raise LookupError(
            f"The checkpoint of {str(source)!r} does not belong to its configuration: a {type(model).__name__} of it "
            f"has no tensor {foreign[0]!r} ({len(foreign)} are too many in all), so it would be left out. Take the "
            "config.json that was saved with it."
        )


def _lacks_a_head(model: PreTrainedModel, named: type | None) -> bool:
    """Whether the class that was saved is another than the loaded one, or not told and the loaded one is headless."""
    return model.base_model is model if named is None else not isinstance(model, named)


@functools.cache
def _tell_once(message: str) -> None:
    LOGGER.warning(message)


def _inner_prefixes(model: PreTrainedModel) -> Iterable[str]:
    """How names of the blocks and of the base model begin, with and without the base model's own prefix."""
    base = f"{model.base_model_prefix}."
    try:
        blocks = f"{find_blocks(model)[0]}."
    except LookupError:
        return (base,)
    return (base, blocks, blocks.removeprefix(base), base + blocks)


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Loading shards draws a bar of its own, which only clutters a log; downloads keep theirs."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextmanager
def _table_kept() -> Iterator[list[str]]:
    """transformers logs a table of what did not fit; here it becomes an error, or a line of our own.

    The logger's own level is set only if it would drop the table: at a level of its own transformers 5.23 also compares
    the model with a plan for several devices, and warns of it.
    """
    logger, kept = logging.getLogger("transformers.modeling_utils"), []

    def keep(record: logging.LogRecord) -> bool:
        kept.append(record.getMessage())
        return record.levelno >= logging.ERROR

    level = logger.level
    logger.addFilter(keep)
    if not logger.isEnabledFor(logging.WARNING):
        logger.setLevel(logging.WARNING)
    try:
        yield kept
    finally:
        logger.setLevel(level)
        logger.removeFilter(keep)
