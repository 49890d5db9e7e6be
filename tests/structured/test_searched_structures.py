"""Blocks and widths that are searched: exhaustive optima, totals, and that the search reads what the models will be."""

import itertools
from collections.abc import Mapping

import pytest
import torch
from architectures import ARCHITECTURES, Architecture
from slow_divergences import slow_divergence, slow_outputs
from torch import Tensor
from transformers import PreTrainedModel

import labutils as lab
from labutils.models.structure import find_blocks
from labutils.pruning.level_switching import LevelSearch
from labutils.structured import Removal, masked
from labutils.structured.evopress import WidthOptions, plan_widths
from labutils.structured.unit_allocation import Key

N = 5
FEW = {"allocation": "evopress", "generations": 4, "offspring": 3, "levels": 3}


def build(name: str = "llama", n_blocks: int = N, **options: object) -> PreTrainedModel:
    base = ARCHITECTURES[name]
    return Architecture(base.model, base.config, {**base.options, "num_hidden_layers": n_blocks, **options}).build()


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Seven sequences, one of them with padding, two a part."""
    monkeypatch.setattr("labutils.pruning.level_reading.PART_TOKENS", 20)
    ids = torch.randint(3, 60, (7, 10), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[3, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def divergence(dense: PreTrainedModel, other: PreTrainedModel, inputs: Mapping[str, Tensor]) -> float:
    return slow_divergence(slow_outputs(dense, inputs), slow_outputs(other, inputs))


def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_unchanged(model: PreTrainedModel, before: dict[str, Tensor]) -> None:
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_best_blocks_are_those_of_exhaustive_search(inputs) -> None:
    model = build()
    own = {}
    for gone in itertools.combinations(range(N), 2):
        with masked(model, Removal(blocks=gone)), torch.no_grad():
            logits = model(**inputs).logits.double().log_softmax(-1)
        own[gone] = logits
    with torch.no_grad():
        dense = model(**inputs).logits.double().log_softmax(-1)
    kept = inputs["attention_mask"].bool()
    damage = {gone: (dense.exp() * (dense - found)).sum(-1)[kept].mean().item() for gone, found in own.items()}
    smaller, report = lab.drop_blocks(model, inputs, n_blocks=2, method="evopress", generations=8, offspring=6)
    assert report.removal.blocks == min(damage, key=damage.get)
    assert len(find_blocks(smaller)[1]) == N - 2
    path = report.search.path
    assert path["fitness"].iloc[-1] == pytest.approx(min(damage.values()), rel=1e-3)
    start = lab.drop_blocks(model, inputs, n_blocks=2).report.removal.blocks
    assert path["fitness"].iloc[0] == pytest.approx(damage[start], rel=1e-3)
    assert report.options == {"method": "evopress", "n_blocks": 2, "generations": 8, "offspring": 6, "seed": 0}


@pytest.mark.parametrize(
    ("method", "repair", "name"),
    [
        ("output", "least-squares", "llama"),
        ("wanda-sp", "none", "llama"),
        ("flap", "bias", "llama"),
        ("wanda-sp", "least-squares", "gpt2"),
    ],
)
def test_the_fitness_of_widths_is_that_of_the_smaller_models(method: str, repair: str, name: str, inputs) -> None:
    """At both ends of the path: the uniform model, and the one that is made; the same parameters go in both."""
    model = build(name, 3)
    before = weights(model)
    asked = {"share": 0.3, "method": method, "repair": repair, "standardise": False}
    smaller, report = lab.shrink(model, inputs, **asked, **FEW)
    assert_unchanged(model, before)
    plain, uniform = lab.shrink(model, inputs, **asked, allocation="uniform")
    path = report.search.path
    assert path["fitness"].iloc[0] == pytest.approx(divergence(model, plain, inputs), rel=1e-3)
    assert path["fitness"].iloc[-1] == pytest.approx(divergence(model, smaller, inputs), rel=1e-3)
    assert report.removed_share == uniform.removed_share
    counts = [len(own) for own in report.removal.neurons.values()]
    assert path["taken"].any() and len(set(counts)) > 1
    assert report.options.items() >= {"allocation": "evopress", "levels": 3, "seed": 0}.items()


def test_neurons_and_groups_keep_their_own_totals(inputs) -> None:
    model = build("llama", 3, num_attention_heads=8, num_key_value_heads=4)
    asked = {"share": 0.4, "units": ["neurons", "groups"], "method": "wanda-sp"}
    found = lab.shrink(model, inputs, **asked, **FEW).report.removal
    uniform = lab.shrink(model, inputs, **asked).report.removal
    for kind in ("neurons", "groups"):
        own, plain = (sum(map(len, getattr(removal, kind).values())) for removal in (found, uniform))
        assert own == plain > 0
    assert found != uniform


def test_a_seed_decides(inputs) -> None:
    model = build("llama", 3)
    first, again, other = (lab.shrink(model, inputs, share=0.3, **FEW, seed=seed).report for seed in (1, 1, 2))
    assert isinstance(first.search, LevelSearch) and first.removal == again.removal
    assert first.search.path.equals(again.search.path) and not first.search.path.equals(other.search.path)


def test_levels_of_equal_units_have_one_step_and_stay_inside() -> None:
    totals: dict[Key, int] = {(0, "neurons"): 40, (1, "neurons"): 40, (2, "neurons"): 64, (0, "groups"): 4}
    costs = {(0, "neurons"): 9, (1, "neurons"): 9, (2, "neurons"): 12, (0, "groups"): 500}
    start = {(0, "neurons"): 10, (1, "neurons"): 36, (2, "neurons"): 16, (0, "groups"): 0}
    widths = plan_widths(totals, costs, start, WidthOptions(levels=2))
    assert widths.step == {(0, "neurons"): 1, (1, "neurons"): 1, (2, "neurons"): 4, (0, "groups"): 1}
    for key, total in totals.items():
        counts = [widths.count(key, level) for level in range(widths.lowest[key], widths.highest[key] + 1)]
        assert start[key] in counts and min(counts) >= 0 and max(counts) < total and len(counts) <= 5
    assert widths.lowest[0, "groups"] == 0 and widths.highest[1, "neurons"] == 2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"allocation": "uniform", "generations": 3}, "generations is an option of allocation=.evopress."),
        ({"method": "output", "seed": 3}, "seed is an option of"),
        ({"allocation": "evopress", "generation": 3}, "no argument 'generation'. Did you mean 'generations'"),
        ({"allocation": "evopress", "levels": 0}, "levels=0 must be at least 1"),
        ({"allocation": "evopress", "seed": 0.5}, "seed=0.5 must be a whole number"),
        ({"allocation": "evopress", "share": 0.999}, "asks for more than these units have"),
    ],
)
def test_what_cannot_be_searched_is_refused(asked: dict, message: str, inputs) -> None:
    model = build("llama", 2)
    kind = TypeError if "generation" in asked else ValueError
    with pytest.raises(kind, match=message):
        lab.shrink(model, inputs, **{"share": 0.3, **asked})
    if "share" not in asked:
        with pytest.raises(kind, match=message):
            lab.forecast_smaller(model, share=0.3, **asked)


def test_one_block_has_no_other_to_exchange_units_with(inputs) -> None:
    with pytest.raises(ValueError, match="No unit can be raised"):
        lab.shrink(build("llama", 1), inputs, share=0.3, allocation="evopress")


def test_a_forecast_tells_that_widths_are_not_known_beforehand() -> None:
    model = build("llama", 2)
    assert lab.forecast_smaller(model, share=0.3).exact
    assert not lab.forecast_smaller(model, share=0.3, allocation="evopress", generations=5).exact
    with pytest.raises(ValueError, match="method='angular' does not heed generations"):
        lab.drop_blocks(model, torch.ones(2, 4, dtype=torch.int64), n_blocks=1, generations=5)
