"""A study as a plan: from the notebook's parameters, carried out, stored, read again; and the command for it."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from helpers import TINY_WORDS, word_tokenizer
from small_sweeps import SETTING, assert_same, kill_after
from transformers import PreTrainedModel

from labutils.core import paths
from labutils.distillation import __main__ as command
from labutils.distillation import bench as benches
from labutils.distillation import plan as plans
from labutils.distillation.plan import DistillPlan
from labutils.runner.planning import plan_studies
from labutils.runner.stored_rows import describe_origin


@pytest.fixture
def tiny(tiny_llama: PreTrainedModel, task_files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> DistillPlan:
    """A plan of a tiny model on both tasks."""
    tokenizer = word_tokenizer(TINY_WORDS, bos_token="<s>")
    for module in (benches, plans):
        monkeypatch.setattr(module, "load_model", lambda source, revision=None: (tiny_llama, tokenizer))
    return DistillPlan(
        model="tiny", tasks=list(task_files.values()), methods=["kd", "ild"], controls=["kd/share=2"],
        studied=["loraild"], ranks=[2, 3], shares=[1.0], rates=[1e-3, 1e-2], n_seeds=2, n_seeds_others=1,
        setting=SETTING,
    )  # fmt: skip


def test_the_notebook_declares_a_plan_in_every_profile() -> None:
    for profile in ("smoke", "lab", "full", "hub", "paper"):
        (study,), _ = plan_studies([DistillPlan.notebook], profile=profile, overrides={}, folder=paths.NOTEBOOKS)
        plan = DistillPlan.of(study.parameters)
        assert plan.setting.n_train == study.parameters["n_train"] and plan.arms["kd"] == plan.n_seeds
        assert DistillPlan.of(json.loads(json.dumps(plan.described()))) == plan
    with pytest.raises(LookupError, match="rates, n_seeds, n_seeds_others"):
        DistillPlan.of(
            {"model": "m", "tasks": [], "methods": [], "controls": [], "studied": [], "ranks": [], "shares": []}
        )


def test_the_stored_study_is_the_one_that_the_notebook_asks_for() -> None:
    (study,), _ = plan_studies([DistillPlan.notebook], profile="full", overrides={}, folder=paths.NOTEBOOKS)
    if not (paths.DATA / "distillation_runs" / "origin.json").exists():
        pytest.skip("no rows are stored in data/distillation_runs: python -m labutils.distillation computes them")
    plan = DistillPlan.of(study.parameters)
    assert "today" not in describe_origin(study.parameters["stored"])
    found, differing = plan.load_earlier(study.parameters["stored"])
    if differing:
        pytest.skip(f"the stored rows are of an earlier plan, as the notebook says: {'; '.join(differing)}")
    assert found.runs.groupby(["evaluation", "arm"])["seed"].nunique().groupby("arm").unique().map(list).to_dict() == {
        arm: [n] for arm, n in plan.arms.items()
    }
    students = found.items[found.items["arm"] != "teacher"]
    scores = 1 - students.groupby(["evaluation", "arm", "seed"])["loss"].mean()
    tests = found.runs.set_index(["evaluation", "arm", "seed"])["test"].sort_index()
    pd.testing.assert_series_equal(scores, tests, check_names=False, rtol=1e-5)


def test_every_varied_arm_has_its_reference(tiny: DistillPlan) -> None:
    plan = replace(tiny, shares=[0.5, 1.0, 2.0])
    most = ["kd", "loraild", "ild", "none"] + [
        f"{arm}/share={n}" for n in (0.5, 2) for arm in ("none", "kd", "loraild")
    ]
    cut = ["none/cut", "kd/cut", "loraild/cut"]
    assert plan.arms == dict.fromkeys([*most, *cut], 2) | {"kd/rank=3": 1, "loraild/rank=3": 1}
    assert plan.count_runs() == 2 * (2 * 13 + 2 + 7 * 2 * 1)  # arms with two seeds and with one, and rates tried
    assert plan.forecast(36.0) == "84 runs × 36.0 s = 0.8 hours of one core"
    all_cut = replace(plan, setting=replace(SETTING, width=None))
    assert all_cut.arms.keys() == plan.arms.keys() - set(cut)


def test_a_study_is_stored_and_read_again(tiny: DistillPlan, tmp_path: Path) -> None:
    found = tiny.carry_out()
    seeds = found.runs.groupby("arm")["seed"].nunique()
    assert seeds.to_dict() == tiny.arms
    assert set(found.probes["arm"]) == {"none", "kd", "ild", "loraild", "kd/share=2", "teacher", "untrained"}
    assert found.teachers["admitted"].all() and len(found.teachers) == 2
    origin = tiny.save(found, tmp_path / "rows")
    assert_same(found, tiny.load(tmp_path / "rows"))
    assert origin["plan"]["n_seeds"] == 2 and len(origin["model_sha256"]) == 64
    later = replace(tiny, n_seeds=3, setting=replace(SETTING, temperature=4.0))
    with pytest.raises(ValueError, match="n_seeds=2, not 3"):
        later.load(tmp_path / "rows")
    earlier, differing = later.load_earlier(tmp_path / "rows")
    assert_same(found, earlier)
    assert differing == ["n_seeds: 2; now 3", "temperature: 1.0; now 4.0"]
    assert tiny.load_earlier(tmp_path / "rows")[1] == []


def test_the_model_must_be_the_one_that_was_studied(
    tiny: DistillPlan, tiny_gpt2: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save(replace(tiny, tasks=tiny.tasks[:1], rates=[1e-2], studied=[], controls=[]).carry_out(), tmp_path)
    monkeypatch.setattr(plans, "load_model", lambda source, revision=None: (tiny_gpt2, None))
    with pytest.raises(ValueError, match="model_sha256"):
        tiny.load(tmp_path)


def test_the_command_goes_on_after_a_kill_to_the_same_rows(
    tiny: DistillPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    tiny = replace(tiny, tasks=tiny.tasks[:1])
    (tmp_path / "plan.json").write_text(json.dumps(tiny.described()))

    def words(name: str) -> list[str]:
        given = {"--plan": tmp_path / "plan.json", "--runs": tmp_path / f"{name}_runs", "--out": tmp_path / name}
        return [str(word) for pair in given.items() for word in pair]

    assert command.main(words("whole")) == 0 and "runs in" in capsys.readouterr().out
    kill_after(7, lambda: command.main(words("killed")), monkeypatch)
    assert not (tmp_path / "killed").exists()
    assert command.main(words("killed")) == 0
    assert_same(tiny.load(tmp_path / "whole"), tiny.load(tmp_path / "killed"))


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "plan.json").write_text("{}")
    assert command.main(["--plan", str(tmp_path / "plan.json")]) == 2
    assert command.main(["-p", "n_sed=3"]) == 2
    assert "n_seeds" in capsys.readouterr().err
