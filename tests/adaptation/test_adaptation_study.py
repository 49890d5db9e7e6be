"""The study: complete rows, resumption after a kill, the same rows from other processes, and gains pair by pair."""

import pandas as pd
import pytest
from small_models import causal_base, pairs, save, texts

from labutils.adaptation import jobs
from labutils.adaptation.correlations import fold_correlations
from labutils.adaptation.samples import Sample
from labutils.adaptation.study import RUN, StudyRows, adaptation_gain, run_study
from labutils.adaptation.training import load_base
from labutils.data.tasks import Task
from labutils.evaluation.similarity import score_similarity
from labutils.stats.bootstrap import crossed_bootstrap

SAMPLES = [Sample(f"S0{number}", texts(12, seed=number), {"knob_x": float(number)}) for number in (1, 2)]
TASK = Task("lab:similar", "topic", "similarity", pairs(15))
LINES = {
    "adaptations": ["full rate=1e-2 steps=2", "lora rate=1e-2 steps=2"],
    "finetunings": ["head epochs=1", "full rate=3e-3 epochs=1"],
}
SETTING = jobs.StudySetting(n_folds=3, n_base=2, seq_len=16, n_heldout=4)
TIMES = ["seconds", "adaptation_seconds"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save(causal_base(), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def heldout(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("texts") / "domain.txt"
    path.write_text("\n".join(texts(60, seed=7)))
    return f"file:{path}"


@pytest.fixture(scope="module")
def study(model, heldout):
    """Run a study with other arguments than the usual ones where they are given."""

    def run(**changes: object) -> StudyRows:
        given = {"samples": SAMPLES, "task": TASK, "heldout": heldout, "setting": SETTING, **LINES, **changes}
        return run_study(model, **given)

    return run


@pytest.fixture(scope="module")
def rows(study) -> StudyRows:
    return study()


def assert_same(found: StudyRows, expected: StudyRows) -> None:
    pd.testing.assert_frame_equal(found.runs.drop(columns=TIMES), expected.runs.drop(columns=TIMES))
    pd.testing.assert_frame_equal(found.predictions, expected.predictions)


def test_every_run_is_there_once(rows):
    runs = rows.runs
    assert len(runs) == 2 * 2 * 2 + 2 * 2 and not runs.duplicated(RUN).any()
    adapted, base = runs[runs["sample"] != "base"], runs[runs["sample"] == "base"]
    assert set(adapted["sample"]) == {"S01", "S02"} and set(adapted["adaptation"]) == {"D1", "D2"}
    assert set(runs["finetuning"]) == {"H1", "H2"} and set(base["adaptation"]) == {"none"}
    assert sorted(base["replicate"]) == [0, 0, 1, 1] and not adapted["replicate"].any()
    assert (
        adapted.drop(columns="complexity").notna().all(axis=None)
    )  # tokens of one letter and a number: no readability
    assert base[["pearson", "spearman", "zero_shot", "finetuning_loss", "seconds"]].notna().all(axis=None)
    assert base[["heldout_after", "word_length", "knob_x", "adaptation_seed"]].isna().all(axis=None)
    assert (adapted["knob_x"] == adapted["sample"].map({"S01": 1.0, "S02": 2.0})).all()
    assert runs["model"].unique() == ["tiny"] and runs["task"].unique() == ["similar"]
    lines = dict(zip(runs["finetuning"], runs["finetuning_line"], strict=True))
    assert lines == {"H1": "head rate=0.001 batch=8 epochs=1", "H2": "full rate=0.003 batch=8 epochs=1"}


def test_seeds_differ_between_runs_and_folds_do_not(rows):
    assert rows.runs["finetuning_seed"].is_unique
    assert rows.runs.groupby(["sample", "adaptation"])["adaptation_seed"].nunique().loc[["S01", "S02"]].eq(1).all()
    assert rows.runs["adaptation_seed"].nunique() == 4
    assert rows.predictions.groupby("item")["fold"].nunique().eq(1).all()


def test_scores_are_those_of_the_predictions(rows):
    parts = rows.predictions.groupby(RUN)
    for run in rows.runs.itertuples():
        part = parts.get_group((run.sample, run.adaptation, run.finetuning, run.replicate))
        assert len(part) == 15 and fold_correlations(part) == pytest.approx((run.pearson, run.spearman))


def test_the_score_before_fine_tuning_is_that_of_the_cosines(model, rows):
    base = load_base(model)
    items = TASK.items
    scored = score_similarity(base.model, base.tokenizer, items)
    folds = rows.predictions.query("sample == 'base' and replicate == 0 and finetuning == 'H1'")
    expected, _ = fold_correlations(folds.assign(predicted=scored["predicted"].to_numpy()))
    found = rows.runs[rows.runs["sample"] == "base"]["zero_shot"]
    assert found.nunique() == 1 and found.iloc[0] == pytest.approx(expected, abs=1e-6)
    adapted = rows.runs[rows.runs["sample"] != "base"].groupby(["sample", "adaptation"])["zero_shot"]
    assert (adapted.nunique() == 1).all()  # whatever the fine-tuning


def test_adaptation_is_the_same_for_all_fine_tunings(rows):
    adapted = rows.runs[rows.runs["sample"] != "base"]
    columns = ["heldout_before", "heldout_after", "adaptation_loss", "tokens", "passes"]
    assert adapted.groupby(["sample", "adaptation"])[columns].nunique().eq(1).all(axis=None)
    assert adapted["heldout_before"].nunique() == 1 and adapted["heldout_after"].nunique() == 4
    assert (adapted["tokens"] == 2 * 8 * 16).all()


def test_a_run_does_not_depend_on_what_else_is_studied(study, rows):
    """Another order, fewer samples and configurations: the runs they share are equal."""
    fewer = study(
        samples=SAMPLES[1:], adaptations=LINES["adaptations"][1:], finetunings=LINES["finetunings"][::-1]
    ).runs
    keys = ["sample", "adaptation_line", "finetuning_line", "replicate"]
    both = fewer.merge(rows.runs, on=keys)
    assert len(both) == len(fewer) == 2 + 4
    for column in ("pearson", "finetuning_seed", "finetuning_loss"):
        assert (both[f"{column}_x"] == both[f"{column}_y"]).all()


def test_a_killed_study_goes_on(study, rows, tmp_path, monkeypatch):
    """Killed in a fine-tuning, then in an adaptation; nothing that was finished is done again."""
    done = {"adapt": 0, "tune": 0}
    adapt, tune = jobs.adapt_model, jobs.tune_similarity

    def counted_adapt(*given, **named):
        done["adapt"] += 1
        if done["adapt"] == 3:
            raise KeyboardInterrupt
        return adapt(*given, **named)

    def counted_tune(*given, **named):
        done["tune"] += 1
        if done["tune"] == 4:
            raise KeyboardInterrupt
        return tune(*given, **named)

    monkeypatch.setattr(jobs, "adapt_model", counted_adapt)
    monkeypatch.setattr(jobs, "tune_similarity", counted_tune)
    with pytest.raises(KeyboardInterrupt):
        study(folder=tmp_path)
    assert done == {"adapt": 2, "tune": 4}
    assert len(list((tmp_path / "runs").glob("*.json"))) == 3 and len(list((tmp_path / "weights").iterdir())) == 1
    with pytest.raises(KeyboardInterrupt):
        study(folder=tmp_path)
    assert done == {"adapt": 3, "tune": 5}  # the second adaptation was found, its last fine-tuning done
    assert_same(study(folder=tmp_path), rows)
    assert done["adapt"] == 3 + 2 and done["tune"] == 5 + 8 and not list((tmp_path / "weights").iterdir())
    before = dict(done)
    assert_same(study(folder=tmp_path), rows)
    assert done == before


def test_two_processes_give_the_same_rows(study, rows):
    assert_same(study(n_jobs=2), rows)


def test_what_changes_the_numbers_is_not_taken_from_the_folder(study, rows, tmp_path):
    study(folder=tmp_path)
    n_files = len(list((tmp_path / "runs").iterdir()))
    other_texts = [Sample("S01", texts(12, seed=8)), SAMPLES[1]]
    for changes in (
        {"samples": other_texts},
        {"task": Task("lab:similar", "topic", "similarity", pairs(15, seed=1))},
        {"setting": jobs.StudySetting(n_folds=3, n_base=2, seq_len=16, n_heldout=4, seed=1)},
    ):
        found = study(folder=tmp_path, **changes)
        assert (found.runs["pearson"] != rows.runs["pearson"]).any()
        n_before, n_files = n_files, len(list((tmp_path / "runs").iterdir()))
        assert n_files - n_before == (4 if "samples" in changes else 12)


def test_the_gain_is_the_difference_of_the_scores(rows):
    gains = adaptation_gain(rows)
    assert len(gains) == 8 * 15 * 2 and list(gains)[:5] == ["model", "evaluation", "draw", "seed", "adaptation"]
    runs = rows.runs
    base = runs[runs["sample"] == "base"].groupby("finetuning")["pearson"].mean()
    adapted = runs[runs["sample"] != "base"].set_index(["sample", "adaptation", "finetuning"])["pearson"]
    for key, value in gains.groupby(["draw", "adaptation", "finetuning"])["value"].mean().items():
        assert value == pytest.approx(adapted[key] - base[key[2]], abs=1e-12)
    interval = crossed_bootstrap(
        gains, cells=["adaptation", "finetuning"], n_resamples=200, units=("sentence pair", "sample of texts")
    )
    assert interval.estimate == pytest.approx(gains["value"].mean()) and interval.n_items == 15 and not interval.note
    means = gains.groupby(["seed", "finetuning"])["value"].mean().unstack("seed")
    replicates = runs[runs["sample"] == "base"].pivot(index="finetuning", columns="replicate", values="pearson")
    assert (means[0] - means[1]).to_numpy() == pytest.approx((replicates[1] - replicates[0]).to_numpy(), abs=1e-12)
    for part in (rows.predictions["sample"] == "base", rows.predictions["sample"] != "base"):
        with pytest.raises(ValueError, match="runs of the base model"):
            adaptation_gain(StudyRows(runs, rows.predictions[part]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": []}, "at least one sample"),
        ({"samples": [SAMPLES[0], SAMPLES[0]]}, "one sample and none twice"),
        ({"adaptations": ["full", "full rate=1e-3"]}, "one adaptation and none twice"),
        ({"finetunings": []}, "at least one fine-tuning"),
        ({"finetunings": ["hed"]}, "Did you mean 'head'"),
        (
            {
                "task": Task(
                    "lab:choice",
                    "qa",
                    "choice",
                    pd.DataFrame({"item": [0], "prompt": ["?"], "choices": [["a", "b"]], "gold": [0]}),
                )
            },
            "choice task",
        ),
    ],
)
def test_wrong_requests_stop_before_anything_is_trained(study, changes, message, monkeypatch):
    monkeypatch.setattr(jobs, "load_base", lambda *given, **named: pytest.fail("a model was loaded"))
    with pytest.raises(ValueError, match=message):
        study(**changes)


def test_an_error_names_its_run(study):
    with pytest.raises(ValueError, match=r"run S01, full rate=1e\+20 .*: the loss at step .* lower the learning rate"):
        study(adaptations=["full rate=1e20 steps=9"])
