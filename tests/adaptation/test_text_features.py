"""Text features against values worked out by hand, and the list of biomedical terms."""

import numpy as np
import pandas as pd
import pytest

from labutils import world
from labutils.adaptation.features import (
    FEATURES,
    FUNCTION_WORDS,
    TERMS,
    biomedical_terms,
    composite_complexity,
    is_term,
    text_features,
)

TEXT = "Aspirin lowers the blood pressure of the patient. Aspirin works."


def test_a_text_worked_out_by_hand():
    row = text_features([TEXT]).iloc[0]
    assert row["word_length"] == pytest.approx((7 + 6 + 3 + 5 + 8 + 2 + 3 + 7 + 7 + 5) / 10)
    assert row["abstract_length"] == 10 and row["sentence_length"] == 5
    assert row["type_token_ratio"] == pytest.approx(0.8)  # aspirin and the come twice
    assert row["lexical_density"] == pytest.approx(0.7)  # without the, of, the
    assert row["term_share"] == pytest.approx(0.4)  # aspirin, blood, patient, aspirin
    syllables = 3 + 2 + 1 + 1 + 2 + 1 + 1 + 2 + 3 + 1
    assert row["flesch"] == pytest.approx(206.835 - 1.015 * 5 - 84.6 * syllables / 10)
    assert row["fog"] == pytest.approx(0.4 * (5 + 20)) and row["smog"] == pytest.approx(3.1291 + 1.043 * 30**0.5)


def test_one_row_per_text_in_the_order_given():
    texts = [TEXT, "Well.", "no end at all", "DNA and RNA"]
    frame = text_features(texts)
    assert tuple(frame.columns) == FEATURES and list(frame["abstract_length"]) == [10, 1, 4, 3]
    alone = pd.concat([text_features([text]) for text in texts], ignore_index=True)
    pd.testing.assert_frame_equal(frame.drop(columns="complexity"), alone.drop(columns="complexity"))


def test_complexity_equals_a_slow_loop():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(7, 3)), columns=["flesch", "fog", "smog"])
    for row, found in enumerate(composite_complexity(frame)):
        scaled = []
        for name, sign in (("flesch", -1), ("fog", 1), ("smog", 1)):
            values = [sign * value for value in frame[name]]
            scaled.append((values[row] - min(values)) / (max(values) - min(values)))
        assert found == pytest.approx(sum(scaled) / 3)


def test_complexity_needs_texts_that_differ():
    assert text_features([TEXT])["complexity"].isna().all() and text_features([TEXT, TEXT])["complexity"].isna().all()
    frame = pd.DataFrame({"flesch": [50.0, 60.0], "fog": [9.0, 9.0], "smog": [8.0, 7.0]})
    assert composite_complexity(frame).tolist() == [1, 0]  # fog does not vary and is left out


def test_texts_without_words_are_named():
    with pytest.raises(ValueError, match="text 1: .*no words"):
        text_features([TEXT, " 3.5 "])
    with pytest.raises(ValueError, match="no texts"):
        text_features([])


def test_the_term_list():
    lines = TERMS.read_text(encoding="utf-8").splitlines()
    words = [word for line in lines if not line.startswith("#") for word in line.split()]
    assert 600 <= len(words) <= 1500 and len(set(words)) == len(words) and biomedical_terms() == set(words)
    assert all(word.isascii() and word.isalpha() and word.islower() and len(word) > 2 for word in words)
    assert not set(words) & FUNCTION_WORDS and max(map(len, lines)) <= 120
    assert "Origin:" in lines[2] and all(
        line.startswith("# ") for line in lines if line.startswith("#") and len(line) > 1
    )


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("Kidney", True), ("kidneys", True), ("biopsies", True), ("viruses", True), ("diagnoses", True), ("DNA", True),
        ("patient's", True), ("bacteria", True), ("table", False), ("study", False), ("news", False), ("s", False),
    ],
)  # fmt: skip
def test_terms_in_any_number_and_case(word, known):
    assert is_term(word) == known


def test_features_follow_the_knobs_of_the_controlled_language():
    def mean(**knobs: float) -> pd.Series:
        style = world.Knobs(**{"sentence_length": 0.5, "clause_depth": 1, **knobs})
        return text_features(world.write_documents("biomedical", 25, seed=1, knobs=style)).mean()

    assert mean(clause_depth=3)["sentence_length"] > mean(clause_depth=0)["sentence_length"] + 3
    assert mean(findings_per_sentence=4)["sentence_length"] > mean(findings_per_sentence=1)["sentence_length"]
    assert mean(word_rarity=1.0)["word_length"] > mean(word_rarity=0.0)["word_length"] + 0.3
    assert mean(word_rarity=1.0)["flesch"] < mean(word_rarity=0.0)["flesch"]
    assert mean(term_density=1.0)["term_share"] > mean(term_density=0.0)["term_share"]


def test_registers_differ_in_term_share():
    shares = {
        register: text_features(world.write_documents(register, 20))["term_share"].mean()
        for register in ("biomedical", "narrative")
    }
    assert shares["biomedical"] > 0.1 > 0.02 > shares["narrative"]


def test_real_abstracts(real_data):
    texts = (real_data / "b_biomedical_text" / "ncbi_disease_abstracts.txt").read_text().splitlines()[:100]
    stories = (real_data / "a_general_text" / "tinystories_sample.txt").read_text().splitlines()[:100]
    abstracts, tales = text_features(texts), text_features(stories)
    assert abstracts.notna().all(axis=None) and abstracts["complexity"].between(0, 1).all()
    assert abstracts["sentence_length"].between(5, 80).all()
    assert abstracts["flesch"].mean() < 40 < 80 < tales["flesch"].mean()
    assert abstracts["term_share"].mean() > 0.08 > 0.02 > tales["term_share"].mean()
