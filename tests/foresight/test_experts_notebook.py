"""What notebook 13b will do: blocks and tokens of paths are those that are run, mixtures count where there are some."""

from collections import Counter

import pytest
from foresight_meter import Counting

import labutils as lab
from labutils.core import paths
from labutils.data.tasks import load_task
from labutils.foresight.costing import FILE_BYTES, cost_work
from labutils.foresight.meter import Meter
from labutils.foresight.plans import plan_work
from labutils.foresight.readings import AlongPaths, Items
from labutils.foresight.work import ModelId, Pass, Work
from labutils.runner.planning import plan_studies
from labutils.smaller import routes
from labutils.smaller.routes import answers_along_paths
from labutils.structured.paths import Paths

STEM = "13b_experts_and_paths"
SMALL = {"n_experts": [1, 2], "sparsities": [0.5, 0.6], "n_draws": 3, "n_paths": 4, "n_path_draws": 2, "n_blocks": [1]}


def works_of(**given: object) -> tuple[Work, ...]:
    ((found,), _) = plan_studies([STEM], profile="smoke", overrides={**SMALL, **given}, folder=paths.NOTEBOOKS)
    return plan_work(STEM, found.parameters).works


@pytest.mark.parametrize("task", ["lab:qa/birthplaces", "lab:topic/odd_one_out"])
def test_paths_run_as_many_blocks_on_as_many_tokens_as_foreseen(task: str, monkeypatch) -> None:
    loaded, seen = lab.load_model("lab-llama"), Counter()
    step, add = Paths.step, routes._add

    def counted_step(self, index, batch, hidden, off):
        seen["tokens through a block"] += int(self.walk.batch_inputs(batch)["attention_mask"].sum())
        return step(self, index, batch, hidden, off)

    def counted_add(sums, loaded, walk, batch, hidden):
        seen["predicted"] += sum(len(row.reads) for row in batch)
        add(sums, loaded, walk, batch, hidden)

    monkeypatch.setattr(Paths, "step", counted_step)
    monkeypatch.setattr(routes, "_add", counted_add)
    answers_along_paths("lab-llama", loaded, task, n_paths=5, n_draws=2, n_items=6)
    readings = [AlongPaths(Items((task,), 6, 0), 5, draw) for draw in (0, 1)]
    tokens, n_blocks = readings[0].count_tokens(loaded[1]), loaded[0].config.num_hidden_layers
    assert seen["tokens through a block"] == sum(tokens * reading.count_blocks(n_blocks) for reading in readings)
    assert seen["predicted"] == sum(reading.n_read * reading.count_predicted(loaded[1]) for reading in readings)
    choices = load_task(task, n_items=6, seed=0).items["choices"]
    assert tokens > 6 and readings[0].count_predicted(loaded[1]) >= choices.map(len).sum()


def test_more_paths_take_longer_and_more_than_there_are_cannot_be_told() -> None:
    meter = Meter(*lab.load_model("lab-llama"))
    few, many = (AlongPaths(Items(("lab:qa/birthplaces",), 4, 0), n, 0) for n in (2, 20))
    assert 0 < meter.read_seconds(few) < meter.read_seconds(many)
    work = Work(ModelId("lab-llama", None, "auto"), passes=(Pass(many, 2, evaluates=True),), loads=0)
    assert cost_work(meter, work, set()).evaluations == 2 * 21
    with pytest.raises(ValueError, match="ask for fewer"):
        AlongPaths(Items(("lab:qa/birthplaces",), 4, 0), 50, 0).count_blocks(1)


def test_only_a_mixture_has_experts_dropped() -> None:
    """Three choices × two numbers of experts and weights alone, at two sparsities, in three draws."""
    meters = {name: Counting(*lab.load_model(name)) for name in ("lab-llama", "lab-mixtral")}
    costs = {}
    for name, given in {"mixture": ["lab-mixtral"], "none": ["lab-llama"], "too few": ["lab-mixtral"]}.items():
        asked = {"models": ["lab-llama"], "mixtures": given} | ({"n_experts": [8]} if name == "too few" else {})
        works = works_of(**asked)
        costs[name] = [cost_work(meters[work.model.source], work, set()) for work in works]
        assert sum(work.loads for work in works) == len({"lab-llama", *given})
    whole, one, other = costs["mixture"]
    assert (one.prunings, one.evaluations) == (0, 0)
    assert (other.prunings, other.evaluations) == (7 * 3 * 2 + 6 * 3, 1 + 7 * 3 * 2)
    assert other.disk == 7 * 3 * FILE_BYTES
    without = costs["none"][-1]
    assert (without.prunings, without.evaluations, without.disk) == (0, 0, 0)
    assert sum(each.prunings for each in costs["too few"]) == sum(each.prunings for each in costs["none"])
    assert (whole.prunings, whole.evaluations) == (3, 2 * 2 * (4 + 1) + 1 + 3)


def test_each_draw_of_a_mixture_takes_its_time() -> None:
    meter = Meter(*lab.load_model("lab-mixtral"))
    (_, _, work) = works_of(models=["lab-llama"], mixtures=["lab-mixtral"], n_draws=1)
    found = cost_work(meter, work, set())
    more = cost_work(meter, works_of(models=["lab-llama"], mixtures=["lab-mixtral"], n_draws=2)[2], set())
    assert 1.5 * found.seconds < more.seconds < 2.5 * found.seconds and found.peak > 4 * meter.weight_bytes
