"""The regression on a pair: features against loops, its start against numpy, folds, seeds, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from helpers import frame_with, poison
from scipy.stats import pearsonr
from sklearn.model_selection import KFold
from small_models import causal_base, masked_base, pairs, same, state_of

from labutils.adaptation import similarity_tuning
from labutils.adaptation.configurations import Tuning
from labutils.adaptation.correlations import fold_correlations
from labutils.adaptation.similarity_tuning import cosine_line, pair_features, tune_similarity
from labutils.evaluation.similarity import embed_sentences, score_similarity

BASES = [causal_base, masked_base]


def tune(base, items, line: str, **options):
    return tune_similarity(base.model, base.tokenizer, items, Tuning.read(line), **{"n_folds": 3, **options})


def test_features_equal_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    found = pair_features(first, second)
    assert found.shape == (4, 12)
    for pair in range(4):
        u, v = (embeddings[pair].tolist() for embeddings in (first, second))
        u, v = ([value * math.sqrt(6) / math.hypot(*vector) for value in vector] for vector in (u, v))
        products = [a * b / math.sqrt(6) for a, b in zip(u, v, strict=True)]
        differences = [abs(a - b) / math.sqrt(6) for a, b in zip(u, v, strict=True)]
        assert found[pair].tolist() == pytest.approx(products + differences, abs=1e-12)
        cosine = torch.cosine_similarity(first[pair], second[pair], dim=0).item()
        assert sum(products) == pytest.approx(math.sqrt(6) * cosine)


def test_the_line_through_the_cosines():
    generator = np.random.default_rng(0)
    cosines = generator.normal(size=30)
    targets = 2 * cosines + generator.normal(size=30)
    assert cosine_line(cosines, targets) == pytest.approx(tuple(np.polyfit(cosines, targets, 1)))
    assert cosine_line(np.ones(5), np.arange(5.0)) == (0.0, 2.0)


@pytest.mark.parametrize("make", BASES)
def test_untrained_predictions_are_the_line_through_the_cosines_of_the_other_folds(make):
    base, items = make(), pairs(24)
    found = tune(base, items, "head rate=1e-12", fold_seed=5).predictions
    cosines = score_similarity(base.model, base.tokenizer, items)["predicted"].to_numpy()
    gold = items["score"].to_numpy()
    for fold, (outside, inside) in enumerate(KFold(3, shuffle=True, random_state=5).split(gold)):
        slope, intercept = np.polyfit(cosines[outside], gold[outside], 1)
        np.testing.assert_allclose(found["predicted"][inside], intercept + slope * cosines[inside], atol=1e-4)
        assert (found["fold"][inside] == fold).all()
    assert found["item"].tolist() == items["item"].tolist() and found["gold"].tolist() == gold.tolist()


@pytest.mark.parametrize("make", BASES)
def test_embeddings_with_gradients_are_those_of_the_scoring(make):
    base, items = make(), pairs(9)
    items.loc[0, "sentence1"] = "w1 " * 100  # longer than the context
    sentences = [*items["sentence1"], *items["sentence2"]]
    known, cut = embed_sentences(base.model, base.tokenizer, sentences)
    regression = similarity_tuning._Regression(base.model, base.tokenizer, sentences, known, Tuning())
    embeddings = regression._embedder()([3, 0, 17, 3])
    assert cut == 1 and embeddings.requires_grad
    torch.testing.assert_close(embeddings.detach(), known[[3, 0, 17, 3]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora", "head"])
def test_training_fits_the_pairs_and_leaves_the_model_alone(method):
    base, items = causal_base(), pairs(30)
    before = state_of(base)
    short, long = (tune(base, items, f"{method} rate=2e-2 epochs={epochs} batch=8") for epochs in (1, 6))
    assert same(state_of(base), before) and all(parameter.requires_grad for parameter in base.model.parameters())
    assert long.training_loss < short.training_loss
    assert long.predictions["predicted"].notna().all() and not long.predictions.equals(short.predictions)


def test_shared_words_are_learnt():
    """Pairs are scored by their shared words: a model with random weights learns it from seventy pairs."""
    base, items = causal_base(), pairs(90, seed=2)
    pearson, spearman = fold_correlations(tune(base, items, "full rate=3e-3 epochs=6 batch=8").predictions)
    assert pearson > 0.6 and spearman > 0.6


def test_noise_is_not_predicted():
    """Scores drawn at random: nothing leaks from a fold into its own predictions."""
    items = pairs(90, seed=3)
    items["score"] = np.random.default_rng(0).permutation(items["score"].to_numpy())
    found = tune(causal_base(), items, "full rate=3e-3 epochs=4 batch=8").predictions
    assert abs(fold_correlations(found)[0]) < 3 / math.sqrt(90)
    assert abs(pearsonr(found["gold"], found["predicted"]).statistic) < 3 / math.sqrt(90)


@pytest.mark.parametrize("method", ["full", "lora", "head"])
def test_a_seed_decides_all(method):
    items = pairs(12)
    frames = [tune(masked_base(), items, f"{method} epochs=1 batch=4", seed=seed).predictions for seed in (1, 1, 2)]
    assert frames[0].equals(frames[1]) and not frames[0].equals(frames[2])
    other = tune(masked_base(), items, f"{method} epochs=1 batch=4", seed=1, fold_seed=9).predictions
    assert other["fold"].tolist() != frames[0]["fold"].tolist()


def test_scale_of_the_scores_is_that_of_the_predictions():
    items = pairs(15)
    plain, scaled = (
        tune(causal_base(), frame, "head epochs=2") for frame in (items, items.assign(score=items.score * 10 - 3))
    )
    np.testing.assert_allclose(scaled.predictions["predicted"], plain.predictions["predicted"] * 10 - 3, rtol=1e-4)
    assert scaled.training_loss == pytest.approx(plain.training_loss, rel=1e-4)


def test_bad_pairs_are_refused():
    base, items = causal_base(), pairs(12)
    for bad, n_folds, message in (
        (items.drop(columns="score"), 3, "missing: score"),
        (items, 5, "12 pairs in 5 folds"),
        (items, 1, "two folds or more"),
        (items.assign(score=1.0), 3, "all 8 training pairs are equal"),
    ):
        with pytest.raises(ValueError, match=message):
            tune(base, bad, "head", n_folds=n_folds)
    frame_with(base.tokenizer, None, None)
    with pytest.raises(ValueError, match="no tokens"):
        tune(base, items.assign(sentence1=""), "head")


def test_states_that_are_not_finite_are_refused():
    base, items = causal_base(), pairs(12)
    poison(base.model, base.tokenizer.convert_tokens_to_ids("w39"), math.inf)
    items.loc[4, "sentence2"] = "w39"
    with pytest.raises(ValueError, match="w39.* are NaN or infinite"):
        tune(base, items, "full")
