"""Logs written by lm-evaluation-harness 0.4.13 (tests/logs/harness_0_4_13), compared, against sums written out."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import labutils as lab
from labutils.__main__ import main

LOGS = Path(__file__).parent / "harness_0_4_13"
TASKS = {"birthplaces_choose": ["acc", "acc_norm"], "birthplaces_say": ["exact_match"]}


def lines_of(model: str, task: str) -> list[dict]:
    (path,) = (LOGS / model).glob(f"samples_{task}_*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def change(folder: Path, task: str, edit: Callable[[list[dict]], list[dict]]) -> Path:
    """A copy of the pruned model's log of one task, edited."""
    (source,) = (LOGS / "pruned").glob(f"samples_{task}_*.jsonl")
    folder.mkdir(exist_ok=True)
    path = folder / source.name
    path.write_text("".join(json.dumps(record) + "\n" for record in edit(lines_of("pruned", task))))
    return path


def dense_file(task: str) -> Path:
    (path,) = (LOGS / "dense").glob(f"samples_{task}_*.jsonl")
    return path


@pytest.fixture(scope="module")
def found() -> lab.logs.LogComparison:
    return lab.compare_logs(LOGS / "dense", LOGS / "pruned")


def test_every_number_of_a_binary_metric_is_the_one_counted_by_hand(found) -> None:
    table = found.table.set_index(["task", "filter", "metric"])
    for task, metrics in TASKS.items():
        for filtered in {record["filter"] for record in lines_of("dense", task)}:
            for metric in metrics:
                dense, pruned = (
                    {r["doc_id"]: r[metric] for r in lines_of(model, task) if r["filter"] == filtered}
                    for model in ("dense", "pruned")
                )
                lost = sum(dense[key] > pruned[key] for key in dense)
                won = sum(dense[key] < pruned[key] for key in dense)
                flips, row = lost + won, table.loc[(task, filtered, metric)]
                p = min(1, 2 * sum(math.comb(flips, i) for i in range(min(lost, won) + 1)) / 2**flips)
                assert (row["items"], row["lost"], row["won"]) == (20, lost, won)
                assert row["difference"] == pytest.approx((won - lost) / 20)
                assert row["p"] == pytest.approx(p)
                assert row["low"] <= row["difference"] <= row["high"]


def test_means_are_those_that_the_harness_reports(found) -> None:
    for model, column in (("dense", "a"), ("pruned", "b")):
        (path,) = (LOGS / model).glob("results_*.json")
        reported = json.loads(path.read_text())["results"]
        for row in found.table.to_dict("records"):
            theirs = reported[row["task"]][f"{row['metric']},{row['filter']}"]
            own = {
                "word_perplexity": math.exp(-row[column]), "bits_per_byte": -row[column] / math.log(2),
            }.get(row["metric"], row[column])  # fmt: skip
            assert own == pytest.approx(theirs)


def test_a_log_likelihood_is_weighted_by_the_words_of_its_document(found) -> None:
    logs = [{r["doc_id"]: r["word_perplexity"] for r in lines_of(m, "entries_read")} for m in ("dense", "pruned")]
    words = np.array([logs[0][key][1] for key in logs[0]])
    change = np.array([logs[1][key][0] - logs[0][key][0] for key in logs[0]])
    row = found.table.set_index("metric").loc["word_perplexity"]
    assert row["difference"] == pytest.approx(change.sum() / words.sum())
    residual = change - row["difference"] * words
    error = math.sqrt(len(words) / (len(words) - 1) * (residual**2).sum()) / words.sum()
    assert (row["high"] - row["low"]) / 2 == pytest.approx(2.571 * error, rel=0.15)  # t with 5 degrees of freedom
    assert np.isnan(row["lost"])
    assert row["smallest_visible"] == pytest.approx((2.571 + 0.920) * error, rel=0.15)


def test_the_p_values_of_all_rows_are_corrected_together(found) -> None:
    ordered = found.table.sort_values("p")
    expected = np.minimum(1, np.maximum.accumulate(ordered["p"] * np.arange(len(ordered), 0, -1)))
    assert ordered["p_holm"].tolist() == pytest.approx(expected.tolist())


def test_a_log_against_itself_has_no_difference_and_does_not_claim_to_see_everything() -> None:
    found = lab.compare_logs(LOGS / "dense", LOGS / "dense")
    same = found.table.set_index("task")
    assert (same["difference"] == 0).all() and (same["p"] == 1).all()
    assert same.loc["birthplaces_say", "high"].max() == pytest.approx(0.161, abs=1e-3)
    assert (same["smallest_visible"].dropna() > 0).all()
    assert same.loc["entries_read", ["low", "high", "smallest_visible"]].isna().all(axis=None)
    told = [line for line in str(found).splitlines() if line.startswith("entries_read")]
    assert told and all("all items differ alike, so that nothing tells what would go unseen" in line for line in told)
    assert not any("nan" in line for line in told)


def test_the_outer_folder_the_model_folder_and_the_file_are_one_log(tmp_path, found) -> None:
    task = "birthplaces_say"
    inner = tmp_path / "out" / "model"
    inner.mkdir(parents=True)
    (inner / dense_file(task).name).write_text(dense_file(task).read_text())
    tables = [lab.compare_logs(place, LOGS / "pruned", tasks=[task]).table for place in (tmp_path / "out", inner)]
    expected = found.table[found.table["task"] == task].drop(columns="p_holm").reset_index(drop=True)
    for table in tables:
        pd.testing.assert_frame_equal(table.drop(columns="p_holm"), expected)


def test_lines_in_another_order_are_the_same_log(tmp_path) -> None:
    changed = change(tmp_path, "birthplaces_choose", lambda lines: lines[::-1])
    there = lab.compare_logs(dense_file("birthplaces_choose"), LOGS / "pruned", tasks=["birthplaces_choose"]).table
    pd.testing.assert_frame_equal(lab.compare_logs(dense_file("birthplaces_choose"), changed).table, there)


REFUSED = {
    "other documents under the same ids": (
        lambda lines: [record | {"doc_hash": "0" + record["doc_hash"][1:]} for record in lines],
        "different items: one id stands for two documents",
    ),
    "other targets": (
        lambda lines: [record | {"target_hash": "0" * 64} for record in lines],
        "one id stands for two documents or targets",
    ),
    "ids of other documents": (
        lambda lines: [record | {"doc_id": record["doc_id"] + 5} for record in lines],
        "different items: 10 values are only in A, 10 only in B, 30 in both",
    ),
    "a log that was appended to": (lambda lines: lines + lines[:3], "more than once .6 values are repeated"),
    "other prompts": (
        lambda lines: [record | {"prompt_hash": "0" * 64} for record in lines],
        "asked in different words.*other_prompts=True",
    ),
    "a metric that is named and missing": (
        lambda lines: [{key: value for key, value in record.items() if key != "acc"} for record in lines],
        "line 1: the metric 'acc' is named, but has no value",
    ),
    "a value that is no number": (lambda lines: [record | {"acc": float("nan")} for record in lines], "acc is nan"),
    "lines without hashes": (lambda lines: [record | {"doc_hash": None} for record in lines], "no 'doc_hash'"),
    "no line": (lambda lines: [], "holds no sample"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_logs_that_cannot_be_compared_are_refused(tmp_path, case: str) -> None:
    edit, message = REFUSED[case]
    changed = change(tmp_path, "birthplaces_choose", edit)
    with pytest.raises(ValueError, match=message):
        lab.compare_logs(dense_file("birthplaces_choose"), changed)
    with pytest.raises(ValueError, match=message):
        lab.compare_logs(changed, dense_file("birthplaces_choose")) if "only in" not in message else (
            lab.compare_logs(dense_file("birthplaces_choose"), changed)
        )


def test_a_cut_off_line_is_refused(tmp_path) -> None:
    changed = change(tmp_path, "birthplaces_say", lambda lines: lines)
    changed.write_text(changed.read_text()[:-40])
    with pytest.raises(ValueError, match="line 40 is not JSON"):
        lab.compare_logs(LOGS / "dense", changed, tasks=["birthplaces_say"])


def test_a_metric_or_task_of_one_log_alone_is_refused_until_it_is_left_out(tmp_path) -> None:
    def without_norm(lines: list[dict]) -> list[dict]:
        return [{**record, "metrics": ["acc"]} for record in lines]

    changed = change(tmp_path, "birthplaces_choose", without_norm)
    with pytest.raises(LookupError, match="only log A has the task birthplaces_say, entries_read"):
        lab.compare_logs(LOGS / "dense", changed)
    with pytest.raises(LookupError, match="only log A has the metric acc_norm; name .*metrics=.'acc'."):
        lab.compare_logs(dense_file("birthplaces_choose"), changed)
    assert len(lab.compare_logs(dense_file("birthplaces_choose"), changed, metrics=["acc"]).table) == 1
    with pytest.raises(LookupError, match="log A has no metric 'ac'. Did you mean 'acc'"):
        lab.compare_logs(dense_file("birthplaces_choose"), changed, metrics=["ac"])


def test_metrics_of_a_whole_corpus_are_no_numbers_of_an_item(tmp_path) -> None:
    def with_f1(lines: list[dict]) -> list[dict]:
        return [{**record, "metrics": ["f1"], "f1": [1, 0]} for record in lines]

    changed = change(tmp_path, "birthplaces_choose", with_f1)
    with pytest.raises(ValueError, match="no metric is a number per item .birthplaces_choose f1"):
        lab.compare_logs(changed, changed)
    with pytest.raises(LookupError, match="no 'f1' as a single number per item"):
        lab.compare_logs(changed, changed, metrics=["f1"])


def test_what_is_no_number_beside_what_is_is_said_to_be_left_out(tmp_path) -> None:
    def with_f1(lines: list[dict]) -> list[dict]:
        return [{**record, "metrics": ["acc", "f1"], "f1": [1, 0]} for record in lines]

    changed = change(tmp_path, "birthplaces_choose", with_f1)
    found = lab.compare_logs(changed, changed)
    assert found.table["metric"].tolist() == ["acc"]
    assert found.unchecked == ("Not compared, for their items have no single number: birthplaces_choose f1.",)
    assert str(found).endswith(found.unchecked[0])
    assert not lab.compare_logs(changed, changed, metrics=["acc"]).unchecked  # nobody asked for it


def test_shared_items_and_other_prompts_are_compared_when_asked_for(tmp_path) -> None:
    changed = change(
        tmp_path, "birthplaces_choose", lambda lines: [record | {"prompt_hash": "1" * 64} for record in lines[:15]]
    )
    found = lab.compare_logs(dense_file("birthplaces_choose"), changed, only_shared=True, other_prompts=True)
    assert found.table["items"].tolist() == [15, 15]


def test_items_of_one_document_can_be_resampled_together(tmp_path) -> None:
    def marked(lines: list[dict]) -> list[dict]:
        return [record | {"doc": record["doc"] | {"passage": record["doc_id"] // 4}} for record in lines]

    changed = change(tmp_path, "birthplaces_choose", marked)
    found = lab.compare_logs(changed, changed, cluster="passage")
    assert len(found.items["unit"].unique()) == 5
    with pytest.raises(LookupError, match="no 'paragraph' to be clustered by; it has prompt, choices, gold, passage"):
        lab.compare_logs(changed, changed, cluster="paragraph")


def test_several_runs_in_one_folder_must_be_told_apart(tmp_path) -> None:
    path = change(tmp_path, "birthplaces_say", lambda lines: lines)
    (tmp_path / path.name.replace("2026-01", "2026-02")).write_text(path.read_text())
    with pytest.raises(LookupError, match="several runs of birthplaces_say: give one file"):
        lab.compare_logs(LOGS / "dense", tmp_path)
    with pytest.raises(LookupError, match="there is no "):
        lab.compare_logs(LOGS / "nowhere", tmp_path)
    with pytest.raises(LookupError, match="it holds dense, pruned: name one"):
        lab.compare_logs(LOGS, tmp_path)


def test_a_task_whose_name_holds_underscores_and_dates_is_read_whole() -> None:
    from labutils.logs.harness_files import NAME

    match = NAME.fullmatch("samples_my_task_2024-01-02_v2_2026-08-21T10-11-12.123456.jsonl")
    assert match["task"] == "my_task_2024-01-02_v2"


def test_the_command_prints_and_writes_what_the_function_finds(tmp_path, capsys, found) -> None:
    written = [str(tmp_path / name) for name in ("found.csv", "found.png")]
    places = [str(LOGS / "dense"), str(LOGS / "pruned")]
    assert main(["compare-logs", *places, "--table", written[0], "--figure", written[1]]) == 0
    assert capsys.readouterr().out.strip() == str(found)
    assert pd.read_csv(written[0])["difference"].tolist() == pytest.approx(found.table["difference"].tolist())
    assert Path(written[1]).stat().st_size > 5000
    assert main(["compare-logs", places[0], str(tmp_path)]) == 2
    assert "lm_eval writes them with --log_samples" in capsys.readouterr().err


def test_sentences_tell_what_would_go_unseen(found) -> None:
    text = str(found)
    assert "birthplaces_say exact_match (whole), 20 items: 0.900 → 0.500" in text
    assert "B is lower, but not after the correction" in text
    assert "word_perplexity as log-likelihood in nats" in text
