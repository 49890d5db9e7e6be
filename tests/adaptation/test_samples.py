"""Samples: sizes, designs, what they share and what not, and pools that are too small."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from labutils import world
from labutils.adaptation import samples as samples_module
from labutils.adaptation.readability import split_words
from labutils.adaptation.samples import Sample, describe_samples, draw_samples
from labutils.data.corpora import load_texts
from labutils.world.seeding import belongs


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> str:
    """A file of 250 abstracts of random style: 200 in its train split."""
    path = tmp_path_factory.mktemp("pool") / "abstracts.txt"
    path.write_text("\n".join(world.write_documents("biomedical", 250, seed=3)) + "\n")
    return f"file:{path}"


@pytest.fixture
def few_probes(monkeypatch) -> None:
    """Fewer texts written on trial than usual: the grammar is slow while its types are checked."""
    monkeypatch.setattr(samples_module, "PROBE_TEXTS", 3)


def n_words(sample: Sample) -> int:
    return sum(len(split_words(text)) for text in sample.texts)


@pytest.mark.usefixtures("few_probes")
def test_samples_of_the_controlled_language():
    samples = draw_samples(["lab:biomedical"], 4, n_words=300)
    assert [sample.name for sample in samples] == ["S01", "S02", "S03", "S04"]
    for sample in samples:
        longest = max(len(split_words(text)) for text in sample.texts)
        assert 300 <= n_words(sample) < 300 + longest
    texts = [text for sample in samples for text in sample.texts]
    assert len(set(texts)) == len(texts)
    assert draw_samples(["lab:biomedical"], 4, n_words=300) == samples
    assert all(belongs(text, "train") for text in texts)


@pytest.mark.usefixtures("few_probes")
def test_knobs_come_near_the_targets_and_separate_them():
    """Complexity and term share go together in this language; the choice of the knobs takes most of that away."""
    table = describe_samples(draw_samples(["lab:biomedical"], 8, n_words=500))
    for aim in ("complexity", "term_share"):
        assert spearmanr(table[f"target_{aim}"], table[aim]).statistic > 0.7
        assert sorted(int(8 * value) for value in table[f"target_{aim}"]) == list(range(8))
    assert abs(spearmanr(table["complexity"], table["term_share"]).statistic) < 0.6
    for knob, low, high in (("clause_depth", 0, 3), ("findings_per_sentence", 1, 4), ("word_rarity", 0, 1)):
        values = table[f"knob_{knob}"]
        assert values.between(low, high).all() and np.ptp(values) > (high - low) / 2


def test_one_sample_alone():
    (sample,), (other,) = (draw_samples(["lab:biomedical"], 1, n_words=100, seed=seed) for seed in (0, 1))
    assert sample.texts != other.texts and sample.design != other.design
    assert np.isnan(describe_samples([sample])["complexity"].item())


def test_samples_of_a_pool_come_near_their_targets(pool):
    samples = draw_samples([pool], 8, n_words=800)
    texts = [text for sample in samples for text in sample.texts]
    assert len(set(texts)) == len(texts) and all(n_words(sample) >= 800 for sample in samples)
    assert draw_samples([pool], 8, n_words=800) == samples
    table = describe_samples(samples)
    for feature in ("complexity", "term_share"):
        assert spearmanr(table[f"target_{feature}"], table[feature]).statistic > 0.8
        assert sorted(int(8 * value) for value in table[f"target_{feature}"]) == list(range(8))
    held_out = set(draw_samples([pool], 1, n_words=2000, split="test")[0].texts)
    assert not held_out & set(texts)


def test_an_abstract_in_two_sources_counts_once(pool):
    samples = draw_samples([pool, pool], 2, n_words=1000)
    texts = [text for sample in samples for text in sample.texts]
    assert len(set(texts)) == len(texts)


def test_a_pool_can_be_a_part_of_the_source(pool):
    (sample,) = draw_samples([pool], 1, n_words=10, n_pool=50)
    assert sample.texts[0] in load_texts(pool, n=50)
    with pytest.raises(ValueError, match="in 50 abstracts"):
        draw_samples([pool], 1, n_words=10_000, n_pool=50)
    with pytest.raises(ValueError, match="201 were asked for"):
        draw_samples([pool], 1, n_pool=201)


def test_describe_samples_averages_over_abstracts():
    samples = [Sample("a", ["A cell.", "A cell is a cell."]), Sample("b", ["Immunotherapy."], {"knob_x": 2.0})]
    table = describe_samples(samples)
    assert table["sample"].tolist() == ["a", "b"] and table["texts"].tolist() == [2, 1]
    assert table["words"].tolist() == [7, 1]
    assert table["abstract_length"].tolist() == [3.5, 1]
    assert table["term_share"].tolist() == pytest.approx([(1 / 2 + 2 / 5) / 2, 1])
    assert table["complexity"].tolist() == [0, 1]
    assert np.isnan(table["knob_x"][0]) and table["knob_x"][1] == 2


def test_bad_requests(pool, tmp_path):
    with pytest.raises(ValueError, match="train|words in .* abstracts"):
        draw_samples([pool], 8, n_words=100_000)
    for sources in (["lab:biomedical", pool], ["lab:review"], ["lab:biomedical", "lab:biomedical"]):
        with pytest.raises(ValueError, match="lab:biomedical"):
            draw_samples(sources, 2)
    for sizes in ({"n_samples": 0}, {"n_samples": 2, "n_words": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            draw_samples([pool], **sizes)
    with pytest.raises(LookupError, match="absent.txt"):
        draw_samples(["file:absent.txt"], 2)
    alike = tmp_path / "alike.txt"
    alike.write_text("\n".join(" ".join(["cell"] * 40 + [f"x{number}"]) for number in range(50)))
    with pytest.raises(ValueError, match="do not differ"):
        draw_samples([f"file:{alike}"], 2, n_words=100)


def test_real_abstracts_are_spread_in_two_directions(real_data):
    source = f"file:{real_data}/b_biomedical_text/ncbi_disease_abstracts.txt"
    table = describe_samples(draw_samples([source], 6, n_words=2000))
    assert np.ptp(table["flesch"]) > 10 and np.ptp(table["term_share"]) > 0.05
    assert spearmanr(table["target_complexity"], table["complexity"]).statistic > 0.8
