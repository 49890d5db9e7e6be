"""Texts as token ids, and windows of them between a model's special tokens."""

from transformers import PreTrainedTokenizerBase


def special_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Token ids before and after every sequence: ([CLS], [SEP]) of encoders, ([bos], []) of decoders, or nothing."""
    if tokenizer.cls_token_id is not None and tokenizer.sep_token_id is not None:
        return [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    return ([] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]), []


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of each text without special tokens, of any length."""
    return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
