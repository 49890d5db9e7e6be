"""How many positions a model takes: the rows of its table of positions, or what its configuration says."""

import logging
from collections.abc import Iterator
from functools import cache

from torch import Tensor, nn

logger = logging.getLogger("labutils")


def context_length(model: nn.Module) -> int | None:
    """The most tokens that a sequence may have; None for a model that sets no limit (T5, ALiBi, state spaces).

        context_length(model)  # 512, of a RoBERTa whose table has 514 rows

    A table of positions is the measure where there is one: RoBERTa and its kin leave the rows up to the padding
    token's number unused, OPT and BART the first two, and neither `max_position_embeddings` nor a tokenizer tells
    which. Without a table it is the configuration's `max_position_embeddings`: the length of the sequences in training
    (rotary positions), beyond which the model still computes, if badly.
    """
    limits = [len(table) - unused for table, unused in _tables(model)]
    stated = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not limits and isinstance(stated, int) and stated > 0:
        limits = [stated]
    return min(limits, default=None)


def has_learned_positions(model: nn.Module) -> bool:
    """Whether positions are rows of a table, learned or computed once, so that longer sequences cannot be read at all.

    >>> has_learned_positions(gpt2), has_learned_positions(llama)
    (True, False)
    """
    return any(True for _ in _tables(model))


def check_context(model: nn.Module, length: int, what: str) -> None:
    """Refuse sequences longer than a table of positions; say once where the model was only trained on shorter ones.

        check_context(model, tokens.shape[1], "perplexity")

    Args:
        length: tokens of the longest sequence.
        what: is done with them, for the message.

    Raises:
        ValueError: the model has a table of positions, with fewer rows.
    """
    limit = context_length(model)
    if limit is None or length <= limit:
        return
    told = f"{what}: the sequences have {length} tokens, {type(model).__name__} has {limit} positions"
    if has_learned_positions(model):
        raise ValueError(f"{told}; give sequences of at most {limit} tokens (seq_len={limit})")
    _warn_once(f"{told}: it reads them, but was not trained on such distances")


@cache
def _warn_once(message: str) -> None:
    logger.warning("%s", message)


def _tables(model: nn.Module) -> Iterator[tuple[Tensor, int]]:
    """The tables of positions [rows, width] that token ids meet, each with the number of its rows that no token uses.

    A table stands beside the embedding of token ids, as a layer (GPT-2, BERT) or a buffer (CTRL); GPT-J has a copy of
    it in every block. Those of images and of relative distances stand elsewhere.
    """
    tokens = model.get_input_embeddings()
    shared = [tokens.weight, *([] if (head := model.get_output_embeddings()) is None else [head.weight])]
    for parent in model.modules():
        children = dict(parent.named_children())
        beside = any(
            isinstance(child, nn.Embedding) and any(child.weight is weight for weight in shared)
            for child in children.values()
        )
        for name, child in children.items() if beside else ():
            if isinstance(child, nn.Embedding) and _names_positions(name):
                yield child.weight, _unused_rows(child, parent)
        for name, buffer in parent.named_buffers(recurse=False):
            if buffer.dim() == 2 and (name == "embed_positions" or (beside and name == "pos_encoding")):
                yield buffer, 0


def _names_positions(name: str) -> bool:
    """`position_embeddings`, `wpe`, `embed_positions`; but not `x_position_embeddings`, which are of a page."""
    return name == "wpe" or (name.startswith(("pos", "embed_pos")) and "embed" in name)


def _unused_rows(table: nn.Embedding, parent: nn.Module) -> int:
    if hasattr(table, "offset"):
        return table.offset
    if table.padding_idx is None or not hasattr(parent, "padding_idx"):
        return 0
    return table.padding_idx + 1
