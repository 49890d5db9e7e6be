"""Experts before weights: equal shares of weights, gains on the same items, models without experts."""

import pytest
from architectures import ARCHITECTURES
from helpers import word_tokenizer

import labutils as lab
from labutils.smaller.mixtures import count_experts, experts_first_gains, rest_of_sparsity, sweep_mixture

ASKED = {"choices": ["router clusters", "REAP"], "n_experts": [1, 2], "sparsities": [0.6], "n_draws": 2,
         "n_calibration": 3, "n_items": 4, "seq_len": 12}  # fmt: skip


@pytest.fixture(scope="module")
def mixture(tmp_path_factory) -> tuple:
    return ARCHITECTURES["mixtral"].build(), word_tokenizer()


def test_what_the_weights_must_lose_beside_the_experts() -> None:
    assert rest_of_sparsity(0.5, 0.2) == pytest.approx(0.375)  # 0.8 · 0.625 = 0.5 stay
    assert rest_of_sparsity(0.4, 0.0) == pytest.approx(0.4) and rest_of_sparsity(0.3, 0.3) == 0
    with pytest.raises(ValueError, match=r"hold 0\.300 of the weights already"):
        rest_of_sparsity(0.2, 0.3)


def test_every_arm_ends_with_the_same_share_of_weights(mixture) -> None:
    rows = sweep_mixture("tiny", mixture, "lab:review", **ASKED)
    pruned = rows[rows["arm"] != "dense"]
    assert set(pruned["arm"]) == {
        "weights alone", "router clusters, 1 gone", "router clusters, 2 gone", "REAP, 1 gone", "REAP, 2 gone"
    }  # fmt: skip
    assert ((pruned["reached"] - pruned["sparsity"]).abs() < 0.005).all()
    assert len(pruned) == 5 * 2 * 4 and len(rows) == len(pruned) + 4
    gains = experts_first_gains(rows)
    one = gains.query("choice == 'REAP' and contrast == '2 experts of each mixture gone' and draw == 1 and item == 2")
    at = rows[(rows["draw"] == 1) & (rows["item"] == 2)].set_index(["arm", "sparsity"])["loss"]
    for row in one.itertuples():
        expected = at["weights alone", row.sparsity] - at["REAP, 2 gone", row.sparsity]
        assert row.value == pytest.approx(expected)
    assert len(one) == 1 and count_experts(mixture[0]) == 5


def test_a_model_without_experts_has_its_own_loss_alone(loaded) -> None:
    rows = sweep_mixture("lab-llama", loaded, "lab:review", **ASKED)
    assert set(rows["arm"]) == {"dense"} and experts_first_gains(rows).empty and count_experts(loaded[0]) == 0
    undefined = lab.sweeps.effects_over_models(experts_first_gains(rows)).overall
    assert not undefined.defined


def test_an_unknown_choice_and_too_few_weights_are_told(mixture) -> None:
    with pytest.raises(LookupError, match=r"'REAPS'.*REAP"):
        sweep_mixture("tiny", mixture, "lab:review", **{**ASKED, "choices": ["REAPS"]})
    with pytest.raises(ValueError, match="of the weights already"):
        sweep_mixture("tiny", mixture, "lab:review", **{**ASKED, "n_experts": [3], "sparsities": [0.5]})
