"""Rows of finished prunings are kept with a run, found again, and belong to what they depend on."""

import copy
from functools import partial

import pandas as pd
import pytest
from tokenizers import normalizers

import labutils as lab
from labutils.pruning.grid import expand_requests
from labutils.pruning.importance import relative_importance_score
from labutils.sweeps import kept_prunings
from labutils.sweeps.kept_prunings import KeptPrunings

SIZES = lab.sweeps.SweepSizes(n_calibration=4, n_items=4, seq_len=24)
ASKED = {"arms": ["magnitude", "wanda", "ria/alpha"], "sparsities": [0.5], "n_draws": 2, "sizes": SIZES}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("LABUTILS_RUN_FOLDER", str(tmp_path))
    return tmp_path


def without_times(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns="seconds")


def count_prunings(monkeypatch) -> list[str]:
    """The methods of all prunings that are carried out from now on."""
    done, plain = [], kept_prunings.run_requests

    def counted(model, calibration, requests, evaluate):
        done.extend(request.method.name for request in requests)
        return plain(model, calibration, requests, evaluate)

    monkeypatch.setattr(kept_prunings, "run_requests", counted)
    return done


def test_a_second_sweep_finds_all_rows_and_they_are_the_same(run, monkeypatch):
    first = lab.sweep("lab-llama", ["lab:review"], **ASKED)
    done = count_prunings(monkeypatch)
    again = lab.sweep("lab-llama", ["lab:review"], **ASKED)
    pd.testing.assert_frame_equal(again, first)
    assert done == [] and len(list((run / "prunings" / "runs").glob("*.json"))) == 6


def test_rows_are_those_of_a_sweep_that_keeps_nothing(run, monkeypatch):
    kept = lab.sweep("lab-llama", ["lab:review"], **ASKED)
    monkeypatch.delenv("LABUTILS_RUN_FOLDER")
    pd.testing.assert_frame_equal(without_times(kept), without_times(lab.sweep("lab-llama", ["lab:review"], **ASKED)))


def test_what_no_calibration_changes_is_pruned_once(monkeypatch):
    done = count_prunings(monkeypatch)
    rows = lab.sweep("lab-llama", ["lab:review"], **ASKED)
    assert sorted(done) == ["magnitude", "ria", "ria", "wanda", "wanda"]
    losses = rows[rows["arm"] == "magnitude"].pivot(index="item", columns="draw", values="loss")
    assert (losses[0] == losses[1]).all()


def test_a_killed_sweep_repeats_only_what_was_not_finished(run, monkeypatch):
    class Killed(BaseException):
        pass

    whole, plain = lab.sweep("lab-llama", ["lab:review"], **ASKED), kept_prunings.run_requests
    for file in (run / "prunings" / "runs").glob("*.json"):
        file.unlink()

    def killed(*arguments):
        for number, rows in enumerate(plain(*arguments)):
            if number == 2:
                raise Killed
            yield rows

    monkeypatch.setattr(kept_prunings, "run_requests", killed)
    with pytest.raises(Killed):
        lab.sweep("lab-llama", ["lab:review"], **ASKED)
    monkeypatch.setattr(kept_prunings, "run_requests", plain)
    done = count_prunings(monkeypatch)
    again = lab.sweep("lab-llama", ["lab:review"], **ASKED)
    assert sorted(done) == ["ria", "ria", "wanda"]
    pd.testing.assert_frame_equal(without_times(again), without_times(whole))


def test_another_option_text_length_or_weight_has_rows_of_its_own(run):
    model, tokenizer = lab.load_model("lab-llama")
    tokens = lab.load_tokens("lab:review", tokenizer, n_sequences=4, seq_len=24)

    def mean(kept, calibration=tokens, **options):
        requests = expand_requests([("wanda", None, "unstructured")], [0.5], options=options)[0]
        rows = kept.rows_of(
            model, calibration, requests, lambda pruned: {"loss": lab.sequence_losses(pruned, tokens).mean().item()}
        )
        return [row["loss"] for group in rows for row in group][0]

    plain = mean(KeptPrunings(model, tokenizer, {"text": 1}))
    assert mean(KeptPrunings(model, tokenizer, {"text": 1}), sequential=False) != plain
    assert mean(KeptPrunings(model, tokenizer, {"text": 1}), calibration=tokens[:2]) != plain
    model.model.layers[0].mlp.up_proj.weight.data.mul_(1.5)
    assert mean(KeptPrunings(model, tokenizer, {"text": 1})) != plain


def test_scores_of_a_notebook_are_not_kept(run):
    with lab.pruning.temporary_registrations():
        lab.register_score("mine", "row")(lambda weight, norms: weight.abs() * norms**2)
        lab.sweep("lab-llama", ["lab:review"], arms=["mine"], sparsities=[0.5], n_draws=1, sizes=SIZES)
    assert not (run / "prunings").exists()


def test_nor_are_those_that_are_made_of_the_packages_own(run):
    """A function of the package under other options is not the package's score."""

    def mean(exponent: float) -> float:
        with lab.pruning.temporary_registrations():
            lab.register_score("mine", "matrix")(partial(relative_importance_score, exponent=exponent))
            rows = lab.sweep("lab-llama", ["lab:review"], arms=["mine"], sparsities=[0.7], n_draws=1, sizes=SIZES)
        return rows.loc[rows["method"] == "mine", "loss"].mean()

    assert mean(0.5) != mean(3.0)


def test_another_tokenizer_reads_other_tokens(run):
    """It answers by what its items are to the model; the texts are the same."""
    model, tokenizer = lab.load_model("lab-llama")
    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.normalizer = normalizers.Lowercase()
    asked = {"calibrations": ["lab:review"], "methods": ["magnitude"], "sparsities": [0.5], "n_draws": 1}
    sizes = lab.sweeps.SweepSizes(n_calibration=4, n_items=20, seq_len=24)
    scores = [
        lab.sweeps.task_sweep("lab-llama", ["lab:qa/birthplaces"], loaded=(model, each), sizes=sizes, **asked)["score"]
        for each in (tokenizer, other)
    ]
    assert scores[0].mean() > scores[1].mean()


def test_what_is_neither_in_state_nor_in_configuration_counts_too(run):
    model, tokenizer = lab.load_model("lab-llama")

    def mean(scale: float) -> float:
        changed = copy.deepcopy(model)
        changed.model.layers[0].mlp.register_forward_hook(lambda module, given, output: scale * output)
        asked = {**ASKED, "arms": ["magnitude"], "n_draws": 1}
        return lab.sweep("lab-llama", ["lab:review"], loaded=(changed, tokenizer), **asked)["loss"].mean()

    assert mean(1.0) != mean(0.0)


def test_rows_whose_file_was_removed_are_computed_again(run):
    asked = {**ASKED, "arms": ["wanda"], "n_draws": 1}
    first = lab.sweep("lab-llama", ["lab:review"], **asked)
    for file in (run / "prunings" / "runs").glob("*/rows.parquet"):
        file.unlink()
    pd.testing.assert_frame_equal(without_times(lab.sweep("lab-llama", ["lab:review"], **asked)), without_times(first))


@pytest.mark.parametrize("wrong", [{"texts": "lab:review"}, {"texts": []}, {"arms": []}, {"n_draws": 0}])
def test_a_sweep_of_nothing_is_refused(wrong):
    given = {"texts": ["lab:review"], **ASKED, **wrong}
    with pytest.raises(ValueError, match="at least one text and one arm"):
        lab.sweep("lab-llama", given.pop("texts"), **given)


def test_tasks_share_the_store(run, monkeypatch):
    asked = {"calibrations": ["lab:review"], "methods": ["magnitude", "wanda"], "sparsities": [0.5], "n_draws": 2}
    first = lab.sweeps.task_sweep("lab-llama", ["lab:qa/birthplaces"], **asked, sizes=SIZES)
    done = count_prunings(monkeypatch)
    again = lab.sweeps.task_sweep("lab-llama", ["lab:qa/birthplaces"], **asked, sizes=SIZES)
    pd.testing.assert_frame_equal(first, again)
    assert done == []
