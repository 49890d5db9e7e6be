"""Words in texts, and the tokens they are made of.

A word is a run of letters and digits, inner hyphens and apostrophes included; upper and lower case are the same word. A
term is a word or several words in a row ("chest pain"). A term's tokens are all those that share a character with it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from labutils.data.tokens import special_frame
from labutils.data.words import Terms

TEXTS_AT_ONCE = 256  # tokenised together; only these are held as tokens


class Occurrence(NamedTuple):
    """A term in a row of tokens: position of the term in `Terms.names`, its tokens from `first` up to before `last`."""

    term: int
    first: int
    last: int


class Row(NamedTuple):
    """A window of a text as the model reads it, special tokens included, with the terms that lie wholly in it."""

    ids: list[int]
    content: range  # positions of the text's own tokens
    occurrences: list[Occurrence]


def token_range(starts: Sequence[int], ends: Sequence[int], first: int, last: int) -> tuple[int, int]:
    """The tokens that share a character with [first, last); `starts` and `ends` are the tokens' character offsets."""
    return int(np.searchsorted(ends, first, side="right")), int(np.searchsorted(starts, last, side="left"))


class Encoded(NamedTuple):
    """A text's token ids without special tokens, and the first and last + 1 character of each token."""

    ids: list[int]
    starts: list[int]
    ends: list[int]


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Encoded]:
    """Tokens with their characters; ValueError for a tokenizer that does not tell which characters a token covers."""
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} gives no character offsets, without which words cannot be matched to tokens "
            "exactly. Load the fast tokenizer of the model (a folder with tokenizer.json)."
        )
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        Encoded(ids, [start for start, _ in offsets], [end for _, end in offsets])
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def read_rows(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], terms: Terms, *, limit: int) -> Iterator[Row]:
    """The texts as rows of at most `limit` tokens, in order, with all terms found in them.

    A longer text is read in several windows that do not overlap, each between the model's special tokens and cut
    between terms; an occurrence that no window holds whole is left out. Texts without tokens give no row.

    ValueError for a tokenizer without character offsets.
    """
    prefix, suffix = special_frame(tokenizer)
    room = limit - len(prefix) - len(suffix)
    remaining = iter(texts)
    while chunk := list(islice(remaining, TEXTS_AT_ONCE)):
        for text, (ids, starts, ends) in zip(chunk, encode_texts(tokenizer, chunk), strict=True):
            found = [Occurrence(term, *token_range(starts, ends, *span)) for term, *span in terms.find(text)]
            found = [occurrence for occurrence in found if occurrence.first < occurrence.last]
            for start, stop in windows(len(ids), room, found):
                shift = len(prefix) - start
                inside = [
                    Occurrence(term, first + shift, last + shift)
                    for term, first, last in found
                    if start <= first and last <= stop
                ]
                content = range(len(prefix), len(prefix) + stop - start)
                yield Row(prefix + ids[start:stop] + suffix, content, inside)


def windows(n_tokens: int, room: int, occurrences: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """Cut `n_tokens` tokens into windows of at most `room`, where possible not inside an occurrence."""
    start = 0
    while start < n_tokens:
        stop = min(start + room, n_tokens)
        cut = [first for _, first, last in occurrences if start < first < stop < last] if stop < n_tokens else []
        stop = min(cut, default=stop)
        yield start, stop
        start = stop
