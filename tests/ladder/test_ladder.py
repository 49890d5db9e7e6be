"""The ladder of seeds and sizes: its rungs, its study from training to stored rows, and what is read off the rows."""

import numpy as np
import pandas as pd
import pytest
from transformers import LlamaConfig, PreTrainedTokenizerBase

from labutils.core.paths import MODELS
from labutils.lab_models import loop
from labutils.lab_models.specs import SPECS, ModelSpec
from labutils.ladder import (
    LadderPlan,
    LadderRows,
    effects_over_seeds,
    read_rungs,
    rung_effects,
    shipped_beside_seeds,
    size_trends,
)  # fmt: skip
from labutils.ladder.effects import CLAIMS, claim_differences
from labutils.ladder.figures import effects_by_size
from labutils.ladder.study import ARMS, train_rung
from labutils.sweeps.losses import SweepSizes

GRID = [0.3, 0.5, 0.7]
DENSE = 2.0
# What an arm adds to the dense loss at each sparsity of the grid.
ADDED = {
    "ria/uniform": [0.010, 0.10, 0.60],
    "ria/owl": [0.012, 0.08, 0.40],
    "sparsegpt/uniform": [0.014, 0.06, 0.30],
    "sparsegpt/owl": [0.018, 0.05, 0.20],
    "magnitude/uniform": [0.020, 0.20, 1.00],
    "wanda/uniform": [0.011, 0.11, 0.70],
}


def planted(effect_of: dict[str, float], *, noise: float = 0.0, n_items: int = 12) -> LadderRows:
    """Rows in which a rung's damage is `ADDED` times its own factor; items differ, arms are equally noisy."""
    generator = np.random.default_rng(0)
    runs, losses = [], []
    for name, factor in effect_of.items():
        recipe, _, seed = name.partition("@")
        runs.append({"model": name, "recipe": recipe, "seed": int(seed) if seed != "shipped" else 0,
                     "shipped": seed == "shipped", "architecture": "llama",
                     "parameters": {"small": 250_000, "middle": 1_000_000, "large": 4_000_000}[recipe]})  # fmt: skip
        items = DENSE + generator.normal(0, 0.5, n_items)
        items += DENSE - items.mean()
        losses += [(name, "dense", 0.0, -1, item, loss) for item, loss in enumerate(items)]
        for arm, added in ADDED.items():
            for sparsity, more in zip(GRID, added, strict=True):
                for draw in range(2):
                    noisy = (
                        items + factor * more + generator.normal(0, noise, n_items) if noise else items + factor * more
                    )
                    losses += [(name, arm, sparsity, draw, item, loss) for item, loss in enumerate(noisy)]
    columns = ["model", "arm", "sparsity", "draw", "item", "loss"]
    return LadderRows(pd.DataFrame(runs), pd.DataFrame(losses, columns=columns))


def test_rungs_are_recipes_and_seeds() -> None:
    names = [rung.name for rung in read_rungs(["lab-llama@0-2", "lab-opt@4", "lab-llama-4m@1-1", "lab-opt@shipped"])]
    assert names == ["lab-llama@0", "lab-llama@1", "lab-llama@2", "lab-opt@4", "lab-llama-4m@1", "lab-opt@shipped"]


@pytest.mark.parametrize(
    ("lines", "error", "told"),
    [
        ([], ValueError, "needs a list of rungs"),
        ("lab-llama@0", ValueError, "needs a list of rungs"),
        (["lab-llama"], ValueError, 'write "lab-llama@0-4"'),
        (["lab-llama@3-1"], ValueError, "is not a recipe and its seeds"),
        (["lab-llama@-1"], ValueError, "is not a recipe and its seeds"),
        (["lab-llama@0-2", "lab-llama@2"], ValueError, "lab-llama@2 stands twice"),
        (["lab-lama@0"], LookupError, "lab-lama"),
        (["lab-llama-4m@shipped"], ValueError, "no model of lab-llama-4m comes with the collection"),
    ],
)
def test_a_ladder_that_cannot_be_is_refused(lines: list[str], error: type, told: str) -> None:
    with pytest.raises(error, match=told):
        read_rungs(lines)


def test_a_shipped_model_is_not_trained(tmp_path) -> None:
    (rung,) = read_rungs(["lab-opt@shipped"])
    assert train_rung(rung, folder=tmp_path) == MODELS / "lab-opt" and not list(tmp_path.iterdir())


def test_differences_are_signed_as_the_claims_are() -> None:
    means = {
        name: frame["value"].mean()
        for name, frame in claim_differences(planted({"middle@0": 1.0}).losses, low=0.3, high=0.7).items()
    }
    assert means["C01"] == pytest.approx((0.002 + 0.004) / 2)  # owl is worse, which favours uniform
    assert means["C02"] == pytest.approx((0.2 + 0.1) / 2)
    assert means["C04"] == pytest.approx(0.004)  # sparsegpt is worse
    assert means["C05"] == pytest.approx(0.3)
    assert means["C16"] == pytest.approx(0.09)
    assert means["C17"] == pytest.approx(-0.05)  # wanda does not keep up


def test_the_slope_of_c03_is_that_of_least_squares() -> None:
    effects = rung_effects(planted({"middle@0": 1.0}), low=0.3, high=0.7).set_index("claim")
    gains = [
        np.mean([ADDED[f"{score}/uniform"][k] - ADDED[f"{score}/owl"][k] for score in ("ria", "sparsegpt")])
        for k in range(3)
    ]
    assert effects.loc["C03", "estimate"] == pytest.approx(np.polyfit(GRID, gains, 1)[0])
    assert list(effects.index) == list(CLAIMS)
    assert effects.loc["C05", "share"] == pytest.approx(100 * 0.3 / DENSE)


def test_over_seeds_the_seed_is_the_unit() -> None:
    rows = planted({"middle@0": 1.0, "middle@1": 0.5, "middle@2": 1.5, "small@0": 1.0})
    found = effects_over_seeds(rung_effects(rows, low=0.3, high=0.7)).set_index("claim")
    assert set(found["recipe"]) == {"middle"} and set(found["seeds"]) == {3}
    five = found.loc["C05"]
    half = 4.302653 * np.std([0.15, 0.3, 0.45], ddof=1) / np.sqrt(3)  # t with two degrees of freedom
    assert (five["estimate"], five["low"], five["high"]) == pytest.approx((0.3, 0.3 - half, 0.3 + half), abs=1e-3)
    assert five["holds"] == 3 and five["outcome"] == "inconclusive"
    assert found.loc["C17", "holds"] == 0  # -0.05 is below minus the margin of 0.02 on each seed


def test_a_shipped_model_stands_beside_the_seeds_and_not_among_them() -> None:
    seeds = {"middle@0": 1.0, "middle@1": 0.5, "middle@2": 1.5, "small@0": 1.0, "small@shipped": 1.0}
    alone, beside = (rung_effects(planted(seeds | more), low=0.3, high=0.7) for more in ({}, {"middle@shipped": 3.0}))
    pd.testing.assert_frame_equal(effects_over_seeds(alone), effects_over_seeds(beside))
    recipes = ["small", "middle"]
    pd.testing.assert_frame_equal(size_trends(alone, recipes), size_trends(beside, recipes))
    found = shipped_beside_seeds(beside).set_index("claim")
    assert set(found["recipe"]) == {"middle"}  # one seed of "small" says nothing of the next
    five = found.loc["C05"]
    reach = 4.302653 * np.std([7.5, 15, 22.5], ddof=1) * np.sqrt(4 / 3)  # 100 × 0.15 / 2, and so on
    assert (five["shipped"], five["low"], five["high"]) == pytest.approx((45, 15 - reach, 15 + reach), abs=1e-3)
    assert five["inside"]  # 45 < 15 + 37
    far = shipped_beside_seeds(rung_effects(planted(seeds | {"middle@shipped": 5.0}), low=0.3, high=0.7))
    assert not far.set_index("claim").loc["C05", "inside"]


def test_a_trend_is_per_doubling_of_the_parameters() -> None:
    rows = planted({"small@0": 1.0, "middle@0": 2.0, "large@0": 3.0})
    trend = size_trends(rung_effects(rows, low=0.3, high=0.7), ["small", "middle", "large"]).set_index("claim")
    assert trend.loc["C05", "per doubling"] == pytest.approx(100 * 0.15 / DENSE)  # 0.3 nats more with two doublings
    with pytest.raises(ValueError, match="at least two sizes"):
        size_trends(rung_effects(rows, low=0.3, high=0.7), ["small"])


def test_a_grid_without_a_sparsity_is_refused() -> None:
    with pytest.raises(ValueError, match="no sparsities for C01, C04"):
        claim_differences(planted({"middle@0": 1.0}).losses, low=0.2, high=0.7)


def test_the_figure_has_a_panel_per_claim_with_all_rungs() -> None:
    effects = rung_effects(
        planted({"small@0": 1.0, "small@1": 1.2, "middle@0": 2.0, "middle@1": 2.2}), low=0.3, high=0.7
    )
    figure = effects_by_size(effects, effects_over_seeds(effects), claims=CLAIMS, title="t")
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == list(CLAIMS)
    assert len(shown[0].lines[0].get_xdata()) == 4


@pytest.fixture
def minute(monkeypatch: pytest.MonkeyPatch, lab_tokenizer: PreTrainedTokenizerBase) -> str:
    config = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 128,
    }  # fmt: skip
    monkeypatch.setitem(SPECS, "minute", ModelSpec("minute", LlamaConfig, config, shipped=False))
    monkeypatch.setattr(loop, "train_tokenizer", lambda: lab_tokenizer)
    monkeypatch.setattr(loop, "SHARD_SEQUENCES", 64)
    return "minute"


def test_a_study_from_training_to_stored_rows(minute: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = LadderPlan(
        models=[f"{minute}@0-1"], text="lab:encyclopedic", sparsities=[0.3, 0.5, 0.7], n_draws=2, tokens=3 * 2048,
        sizes=SweepSizes(n_calibration=2, n_items=4, seq_len=16),
    )  # fmt: skip
    rows = plan.carry_out(folder=tmp_path / "runs", n_jobs=1)
    assert list(rows.runs["model"]) == ["minute@0", "minute@1"] and rows.runs["weights_sha256"].nunique() == 2
    assert (rows.runs["training_tokens"] == 3 * 2048).all()
    assert len(rows.losses) == 2 * (4 + len(ARMS) * 3 * 2 * 4)
    plan.save(rows, tmp_path / "stored")
    kept = plan.load(tmp_path / "stored")
    pd.testing.assert_frame_equal(kept.losses, rows.losses, check_exact=False, rtol=1e-6)
    monkeypatch.setattr("labutils.ladder.study.train_lab_model", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr("labutils.ladder.study.sweep", lambda *_, **__: pytest.fail("swept again"))
    pd.testing.assert_frame_equal(plan.carry_out(folder=tmp_path / "runs", n_jobs=1).losses, rows.losses)
