"""The model and the windows that all tests of this room read."""

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import labutils as lab


@pytest.fixture(scope="module")
def loaded() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return lab.load_model("lab-llama")


@pytest.fixture(scope="module")
def tokens(loaded) -> torch.Tensor:
    return lab.load_tokens("lab:encyclopedic", loaded[1], n_sequences=2, seq_len=24)
