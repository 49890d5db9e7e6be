"""Which tokens belong to a choice, and how rows are padded."""

import torch
from helpers import TINY_WORDS, frame_with, word_tokenizer
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from labutils.evaluation.batching import padded_batches
from labutils.evaluation.choice_tokens import encode_choices


def test_batches_are_padded_on_the_right_longest_first():
    tokenizer = word_tokenizer(TINY_WORDS, bos_token="<s>", pad_token="<pad>")
    rows = [[5], [7, 8, 9], [3, 4]]
    batches = list(padded_batches(rows, 2, tokenizer, torch.device("cpu")))
    assert [chosen for chosen, _, _ in batches] == [[1, 2], [0]]
    assert batches[0][1].tolist() == [[7, 8, 9], [3, 4, tokenizer.pad_token_id]]
    assert batches[0][2].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_a_token_across_the_boundary_belongs_to_the_choice():
    vocabulary = {"<s>": 0, "x": 1, " ": 2, "y": 3, "z": 4, "x ": 5, "x y": 6}
    core = Tokenizer(models.BPE(vocabulary, [("x", " "), ("x ", "y")]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")
    frame_with(tokenizer, "<s>", None)
    row = {"item": 0, "prompt": "zx", "choices": ["y", "z"], "gold": 0}
    (merged, apart), _ = encode_choices(tokenizer, row, 64)
    assert (merged.ids, merged.n_choice) == ([0, 4, 6], 1)
    assert (apart.ids, apart.n_choice) == ([0, 4, 5, 4], 2)


def test_a_tokenizer_that_prefixes_spaces_scores_the_choice_alone(real_data):
    """A byte-level tokenizer writes the space before a choice into the choice's own tokens."""
    tokenizer = AutoTokenizer.from_pretrained(real_data / "models" / "realtext-llama")
    row = {"item": 0, "prompt": "Review: good film\nSentiment:", "choices": ["positive", "negative"], "gold": 0}
    candidates, _ = encode_choices(tokenizer, row, 512)
    for candidate, choice in zip(candidates, row["choices"], strict=True):
        assert tokenizer.decode(candidate.ids[len(candidate.ids) - candidate.n_choice :]) == f" {choice}"
        assert candidate.ids == tokenizer(f"{row['prompt']} {choice}")["input_ids"]
