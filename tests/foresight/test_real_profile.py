"""Whether all that the profile `real` would read is there, and enough of it: what a run would else find out late."""

import dataclasses

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from labutils.core import paths
from labutils.data.corpora import load_tokens
from labutils.foresight.outlooks import STEMS
from labutils.foresight.plans import plan_work
from labutils.foresight.readings import (
    AlongPaths,
    Passages,
    Reading,
    Rows,
    Texts,
    TextsAbout,
    Windows,
    WordsLeftOut,
    Written,
)
from labutils.foresight.work import Work
from labutils.runner.planning import plan_studies
from labutils.sweeps.calibration_sets import load_calibration


@pytest.fixture(scope="module")
def real_tokenizer(real_data) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(real_data / "models" / "realtext-llama")


@pytest.fixture(scope="module")
def read() -> set:
    """What was read already: notebooks share most of it."""
    return set()


@pytest.mark.parametrize("stem", [stem for stem in STEMS if stem != "99_ledger"])  # which reads rows alone
def test_every_line_of_the_real_profile_can_be_forecast(stem, real_tokenizer, read) -> None:
    """Tasks have as many items as are asked for, texts as many tokens."""
    (study,), _ = plan_studies([stem], profile="real", overrides={}, folder=paths.NOTEBOOKS)
    readings, draws = set(), set()
    for work in plan_work(stem, study.parameters).works:
        readings |= set(map(_source, _readings(work)))
        draws |= {draw for sweep in work.sweeps for draw in sweep.draws[:1] if not draw.calibration.endswith(" pool")}
    assert readings | draws
    for reading in readings - read:
        _load(reading, real_tokenizer)
    for draw in draws - read:
        tokens = load_calibration(
            draw.calibration, real_tokenizer, n_sequences=draw.n_sequences, seq_len=draw.seq_len, seed=draw.seed
        )
        assert tokens.shape == draw.shape
    read |= readings | draws


def _readings(work: Work) -> list[Reading]:
    found = [each.reading for each in (*work.sweeps, *work.passes, *work.made) if each.reading is not None]
    return [reading for reading in found if not isinstance(reading, Rows | Written)]  # of no text of their own


def _source(reading: Reading) -> Reading:
    """What is loaded for a reading, of which some readings are a part."""
    if isinstance(reading, AlongPaths | Passages | WordsLeftOut):
        return reading.items
    texts = reading.texts if isinstance(reading, TextsAbout) else reading
    return dataclasses.replace(texts, step=1) if isinstance(texts, Texts) else texts


def _load(reading: Reading, tokenizer: PreTrainedTokenizerBase) -> None:
    """Read what the notebook will read; the loaders raise where too little is there."""
    if isinstance(reading, Windows):
        sizes = {"n_sequences": reading.n_each, "seq_len": reading.seq_len, "seed": reading.seed, "split": "test"}
        for source in reading.sources:
            load_tokens(source, tokenizer, **sizes)
    else:
        reading.load()
