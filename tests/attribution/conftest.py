"""Fixtures of the attribution tests: texts of the tiny vocabulary, and its tokenizer."""

import numpy as np
import pytest
from helpers import words
from planted import PLANTERS, planted_tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return planted_tokenizer()


@pytest.fixture
def texts() -> list[str]:
    generator = np.random.default_rng(0)
    return [words(generator, int(length)) for length in generator.integers(3, 12, size=60)]


@pytest.fixture(params=list(PLANTERS))
def planted_model(request, tokenizer) -> PreTrainedModel:
    return PLANTERS[request.param](tokenizer)
