"""What stands around a text is what the tokenizer itself puts there."""

import pytest
import torch
from helpers import TINY_WORDS, frame_with, word_tokenizer
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from labutils.data.tokens import frame_texts, frame_windows, special_frame, text_room


@pytest.mark.parametrize("first, last", [("<s>", None), (None, "</s>"), ("<s>", "</s>"), (None, None)])
def test_the_frame_is_the_tokenizers_own(first, last):
    tokenizer = word_tokenizer(TINY_WORDS, bos_token="<s>", eos_token="</s>")
    frame_with(tokenizer, first, last)
    prefix, suffix = special_frame(tokenizer)
    assert (prefix, suffix) == ([0] if first else [], [1] if last else [])  # knowing a bos is not putting one
    assert tokenizer("w1 w2")["input_ids"] == prefix + tokenizer.convert_tokens_to_ids(["w1", "w2"]) + suffix
    rows, n_cut = frame_texts(tokenizer, ["w1 w2 w3 w4", "w1"], 4)
    assert [len(row) for row in rows] == [4, 1 + len(prefix + suffix)] and n_cut == (text_room(tokenizer, 4) < 4)
    assert frame_windows(tokenizer, torch.full((2, 3), 9)).tolist() == [[*prefix, 9, 9, 9, *suffix]] * 2


def test_a_vocabulary_without_letters_has_a_frame_too():
    core = Tokenizer(models.BPE({"<s>": 0, "1": 1}, []))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")
    frame_with(tokenizer, "<s>", None)
    assert special_frame(tokenizer) == ([0], []) and tokenizer("1")["input_ids"] == [0, 1]
