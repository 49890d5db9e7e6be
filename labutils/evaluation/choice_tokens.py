"""Which tokens of a prompt and its choices belong to the choices, and how all of them are read in one row.

The choices of an item share their prompt. A row of ids may hold the shared tokens once and after them what each choice
adds, one branch beside the other: under a mask by which no branch sees another, and with positions counted on from the
shared tokens, every token stands where it stands in its own text (as in tree attention, Miao et al. 2024, SpecInfer).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from labutils.data.tokens import special_frame, tokenize

WORTH_PACKING = 0.8  # a packed row at most this share of its texts' tokens; else its wider attention costs more


@dataclass(frozen=True)
class Candidate:
    """One choice after its prompt: token ids, of which the last `n_choice` belong to the choice."""

    item: int
    ids: list[int]
    n_choice: int


def encode_choices(tokenizer: PreTrainedTokenizerBase, row: dict, limit: int) -> tuple[list[Candidate], bool]:
    """The choices of one item (`prompt, choices, gold, item`) after its prompt, and whether the prompt was shortened.

    ``prompt + " " + choice`` is tokenised as one text, after what the tokenizer itself puts before a text. A token
    belongs to the choice when it ends behind the prompt, so a token across the boundary counts with the choice, and so
    do blanks at the prompt's end. An empty prompt is bos, or eos where there is none. A prompt that leaves no room for
    the item's longest choice in `limit` tokens loses its beginning. ValueError for fewer than two choices, a gold that
    is none of them, a choice without tokens, one longer than the context, or nothing to precede it.
    """
    item, choices = row["item"], row["choices"]
    if len(choices) < 2 or not 0 <= row["gold"] < len(choices):
        raise ValueError(f"item {item}: gold {row['gold']} is no position among {len(choices)} choices (≥ 2)")
    encoded = _split_tokens(tokenizer, row["prompt"], choices)
    longest = max(len(tokens) for _, tokens in encoded)
    prefix = special_frame(tokenizer)[0] or _stand_in(tokenizer, encoded)
    room = limit - len(prefix) - longest  # one for all choices, which thus follow the same rest of the prompt
    if room < 0 or not all(tokens and (prefix or context[:room]) for context, tokens in encoded):
        raise ValueError(
            f"item {item}: each choice needs a token of its own, something before it, and room in {limit} "
            f"tokens of context; its choices have {[len(tokens) for _, tokens in encoded]} tokens"
        )
    candidates = [
        Candidate(item, prefix + context[max(0, len(context) - room) :] + tokens, len(tokens))
        for context, tokens in encoded
    ]
    return candidates, any(len(context) > room for context, _ in encoded)


def _split_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: str, choices: Sequence[str]
) -> list[tuple[list[int], list[int]]]:
    """The tokens of the prompt and those of the choice, in each text of both.

    A tokenizer written in Python tells no offsets: there the prompt's tokens are those that the prompt alone begins
    with, so that a token across the boundary is none of them.
    """
    texts, words = [f"{prompt} {choice}" for choice in choices], prompt.rstrip()
    if not tokenizer.is_fast:
        alone, *rows = tokenize(tokenizer, [words, *texts])
        borders = [len(commonprefix([alone, ids])) for ids in rows]
    else:
        encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        rows = encoded["input_ids"]
        borders = [sum(end <= len(words) for _, end in offsets) for offsets in encoded["offset_mapping"]]
    return [(ids[:border], ids[border:]) for ids, border in zip(rows, borders, strict=True)]


def _stand_in(tokenizer: PreTrainedTokenizerBase, encoded: list[tuple[list[int], list[int]]]) -> list[int]:
    """What precedes the choices of an empty prompt where the tokenizer puts nothing there."""
    known = [token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None]
    return known[:1] if not all(context for context, _ in encoded) else []


@dataclass(frozen=True)
class Row:
    """Token ids that run together, and what is read off them.

    The first `shared` ids stand before every branch; `branches` are the lengths of what follows, none for a text alone.
    A read is a place in the row, the token whose probability the logits there give, and the candidate it belongs to.
    """

    ids: list[int]
    shared: int
    branches: tuple[int, ...]
    reads: list[tuple[int, int, int]]


def plain_rows(candidates: Sequence[Candidate], first: int = 0) -> list[Row]:
    """A row for every text of an item that is not the beginning of another one; candidates count from `first`.

    The last token of a choice is only predicted, so choices of one token are all read off the prompt.
    """
    texts = sorted(dict.fromkeys(tuple(candidate.ids[:-1]) for candidate in candidates), key=len, reverse=True)
    kept: list[tuple[int, ...]] = []
    for text in texts:
        if not any(other[: len(text)] == text for other in kept):
            kept.append(text)
    reads: list[list[tuple[int, int, int]]] = [[] for _ in kept]
    for index, candidate in enumerate(candidates, start=first):
        length = len(candidate.ids) - 1
        owner = next(place for place, text in enumerate(kept) if list(text[:length]) == candidate.ids[:length])
        places = range(length - candidate.n_choice, length)
        reads[owner] += [(place, candidate.ids[place + 1], index) for place in places]
    return [Row(list(text), len(text), (), found) for text, found in zip(kept, reads, strict=True)]


def packed_rows(rows: Sequence[Row]) -> list[Row]:
    """The texts of an item in one row, their common beginning once; as they are where that saves too little."""
    shared = len(commonprefix([row.ids for row in rows]))
    total = sum(len(row.ids) for row in rows)
    if len(rows) < 2 or total - shared * (len(rows) - 1) > WORTH_PACKING * total:
        return list(rows)
    ids, reads = rows[0].ids[:shared], []
    for row in rows:
        shift = len(ids) - shared
        reads += [(place + shift * (place >= shared), token, index) for place, token, index in row.reads]
        ids = ids + row.ids[shared:]
    return [Row(ids, shared, tuple(len(row.ids) - shared for row in rows), reads)]


def branch_numbers(rows: Sequence[Row], length: int) -> Int64[Tensor, "batch length"]:
    """0 for shared tokens, 1, 2, … for those of the branches, −1 for padding."""
    numbers = torch.full((len(rows), length), -1)
    for place, row in enumerate(rows):
        sizes = torch.tensor([row.shared, *row.branches])
        numbers[place, : len(row.ids)] = torch.arange(len(sizes)).repeat_interleave(sizes)
    return numbers


def packed_positions(rows: Sequence[Row], length: int) -> Int64[Tensor, "batch length"]:
    """Each token's position in its own text; 0 for padding."""
    counted = [
        [*range(row.shared), *(row.shared + step for size in row.branches for step in range(size))] for row in rows
    ]
    return torch.tensor([places + [0] * (length - len(places)) for places in counted])


def packed_mask(numbers: Int64[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 length length"]:
    """Which token (row) sees which (column): itself and what stands before it in its own text."""
    own = numbers.unsqueeze(2) == numbers.unsqueeze(1)
    return ((own | (numbers == 0).unsqueeze(1)).tril()).unsqueeze(1)
