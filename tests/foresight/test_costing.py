"""Costs of a notebook: what grids and kept rows share is counted once, and tokens are those of a real run."""

import dataclasses
from functools import wraps

import matplotlib.pyplot as plt
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.llama.modeling_llama import LlamaModel

import labutils as lab
from labutils.core import paths
from labutils.foresight.costing import Cost, cost_work
from labutils.foresight.meter import Meter
from labutils.foresight.plans import plan_work
from labutils.foresight.readings import Items, Passages, Texts, TextsAbout, Windows, WordsLeftOut
from labutils.foresight.work import ModelId, Pass, StudyWork, Sweep, Work, draws_of, requests_of
from labutils.runner.planning import plan_studies

MODEL = ModelId("lab-llama", None, "auto")
WINDOWS = Windows(("lab:review",), 4, 32, 0)


@pytest.fixture(scope="module")
def meter() -> Meter:
    return Meter(*lab.load_model("lab-llama"))


def cost(meter: Meter, *sweeps: Sweep, kept: set | None = None) -> Cost:
    return cost_work(meter, Work(MODEL, sweeps), set() if kept is None else kept)


def sweep(arms: list[str], n_draws: int = 2, sparsities: tuple = (0.3, 0.7), **options: object) -> Sweep:
    return Sweep(requests_of(arms, sparsities, **options), draws_of("lab:review", 4, 32, n_draws), WINDOWS)


def test_what_no_calibration_changes_is_pruned_once(meter):
    found = cost(meter, sweep(["magnitude", "wanda"], n_draws=3))
    assert (found.prunings, found.evaluations) == (2 + 3 * 2, 1 + 2 + 3 * 2)


def test_rows_that_are_kept_cost_nothing_a_second_time(meter):
    kept = set()
    first = cost(meter, sweep(["magnitude", "wanda"]), kept=kept)
    again = cost(meter, sweep(["wanda", "magnitude"]), kept=kept)
    more = cost(meter, sweep(["wanda"], n_draws=3), kept=kept)
    assert first.prunings and (again.prunings, again.evaluations, again.disk) == (0, 0, 0)
    assert (more.prunings, more.evaluations) == (2, 2)


def test_a_sweep_that_keeps_nothing_is_done_again(meter):
    kept, asked = set(), dataclasses.replace(sweep(["wanda"]), kept=False)
    assert cost(meter, asked, kept=kept).prunings == cost(meter, asked, kept=kept).prunings == 4
    assert kept == set()


def test_arms_that_come_to_the_same_model_are_evaluated_once(meter):
    found = cost(meter, sweep(["ria/uniform", "optiprune"], n_draws=1, sparsities=(0.1,)))
    assert (found.prunings, found.evaluations) == (2, 2)


def test_a_grid_costs_less_than_its_prunings_alone(meter):
    arms = ["ria/owl", "sparsegpt/owl", "sparsegpt/uniform"]
    alone = sum(cost(meter, sweep([arm], n_draws=1)).seconds for arm in arms)
    together, dense = cost(meter, sweep(arms, n_draws=1)).seconds, cost(meter, sweep(arms, n_draws=1, sequential=False))
    assert dense.seconds < together < alone
    assert dense.peak > cost(meter, sweep(arms, n_draws=1)).peak


def test_probes_of_blocks_are_read_once_for_all_methods(meter):
    def seconds(*arms: str) -> float:
        return cost(meter, sweep(arms, n_draws=1, sparsities=(0.5,))).seconds

    probing = {arm: seconds(f"{arm}/measured") - seconds(f"{arm}/uniform") for arm in ("wanda", "sparsegpt")}
    both = seconds("wanda/measured", "sparsegpt/measured") - seconds("wanda/uniform", "sparsegpt/uniform")
    assert both == pytest.approx(max(probing.values()), rel=0.05) and both < 0.75 * sum(probing.values())


def test_a_method_that_raises_its_damping_is_another_model(meter):
    """`optiprune-auto` is ADMM spread by measurement, but for the damping where tokens are few."""
    found = cost(meter, sweep(["admm/measured", "optiprune-auto"], n_draws=1, sparsities=(0.5,)))
    assert (found.prunings, found.evaluations) == (2, 1 + 2)
    same = cost(meter, sweep(["optiprune-auto", "optiprune-auto/measured"], n_draws=1, sparsities=(0.5,)))
    assert same.evaluations == 1 + 1


def test_passes_cost_what_they_are_times_so_often(meter):
    once, twice, back = (Pass(WINDOWS), Pass(WINDOWS, 2), Pass(WINDOWS, gradients=True))
    assert meter.pass_seconds(twice) == 2 * meter.pass_seconds(once) > 0
    assert meter.pass_seconds(back) > meter.pass_seconds(once)
    assert meter.pass_seconds(Pass(WINDOWS, each_block=True)) == len(meter.blocks) * meter.pass_seconds(once)


def test_tokens_are_those_that_are_read(meter):
    tokenizer, items = meter.tokenizer, Items(("lab:sentiment/products",), 5, 0)
    assert Windows(("lab:review", "lab:narrative"), 4, 32, 0).count_tokens(tokenizer) == 2 * 4 * 32
    (task,) = items.load()
    gold = [f"{row.prompt} {row.choices[row.gold]}" for row in task.items.itertuples()]
    alone = sum(map(len, tokenizer(gold)["input_ids"]))
    assert Passages(items).count_tokens(tokenizer) == alone < items.count_tokens(tokenizer)
    left_out = WordsLeftOut(items, min_count=2).count_tokens(tokenizer)
    assert WordsLeftOut(items, min_count=6).count_tokens(tokenizer) == alone < left_out
    texts = Texts(("lab:review",), 12, "test", 0)
    everything = texts.count_tokens(tokenizer)
    assert texts.count_tokens(tokenizer) > dataclasses.replace(texts, step=2).count_tokens(tokenizer)
    assert TextsAbout(texts, (("the",),), 6).count_tokens(tokenizer) < everything
    assert TextsAbout(texts, (("the",),), 7).count_tokens(tokenizer) == 0  # fewer than twice as many hold it


@pytest.mark.parametrize("stem", ["05_neuron_semantics", "05b_pruned_meanings"])
def test_the_neuron_notebooks_pass_the_tokens_that_are_foreseen(stem, monkeypatch, tmp_path):
    """Its cells are carried out here, and every token that passes through the model is counted; to a factor of two."""
    ((study,), _) = plan_studies([stem], profile="smoke", overrides={}, folder=paths.NOTEBOOKS)
    monkeypatch.setenv("LABUTILS_RUN_FOLDER", str(tmp_path))
    seen, plain = [], LlamaModel.forward

    @wraps(plain)
    def counted(self, *args, **kwargs):
        given = [*args, kwargs.get("input_ids"), kwargs.get("inputs_embeds")]
        seen.append(next(each.shape[0] * each.shape[1] for each in given if each is not None))
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(LlamaModel, "forward", counted)
    names: dict = {}
    for cell in study.notebook.cells:
        if cell.cell_type == "code" and "lab.conclude(" not in cell.source:
            exec(cell.source, names)
            names.update(study.given if "parameters" in cell.metadata.get("tags", []) else {})
    plt.close("all")
    foreseen = _tokens(plan_work(study.stem, study.parameters), names["network"], names["tokenizer"])
    assert 0.5 < foreseen / sum(seen) < 2, (foreseen, sum(seen))


def _tokens(planned: StudyWork, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> float:
    """Of all readings, and of calibrations once for every draw of a grid, which brings them to the first block."""
    (work,) = planned.works
    n_blocks, count = len(lab.find_blocks(model)[1]), Meter(model, tokenizer).count
    times = [each.times * (n_blocks if each.each_block else 1) for each in work.passes]
    read = sum(n * count(each.reading) for n, each in zip(times, work.passes, strict=True))
    for each in work.sweeps:
        read += count(each.reading) * (1 + len(each.draws) * len(each.requests))
        read += sum(draw.n_sequences * draw.seq_len for draw in each.draws)
    return read
