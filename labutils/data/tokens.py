"""Texts as token ids, and windows of them between a model's special tokens."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase


def special_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Token ids that the tokenizer itself puts before and after a text: ([CLS], [SEP]) of BERT, ([bos], []) of Llama.

        prefix, suffix = special_frame(tokenizer)

    What it puts there is what the model was trained with. A tokenizer may know a bos token and put none, as those of
    GPT-2, Qwen and chat models whose bos begins a turn: then both are empty.
    """
    framed, bare = tokenizer("a")["input_ids"], tokenize(tokenizer, ["a"])[0]
    for start in range(len(framed) - len(bare) + 1):
        if bare and framed[start : start + len(bare)] == bare:
            return framed[:start], framed[start + len(bare) :]
    return framed, []  # a vocabulary without this letter


def text_room(tokenizer: PreTrainedTokenizerBase, seq_len: int) -> int:
    """How many tokens of text a sequence of `seq_len` tokens holds, special tokens taken off."""
    prefix, suffix = special_frame(tokenizer)
    return seq_len - len(prefix) - len(suffix)


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of each text without special tokens, of any length."""
    return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]


def frame_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], seq_len: int) -> tuple[list[list[int]], int]:
    """Each text between the special tokens, its end cut off beyond `seq_len` tokens; and how many texts were cut."""
    prefix, suffix = special_frame(tokenizer)
    room, bodies = text_room(tokenizer, seq_len), tokenize(tokenizer, list(texts))
    return [prefix + body[:room] + suffix for body in bodies], sum(len(body) > room for body in bodies)


def join_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    """One stream of token ids: every text, then the end-of-text token (a newline where the tokenizer has none).

    >>> stream = join_texts(tokenizer, ["one text", "another"])
    """
    separator = tokenize(tokenizer, ["\n"])[0] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return [token for ids in (tokenize(tokenizer, list(texts)) if texts else []) for token in ids + separator]


def frame_windows(
    tokenizer: PreTrainedTokenizerBase, body: Int64[Tensor, "n_sequences width"]
) -> Int64[Tensor, "n_sequences seq_len"]:
    """Windows of text, each between the special tokens of the model."""
    first, last = (torch.tensor(ids, dtype=torch.int64).expand(len(body), -1) for ids in special_frame(tokenizer))
    return torch.cat([first, body, last], dim=1)
