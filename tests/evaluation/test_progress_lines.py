"""No evaluation is silent for long, whatever is evaluated and whether or not a sweep goes on around it."""

import sys

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.data.tasks import load_task
from labutils.evaluation.choices import score_task
from labutils.evaluation.losses import sequence_losses
from labutils.evaluation.similarity import score_similarity
from labutils.models.loading import load_model


@pytest.fixture(scope="module")
def lab_llama() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load_model("lab-llama")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> pytest.CaptureFixture:
    module = sys.modules["labutils.core.progress"]
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(module, "LINE_EVERY_SECONDS", 0.0)
    return capsys


def test_losses_of_texts_tell_their_batches(
    lab_llama: tuple[PreTrainedModel, PreTrainedTokenizerBase], lines: pytest.CaptureFixture
) -> None:
    model, tokenizer = lab_llama
    tokens = tokenizer("a cook peeled a cherry", return_tensors="pt")["input_ids"].repeat(3, 1)
    sequence_losses(model, tokens, batch_size=1)
    assert "evaluate: 1/3 batch" in lines.readouterr().err


def test_choices_tell_their_batches(
    lab_llama: tuple[PreTrainedModel, PreTrainedTokenizerBase], lines: pytest.CaptureFixture
) -> None:
    score_task(*lab_llama, load_task("lab:qa/birthplaces", n_items=6), batch_size=2)
    assert "score choices: 1/" in lines.readouterr().err


def test_sentences_tell_their_batches(
    lab_llama: tuple[PreTrainedModel, PreTrainedTokenizerBase], lines: pytest.CaptureFixture
) -> None:
    score_similarity(*lab_llama, load_task("lab:topic/similarity", n_items=6).items, batch_size=2)
    assert "embed sentences: 1/" in lines.readouterr().err
