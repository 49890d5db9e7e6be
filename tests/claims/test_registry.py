"""The registry of claims and the rules by which an interval becomes a verdict."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from labutils.claims import registry as claims
from labutils.claims.verdicts import Verdict
from labutils.core import paths
from labutils.stats.bootstrap import Interval
from labutils.sweeps.variance import set_effect

ALL_IDS = [f"C{number:02d}" for number in range(1, 51)] + [f"R{number:02d}" for number in range(1, 13)]
SCOPE = {"model": "lab-llama", "corpus": "lab:review", "grid": [0.6, 0.7], "parameters": 1_300_000}
# One claim of each kind, with a margin of 0.01 in the unit of the judged quantity when the dense loss is 1.
KINDS = {"positive": "C02", "no_worse": "C01", "negative_result": "C14", "equivalence": "C12"}

SOUND = {
    "source": "a paper", "statement": "It works.", "quantity": "loss(without) - loss(with)", "kind": "positive",
    "margin": {"value": 0.01, "unit": "nats"}, "type": "D", "needs": ["S"], "studied_in": None,
}  # fmt: skip


def interval(low: float, high: float, *, n: int = 1000, note: str = "") -> Interval:
    """An interval whose resamples are spread evenly, so that [low, high] holds 95 % of them."""
    middle, half = (low + high) / 2, (high - low) / 2 / 0.95
    return Interval(middle, low, high, 0.95, 40, 5, n, np.linspace(middle - half, middle + half, n), note)


def judge(claim_id: str, low: float, high: float, *, dense_loss: float | None = 1.0) -> Verdict:
    return claims.judge(claim_id, interval=interval(low, high), dense_loss=dense_loss, scope=SCOPE)


def test_registry_holds_every_claim_once_with_all_that_judging_needs() -> None:
    table = claims.load_claims()
    assert table["id"].tolist() == ALL_IDS
    assert re.findall(r"^  ([CR]\d\d):$", claims.REGISTRY.read_text(), re.MULTILINE) == ALL_IDS  # YAML hides duplicates
    assert (table["margin_value"].notna() | (table["kind"] == "positive")).all()
    assert table["statement"].is_unique
    assert table["quantity"].is_unique


def test_registry_names_the_notebooks_that_test_a_claim() -> None:
    studied = claims.load_claims().groupby("studied_in")["id"].agg(list).to_dict()
    assert studied["01_layerwise_sparsity"] == ["C01", "C02", "C03", "C22"]
    assert studied["02_pruning_strategy"] == ["C04", "C05", "C16", "C17"]
    assert studied["03_optiprune"] == ["C06", "R10"]
    if not any(paths.NOTEBOOKS.glob("*.ipynb")):
        pytest.skip("there are no notebooks to compare the registry with")
    assert set(studied) <= {path.stem for path in paths.NOTEBOOKS.glob("*.ipynb")}


def test_tensions_name_known_claims_or_other_work() -> None:
    listed = claims.tensions()
    names = {name for sides, _ in listed for side in sides for name in side}
    assert len(listed) == 10
    assert names - set(ALL_IDS) == {"LLM-Pruner", "Minitron"}
    assert all(question.endswith("?") for _, question in listed)


def test_unknown_claims_are_answered_with_the_nearest() -> None:
    with pytest.raises(LookupError, match="no claim 'c02'.*Did you mean 'C02'"):
        claims.claim("c02")
    with pytest.raises(LookupError, match="no claim 'C99'"):
        claims.judge("C99", interval=interval(0.0, 1.0), scope=SCOPE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "better"}, "the kind is one of"),
        ({"kind": "equivalence", "margin": None}, "needs a margin"),
        ({"margin": {"value": 0.01, "unit": "percent"}}, "a margin's unit is one of"),
        ({"margin": {"value": 0.0, "unit": "nats"}}, "a margin is positive"),
        ({"margin": {"size": 0.1}}, "missing or unknown"),
        ({"type": "X"}, "the type is"),
        ({"needs": ["Z"]}, "needs are letters"),
        ({"statement": ""}, "statement and quantity are texts"),
        ({"extra": 1}, "missing or unknown"),
        ({"exploratory": "yes"}, "(exploratory is true or false|missing or unknown)"),
        ({"revised": "yesterday"}, "revised is a time in UTC"),
        ({"revised": "2026-11-29T03:00:00"}, "revised is a time in UTC"),
        ({"revised": 2026}, "(revised is a time in UTC|missing or unknown)"),
        ({"same_fact_as": ["C03"]}, "(same_fact_as is an id or null|missing or unknown)"),
        ({"same_fact_as": "C03"}, "same_fact_as is C03"),
        ({"same_fact_as": "C02"}, "same_fact_as is C02"),
    ],
)
def test_registry_entries_that_break_a_rule_are_named(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": {"C02": SOUND | change}, "tensions": []}))
    with pytest.raises(ValueError, match=f"claim C02: .*{message}"):
        claims.read_registry(path)


def test_a_sound_registry_is_read(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": {"C02": SOUND}, "tensions": []}))
    found, _ = claims.read_registry(path)
    assert found["C02"].margin == claims.Margin(0.01, "nats")
    assert found["C02"].needs == ("S",)


@pytest.mark.parametrize(
    ("first", "second", "sound"),
    [
        ({}, {"same_fact_as": "C02"}, True),
        ({"exploratory": True}, {"same_fact_as": "C02"}, False),
        ({}, {"same_fact_as": "C02", "exploratory": True}, False),
        ({"same_fact_as": "C03"}, {"same_fact_as": "C02"}, False),
    ],
)
def test_a_fact_is_restated_once_and_in_the_open(tmp_path: Path, first: dict, second: dict, sound: bool) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": {"C02": SOUND | first, "C03": SOUND | second}, "tensions": []}))
    if sound:
        found, _ = claims.read_registry(path)
        assert found["C03"].aside.startswith("the same fact as C02") and found["C02"].aside == ""
    else:
        with pytest.raises(ValueError, match="same_fact_as is C0"):
            claims.read_registry(path)


def test_what_is_no_test_of_its_own_is_named() -> None:
    assert [one.id for one in claims.all_claims() if one.aside] == ["C48", "R12"]
    assert claims.claim("C48").exploratory and claims.claim("R12").same_fact_as == "C14"


def test_every_studied_claim_has_a_short_name() -> None:
    studied = [one for one in claims.all_claims() if one.studied_in]
    assert all(one.short and not one.short.endswith(".") for one in studied)
    assert len({one.short for one in studied}) == len(studied)
    unnamed = replace(studied[0], short="")
    assert unnamed.name == unnamed.statement.rstrip(".")


def test_tensions_with_unknown_claims_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    tension = {"pair": [["C02"], ["C77"]], "question": "Which?"}
    path.write_text(yaml.safe_dump({"claims": {"C02": SOUND}, "tensions": [tension]}))
    with pytest.raises(ValueError, match="C77"):
        claims.read_registry(path)


@pytest.mark.parametrize(("kind", "boundary"), [("positive", 0.0), ("no_worse", -0.01), ("negative_result", 0.01)])
def test_p_value_is_small_where_the_interval_leaves_the_claims_boundary(kind: str, boundary: float) -> None:
    assert judge(KINDS[kind], boundary + 0.001, boundary + 0.021).p_value < 0.05
    assert judge(KINDS[kind], boundary - 0.021, boundary - 0.001).p_value < 0.05
    assert judge(KINDS[kind], boundary - 0.01, boundary + 0.01).p_value > 0.9


def test_p_value_of_equivalence_is_small_inside_and_outside_the_margin() -> None:
    assert judge("C12", -0.3, 0.3).p_value < 0.05
    assert judge("C12", 0.45, 0.7).p_value < 0.05
    assert judge("C12", -0.9, 0.9).p_value > 0.3


def test_clear_but_negligible_effects_are_told() -> None:
    assert "in the direction of the claim, too small to matter" in judge("C02", 0.001, 0.005).note
    assert "against the claim, too small to matter" in judge("C02", -0.005, -0.001).note
    assert "against the claim, too small to matter" in judge("C01", -0.008, -0.002).note
    assert "statistically clear, practically negligible" in judge("C01", 0.002, 0.008).note
    assert judge("C02", 0.001, 0.02).note == ""
    assert judge("C02", -0.001, 0.005).note == ""


def test_margin_relative_to_the_dense_loss() -> None:
    assert judge("C02", 0.02, 0.05, dense_loss=2.5).margin == pytest.approx(0.025)
    assert judge("C03", 0.02, 0.05, dense_loss=2.5).margin == pytest.approx(0.025)
    assert judge("C03", 0.02, 0.05).unit == "nats per unit of sparsity"
    assert judge("C14", 0.02, 0.05, dense_loss=None).margin == 0.01
    for dense_loss in (None, 0.0, float("nan")):
        with pytest.raises(ValueError, match="judge C02: the margin is 1% of the dense model's mean loss"):
            judge("C02", 0.02, 0.05, dense_loss=dense_loss)


def test_judge_computes_the_interval_from_differences() -> None:
    generator = np.random.default_rng(0)
    index = np.indices((5, 40, 2)).reshape(3, -1)
    values = 0.05 + 0.01 * generator.normal(size=(5, 1, 1)) + 0.05 * generator.normal(size=(5, 40, 2))
    frame = pd.DataFrame(dict(zip(("draw", "item", "sparsity"), index, strict=True)) | {"value": values.ravel()})
    verdict = claims.judge("C02", frame, dense_loss=2.0, scope=SCOPE, unit="nats per token")
    assert (verdict.outcome, verdict.n_items, verdict.n_draws) == ("supported", 40, 5)
    assert verdict.estimate == pytest.approx(values.mean())
    assert verdict.low < verdict.estimate < verdict.high
    assert verdict.sentence().startswith("C02 supported on lab-llama, lab:review: +0.0")
    assert "nats per token" in verdict.sentence()
    assert "95% interval over 40 items and 5 calibration draws" in verdict.sentence()
    with pytest.raises(ValueError, match="first at draw=0, item=0, sparsity=1"):
        claims.judge("C02", frame.assign(value=frame["value"].mask(frame.index == 1)), dense_loss=2.0, scope=SCOPE)


def test_judge_refuses_what_it_cannot_judge() -> None:
    with pytest.raises(ValueError, match="either `differences` or `interval`"):
        claims.judge("C14", scope=SCOPE)
    with pytest.raises(ValueError, match="must name the model"):
        claims.judge("C14", interval=interval(0.0, 1.0), scope={"corpus": "lab:review"})
    with pytest.raises(ValueError, match="the estimate of the interval is nan"):
        claims.judge("C14", interval=interval(float("nan"), 1.0), scope=SCOPE)


def test_a_model_at_chance_cannot_be_judged() -> None:
    verdict = claims.judge("C08", scope=SCOPE, guard=claims.Guard(0.48, 0.55, 0.5))
    assert verdict.outcome == "not testable here"
    assert verdict.p_value is None
    assert "[0.480, 0.550] against 0.500" in verdict.sentence()
    able = claims.judge("C08", interval=interval(0.02, 0.05), scope=SCOPE, guard=claims.Guard(0.61, 0.7, 0.5))
    assert able.outcome == "supported"


def test_outcomes_are_brief_without_a_glossary() -> None:
    assert judge("C02", 0.002, 0.008).brief == "real, but too small to matter"
    assert judge("C02", 0.032, 0.050).brief == "supported"


def test_sentence_quotes_estimate_and_interval() -> None:
    assert judge("C02", 0.032, 0.050).sentence() == (
        "C02 supported on lab-llama, lab:review: +0.041 nats [0.032, 0.050], 95% interval over 40 items and "
        "5 calibration draws."
    )
    contradicted = judge("C02", -0.050, -0.032).sentence()
    assert contradicted.startswith("C02 contradicted, that is, not transferred to this model, on lab-llama, lab:review")
    assert "−0.041 nats [−0.050, −0.032]" in contradicted
    assert "refuted" not in contradicted
    several = claims.judge("C02", interval=interval(-0.05, -0.03), dense_loss=1.0, scope=SCOPE | {"model": ["a", "b"]})
    assert "not transferred to these models, on a, b" in several.sentence()
    assert judge("C02", 0.0, 0.0).effect() == "0.0 nats [0.0, 0.0]"
    assert judge("C02", 12.4, 55.1).effect() == "+34 nats [12, 55]"


def test_sentence_names_what_the_interval_was_found_over() -> None:
    found = replace(interval(0.032, 0.050), units=("test item", "draw of random neurons"))
    verdict = claims.judge("C02", interval=found, dense_loss=1.0, scope=SCOPE)
    assert verdict.sentence().endswith("over 40 test items and 5 draws of random neurons.")
    once = replace(verdict, n_draws=1)
    assert once.evidence().endswith("over 40 test items and 1 draw of random neurons")
    never = claims.judge("C02", interval=replace(found, n_draws=None), dense_loss=1.0, scope=SCOPE)
    assert never.sentence().endswith("over 40 test items.")


def test_units_travel_with_the_differences_and_the_ledgers_rows() -> None:
    frame = pd.DataFrame({"draw": [0, 0, 1, 1], "item": [0, 1, 0, 1], "sparsity": 0.5, "value": [1.0, 1.1, 1.2, 1.4]})
    units = ("sentence pair", "sample of texts")
    verdict = claims.judge("C02", frame, dense_loss=1.0, scope=SCOPE, units=units)
    assert "over 2 sentence pairs and 2 samples of texts" in verdict.sentence()
    assert "over 2 sentence pairs and 2 samples of texts" in Verdict.from_row(verdict.as_row()).sentence()
    before = {name: value for name, value in verdict.as_row().items() if not name.endswith("_unit")}
    mixed = pd.DataFrame([verdict.as_row(), before])  # a ledger from before units were kept, beside a newer one
    assert "over 2 items and 2 calibration draws" in Verdict.from_row(mixed.to_dict("records")[1]).sentence()


def test_verdicts_survive_json_and_data_frames() -> None:
    for verdict in (judge("C02", 0.02, 0.05), claims.not_testable("C47", "no experts", scope=SCOPE)):
        row = verdict.as_row()
        assert all(value is None or isinstance(value, str | int | float | bool) for value in row.values())
        assert json.loads(json.dumps(row, allow_nan=False)) == row
        assert Verdict.from_row(row) == verdict
    table = pd.DataFrame([judge("C02", 0.02, 0.05).as_row(), claims.not_testable("C47", "x", scope=SCOPE).as_row()])
    assert [Verdict.from_row(row) for row in table.to_dict("records")][1].estimate is None
    assert table["scope_grid"].iloc[0] == "0.6, 0.7"


def test_whole_numbers_of_a_scope_survive_a_frame_with_absent_values() -> None:
    with_count = replace(judge("C02", 0.02, 0.05), scope={"n_calibration": 24, "share": 0.5})
    table = pd.DataFrame([with_count.as_row(), judge("C02", 0.02, 0.05).as_row()])
    scope = Verdict.from_row(table.to_dict("records")[0]).scope
    assert scope == {"n_calibration": 24, "share": 0.5} and isinstance(scope["n_calibration"], int)


def test_an_interval_without_width_away_from_zero_is_no_evidence() -> None:
    """Every resample at the measure's limit looks certain, and is not; two arms that agree exactly differ by zero."""
    verdict = judge("C07", -6.9, -6.9)
    assert verdict.outcome == "not testable here" and "width zero" in verdict.note and verdict.estimate is None
    assert judge("C12", 0.0, 0.0).outcome == "supported" and judge("C02", 0.0, 0.0).outcome == "equivalent"


def test_a_set_effect_at_its_floor_is_not_judged() -> None:
    """Two sets with equal means and draws that differ: F is 0 in truth and in every resample."""
    scores = np.array([[[0.2], [0.4]], [[0.2], [0.4]]])
    verdict = claims.judge("C07", interval=set_effect(scores, n_resamples=200).log_ratio, scope=SCOPE)
    assert verdict.outcome == "not testable here"
