"""How long do tasks and texts take to score beside lm-evaluation-harness, and beside an earlier commit of this package?

The same model (a folder, float32), the same items, the same windows of tokens, one thread. The harness has an
environment of its own; an earlier commit is a clone of this repository at it:

    python -m venv peer && peer/bin/pip install torch==2.13.0 "lm-eval[hf]==0.4.13"
    git clone . before && git -C before checkout 726999b
    LABUTILS_DATA=… python benchmarks/task_scoring.py --model FOLDER --peer peer/bin/python --before before

Each side runs in a process that stays alive, and they alternate: the clock of a shared machine drifts, and only
neighbours in time compare. Before anything is said about speed, the log-likelihoods of every choice and every window
are compared with the harness's and with float64, and the share of right answers. The earlier commit put bos before
every prompt, whether the tokenizer does or not, so its answers may be others.

The figures go into `benchmarks/results/task_scoring.json`, after every pair.
"""

import argparse
import importlib.metadata
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from common import RESULTS, describe_machine, random_tokens, timed, write_result
from workers import Worker, answer

OUT = RESULTS / "task_scoring.json"
ITEMS = {  # of each file
    "piqa": ("d_tasks/qa/piqa_validation.jsonl", 24),
    "arc_challenge": ("d_tasks/qa/arc_challenge_validation.jsonl", 16),
    "sst2": ("d_tasks/sentiment/sst2_dev.jsonl", 40),
    "boolq": ("d_tasks/qa/boolq_validation.jsonl", 10),
    "ag_news": ("d_tasks/topic/ag_news.jsonl", 16),
    "trec": ("d_tasks/topic/trec_test.jsonl", 24),
}
HARNESS_FOUR = ("piqa", "arc_challenge", "sst2", "boolq")
WINDOWS = (12, 256)
BATCH = 8  # rows at once, for the harness; ours decides by tokens
SIDES = ("ours", "theirs", "before", "floor")
FLOOR_ROW = 256  # tokens
RATIOS = {
    "ratio_to_theirs": ("ours", "theirs"), "ratio_to_before": ("ours", "before"), "floor_to_theirs": ("floor", "theirs")
}  # fmt: skip
EXACT = "float64"  # this package in float64: which of two float32 results lies nearer to the truth
CLOCKS = ("wall", "processor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a causal language model")
    parser.add_argument("--peer", default="peer/bin/python", help="Python of the environment with lm-eval")
    parser.add_argument("--before", type=Path, default=Path("before"), help="clone at the earlier commit")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument("--worker", choices=[*SIDES, EXACT], help=argparse.SUPPRESS)
    parser.add_argument("--items", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker, options.model, options.items)
        return
    with tempfile.TemporaryDirectory() as place:
        items = Path(place) / "items.json"
        items.write_text(json.dumps(draw_items(options.model)))
        sources = {"ours": None, "theirs": None, "before": options.before.resolve(), "floor": None, EXACT: None}
        workers = {
            side: Worker(
                __file__, options.peer if side == "theirs" else sys.executable,
                ["--worker", side, "--model", options.model, "--items", str(items)], sources[side],
            )
            for side in sources
        }  # fmt: skip
        measure(workers, options.model, options.repeats)
        for worker in workers.values():
            worker.close()


def draw_items(model: str) -> dict:
    """Prompts, choices and right answers of every task, and windows of random tokens."""
    from labutils.data.tasks import load_task
    from labutils.models.loading import load_model

    tasks = {
        name: load_task(f"file:{file}#all", n_items=n).items.to_dict("records") for name, (file, n) in ITEMS.items()
    }
    vocabulary = load_model(model)[0].config.vocab_size
    return {**tasks, "perplexity": random_tokens(*WINDOWS, vocabulary=vocabulary).tolist()}


def measure(workers: dict[str, Worker], model: str, repeats: int) -> None:
    about = {
        **describe_machine(), "model": Path(model).name, "versions": {side: w.about for side, w in workers.items()},
        "items": {name: n for name, (_, n) in ITEMS.items()}, "windows": list(WINDOWS), "batch_size": BATCH,
    }  # fmt: skip
    entries: dict[str, dict] = {name: {"pairs": []} for name in [*ITEMS, "perplexity"]}
    for worker in workers.values():
        worker.ask(name="trec", n=2)  # warm-up
    exact = workers.pop(EXACT)
    truth = {name: exact.ask(name=name)["sums"] for name in entries}
    exact.close()
    for _ in range(repeats):
        for name, entry in entries.items():
            found = {side: worker.ask(name=name) for side, worker in workers.items()}
            entry |= compare(found, truth[name])
            if name == "perplexity":  # has no choices
                del entry["accuracy_by_sum"], entry["read"]
            entry["pairs"].append({side: {clock: run[clock] for clock in CLOCKS} for side, run in found.items()})
            print(name, {side: round(run["processor"], 2) for side, run in found.items()}, flush=True)
            write_result(OUT, {**about, **summary(entries), "tasks": entries})


def compare(found: dict[str, dict], truth: list) -> dict:
    """Largest difference of a log-likelihood, in nats, from the harness's and of both from float64; right answers."""
    ours, theirs = found["ours"]["sums"], found["theirs"]["sums"]
    return {
        "largest_difference_of_a_log_likelihood": largest_difference(ours, theirs),
        "largest_difference_from_float64": {
            "ours": largest_difference(ours, truth),
            "theirs": largest_difference(theirs, truth),
        },
        "accuracy_by_sum": {side: found[side]["accuracy"] for side in ("ours", "theirs")},
        "read": found["ours"]["read"],
    }


def largest_difference(some: list, others: list) -> float:
    pairs = zip(some, others, strict=True)
    return max(abs(a - b) for mine, other in pairs for a, b in zip(mine, other, strict=True))


def summary(entries: dict[str, dict]) -> dict:
    """Per task the median ratios of the processor's seconds, and their geometric means over four tasks."""
    done = {name: entry for name, entry in entries.items() if entry["pairs"]}
    for entry in done.values():
        for ratio, (side, other) in RATIOS.items():
            entry[ratio] = statistics.median(
                pair[side]["processor"] / pair[other]["processor"] for pair in entry["pairs"]
            )
    means = {}
    if all(name in done for name in HARNESS_FOUR):
        for ratio in RATIOS:
            logs = [math.log(done[name][ratio]) for name in HARNESS_FOUR]
            means[f"geometric_mean_{ratio}"] = math.exp(statistics.mean(logs))
    return means


def serve(side: str, model: str, items: Path) -> None:
    """Score what is asked for, and answer with seconds, log-likelihoods and the share of right answers."""
    torch.set_num_threads(1)
    known = json.loads(items.read_text())
    exact = {"dtype": "float64"} if side == EXACT else {}  # the earlier commit may know no `dtype`
    sides = {"theirs": score_theirs, "floor": score_floor}
    score = sides[side](model) if side in sides else score_ours(model, **exact)
    package = "lm_eval" if side == "theirs" else "transformers"
    answer({"torch": torch.__version__, package: importlib.metadata.version(package)})
    for line in sys.stdin:
        request, kept = json.loads(line), {}
        name, items = request["name"], known[request["name"]][: request.get("n")]
        clocks = timed(lambda: kept.update(score(name, items)))  # noqa: B023
        if side == "floor":  # which scores nothing
            answer(clocks)
            continue
        sums, golds = kept["sums"], kept["golds"]
        right = [row.index(max(row)) == gold for row, gold in zip(sums, golds, strict=True)]
        answer({**clocks, "sums": sums, "accuracy": statistics.mean(right), "read": kept.get("read", "")})


def score_ours(folder: str, **options: str):
    """This package, or the one at an earlier commit, which gives no log-likelihoods."""
    import pandas as pd

    import labutils as lab
    from labutils.data.tasks import Task

    model, tokenizer = lab.load_model(folder, **options)

    def score(name: str, items: list) -> dict:
        if name == "perplexity":
            tokens = torch.tensor(items)
            losses = lab.sequence_losses(model, tokens)
            return {"sums": [[-float(loss) * (tokens.shape[1] - 1)] for loss in losses], "golds": [0] * len(items)}
        found = lab.score_task(model, tokenizer, Task(name, "qa", "choice", pd.DataFrame(items)))
        sums = found.get("log_likelihoods", pd.Series([[0.0, 0.0]] * len(found))).tolist()
        return {"sums": sums, "golds": found["gold"].tolist(), "read": found.attrs.get("read", "")}

    return score


def score_floor(folder: str):
    """Nothing is scored: the tokens that must be read go through the blocks, those that predict through the head."""
    import labutils as lab

    model, tokenizer = lab.load_model(folder)

    def must(name: str, items: list) -> tuple[int, int]:
        """Tokens that are read, and those that predict: a choice's last one is not read, the prompt's last predicts."""
        if name == "perplexity":
            return sum(map(len, items)), sum(len(ids) - 1 for ids in items)
        n_read = n_predicting = 0
        for item in items:
            prompt = len(tokenizer(item["prompt"])["input_ids"])
            own = [len(tokenizer(f"{item['prompt']} {choice}")["input_ids"]) - prompt for choice in item["choices"]]
            n_read, n_predicting = n_read + prompt + sum(own) - len(own), n_predicting + sum(own)
        return n_read, n_predicting

    def score(name: str, items: list) -> dict:
        n_read, n_predicting = must(name, items)
        ids, n_rest = torch.arange(n_read) % model.config.vocab_size, n_read % FLOOR_ROW
        whole, rest = ids.split([n_read - n_rest, n_rest])
        batches = [*whole.view(-1, FLOOR_ROW).split(BATCH), rest[None]]
        with torch.inference_mode():
            for rows in (batch for batch in batches if batch.numel()):
                states = model.base_model(input_ids=rows, use_cache=False).last_hidden_state.flatten(0, 1)
                model.get_output_embeddings()(states[: math.ceil(len(states) * n_predicting / n_read)])
        return {}

    return score


def score_theirs(folder: str):
    """The harness: `loglikelihood` of every choice after a blank; of windows, of all tokens after the first."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    harness = HFLM(pretrained=model, tokenizer=AutoTokenizer.from_pretrained(folder), batch_size=BATCH)

    def score(name: str, items: list) -> dict:
        if name == "perplexity":
            requests = [(("", str(place)), ids[:1], ids[1:]) for place, ids in enumerate(items)]
            found = harness._loglikelihood_tokens(requests, disable_tqdm=True)
            return {"sums": [[total] for total, _ in found], "golds": [0] * len(items)}
        asked = [(item, choice) for item in items for choice in item["choices"]]
        requests = [
            Instance("loglikelihood", {}, (item["prompt"], f" {choice}"), place)
            for place, (item, choice) in enumerate(asked)
        ]
        found = iter(harness.loglikelihood(requests, disable_tqdm=True))
        sums = [[next(found)[0] for _ in item["choices"]] for item in items]
        return {"sums": sums, "golds": [item["gold"] for item in items]}

    return score


if __name__ == "__main__":
    main()
