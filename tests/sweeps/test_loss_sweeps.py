"""Sweeps: complete, paired, repeatable rows, and names of arms and cells."""

import joblib
import pandas as pd
import pytest

import labutils as lab
from labutils.data.sources import language_of, pair_name, split_pair
from labutils.sweeps.losses import split_arm

SIZES = lab.sweeps.SweepSizes(n_calibration=2, n_items=3, seq_len=16)
ARMS = ["magnitude/uniform", "wanda/uniform", "wanda/uniform/2:4"]


def small_sweep(**changes: object) -> pd.DataFrame:
    given = {"arms": ARMS, "sparsities": [0.5, 0.7], "n_draws": 2, "sizes": SIZES, **changes}
    return lab.sweep("lab-llama", ["lab:review"], **given)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return small_sweep()


def test_every_combination_is_there_once(rows: pd.DataFrame) -> None:
    pruned = rows[rows["method"] != "dense"]
    assert len(pruned) == (2 * 2 + 1) * 2 * 3  # two unstructured arms at two sparsities and one pattern; draws; items
    assert not pruned.duplicated(["arm", "sparsity", "draw", "item"]).any()
    assert (rows["method"] == "dense").sum() == 3 and rows["loss"].notna().all()
    assert (pruned["reached"] - pruned["sparsity"]).abs().max() < 1e-4


def test_rows_are_the_losses_of_separate_prunings(rows: pd.DataFrame) -> None:
    model, tokenizer = lab.load_model("lab-llama")
    tokens = lab.load_tokens("lab:review", tokenizer, n_sequences=2, seq_len=16, seed=1)
    lab.prune(model, tokens, method="wanda", sparsity=0.7)
    evaluation = lab.load_evaluation("lab:review", model, tokenizer, n_items=3, seq_len=16)
    expected = lab.item_losses(model, tokenizer, evaluation)
    found = rows[(rows["arm"] == "wanda/uniform") & (rows["sparsity"] == 0.7) & (rows["draw"] == 1)]
    assert found["loss"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_two_runs_and_two_processes_give_identical_rows(rows: pd.DataFrame) -> None:
    with joblib.parallel_config(n_jobs=2):
        again = small_sweep()
    pd.testing.assert_frame_equal(rows.drop(columns="seconds"), again.drop(columns="seconds"))


def test_a_wrong_arm_stops_before_anything_runs() -> None:
    with pytest.raises(LookupError, match="wanda"):
        small_sweep(arms=["wandaa/uniform"])
    with pytest.raises(ValueError, match="method/allocation"):
        small_sweep(arms=["wanda/uniform/2:4/extra"])


def test_dense_check_compares_with_guessing() -> None:
    check = lab.sweeps.dense_check(
        *lab.load_model("lab-llama"), ["lab:review"], lab.sweeps.SweepSizes(n_items=8, seq_len=32)
    )
    assert (check["loss"] < check["loss of guessing"]).all() and check["items"].tolist() == [8]


def test_scope_says_on_what(rows: pd.DataFrame) -> None:
    assert lab.sweeps.scope(rows, seq_len=16) == {
        "model": "lab-llama",
        "corpus": "review",
        "sparsities": "0.5 to 0.7",
        "seq_len": 16,
    }


def test_names() -> None:
    assert split_arm("ria") == ("ria", None, "unstructured")
    assert split_arm("ria/owl") == ("ria", "owl", "unstructured")
    assert (
        split_pair("file:a.txt → file:b.txt") == ("file:a.txt", "file:b.txt")
        and split_pair("lab:review") == ("lab:review",) * 2
    )
    assert (
        pair_name("file:x/a.txt", "file:x/b.txt") == "a.txt → b.txt"
        and pair_name("lab:review", "lab:review") == "review"
    )
    assert (
        language_of("lab:review") == "english"
        and language_of("lab:review/tarvic") == "tarvic"
        and language_of("file:a") == "as given"
    )


def test_a_calibration_that_is_read_on_several_texts_prunes_once(monkeypatch):
    """And gives the rows of separate sweeps."""
    from labutils.sweeps import kept_prunings

    done, plain = [], kept_prunings.run_requests
    monkeypatch.setattr(kept_prunings, "run_requests", lambda *given: done.append(len(given[2])) or plain(*given))
    sizes = lab.sweeps.SweepSizes(n_calibration=4, n_items=4, seq_len=24)
    asked = {"arms": ["wanda"], "sparsities": [0.5], "n_draws": 2, "sizes": sizes}
    pairs = ["lab:review → lab:review", "lab:review → lab:narrative"]
    together = lab.sweep("lab-llama", pairs, **asked)
    assert done == [1, 1]
    apart = pd.concat([lab.sweep("lab-llama", [pair], **asked) for pair in pairs])
    keys = ["evaluation", "arm", "draw", "item"]
    tables = [rows.set_index(keys)["loss"].sort_index() for rows in (together, apart)]
    pd.testing.assert_series_equal(*tables)
    assert set(together["evaluation"]) == {"lab:review", "lab:narrative"}
