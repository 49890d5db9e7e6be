"""What notebooks 09, 13 and 14 will do: counts are those of the studies themselves, and times are of their order."""

import time
from collections import Counter

import pytest
import torch
from foresight_meter import Counting

import labutils as lab
from labutils.core import paths
from labutils.foresight import meter as meter_module
from labutils.foresight.costing import cost_work
from labutils.foresight.declared import read_declared
from labutils.foresight.healing_notebook import count_trials, jobs_of, plan_healing, stages_done
from labutils.foresight.meter import Meter
from labutils.foresight.outlooks import Outlook, write_outlooks
from labutils.foresight.plans import plan_work
from labutils.foresight.readings import PlantedTexts
from labutils.foresight.smaller_notebook import plan_smaller
from labutils.foresight.steps import measure_steps
from labutils.foresight.work import Made, ModelId, Training, Work
from labutils.recovery import draws, stages, study
from labutils.recovery.draws import Recipe, RecoverySizes
from labutils.recovery.readings import Reading
from labutils.recovery.recovering import recover
from labutils.runner.planning import plan_studies
from labutils.smaller.arms import ARMS
from labutils.yardsticks.planting import plant

MODEL = ModelId("lab-llama", None, "auto")


@pytest.fixture(scope="module")
def meter() -> Meter:
    return Meter(*lab.load_model("lab-llama"))


def parameters_of(stem: str, profile: str = "smoke", **given: object) -> dict:
    ((found,), _) = plan_studies([stem], profile=profile, overrides=given, folder=paths.NOTEBOOKS)
    return found.parameters


def test_a_notebook_declares_its_arms_by_its_parameters() -> None:
    p = parameters_of("14_what_heals", sparsities=[0.5, 0.6])
    found = read_declared("14_what_heals", ["to_try", "highest"], p)
    assert found["highest"] == 0.6 and found["to_try"]["wanda → lora"] == [0.5, 0.6]
    own = read_declared("13_smaller_for_real", ["families", "ways"], parameters_of("13_smaller_for_real"))
    assert set(sum(own["families"].values(), [])) | set(own["ways"].values()) <= set(ARMS)
    for name, told in (("nothing_of_it", "declares no nothing_of_it"), ("readings", "by its parameters alone")):
        with pytest.raises(LookupError, match=told):
            read_declared("14_what_heals", [name], p)


def test_a_copy_is_taught_in_as_many_steps_as_foreseen(tiny_llama, lab_tokenizer) -> None:
    tiny_llama.resize_token_embeddings(len(lab_tokenizer))
    asked = {"occurrences": [1, 2], "n_each": 2, "n_reading": 40, "seed": 3}
    taught = plant(tiny_llama, lab_tokenizer, relations=["birthplace"], n_replayed=4, **asked)
    texts = PlantedTexts((1, 2), 2, 40, 3)
    assert texts.count_batches(lab_tokenizer) == len(taught.losses) > 2
    assert texts.count_tokens(lab_tokenizer) == taught.tokens


ARMS_14 = ["wanda", "wanda → lora", "wanda → all/logits", "wanda → reestimate", "wanda@other → lora", "blocks",
           "neurons → lora", "penalty → neurons", "movement", "lora", "magnitude → biases+norms"]  # fmt: skip


def test_arms_prune_and_train_as_often_as_foreseen(tiny_llama, tokenizer, monkeypatch) -> None:
    """Every arm of a kind on a tiny model; calls are counted where the study makes them."""
    seen: Counter = Counter()
    for name in ("prune", "silence_neurons", "choose_blocks"):
        plain = getattr(draws, name)
        monkeypatch.setattr(
            draws, name, lambda *args, _plain=plain, _name=name, **given: seen.update([_name]) or _plain(*args, **given)
        )
    tokens = torch.randint(64, (16, 12), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(draws, "load_tokens", lambda *args, n_sequences, **given: tokens[:n_sequences])
    sizes = RecoverySizes(n_calibration=4, n_training=8, seq_len=12, steps=3, rank=2, prompt_len=4)
    recipes = {(stages.way_of(arm), share): Recipe(1e-3, 1e-3) for arm in ARMS_14 for share in (0.0, 0.4)}
    rows = study.recovery_sweep(
        "tiny", arms=ARMS_14, sparsities=[0.4], draws=[0], text="text", sizes=sizes, recipes=recipes,
        readings=[Reading("text", "nats per token", tokens[:2])], loaded=(tiny_llama, tokenizer),
        pools={"other": [tokens]},
    )  # fmt: skip
    pruned, others = stages_done(jobs_of(ARMS_14, [0.4]))
    assert sum(pruned.values()) == sum(seen.values()) and seen["silence_neurons"] == 2
    by_arm = rows.groupby("arm")["tokens"].first().drop("wanda → reestimate")
    trainings = sum(count for (stage, _), count in others.items() if stage.kind != "reestimate")
    assert 3 * trainings == by_arm.sum() // (8 * 12)


def test_rates_are_searched_for_where_there_are_several() -> None:
    p = {"to_try": {"wanda → lora": [0.5], "penalty → neurons": [0.3], "wanda": [0.5]}, "strengths": [0.1, 0.2]}
    assert not count_trials({**p, "rates": [0.1]})
    least, most = (count_trials({**p, "rates": [0.1, 0.2, 0.3]}, more) for more in (0, 4))
    assert least == {("wanda → lora", 0.5): 3, ("penalty → neurons", 0.3): 6}
    assert most == {("wanda → lora", 0.5): 7, ("penalty → neurons", 0.3): 5 * 4}


@pytest.mark.parametrize("stem", ["09_what_perplexity_hides", "13_smaller_for_real", "14_what_heals"])
def test_more_draws_are_more_of_everything(stem) -> None:
    counts = []
    for n_draws in (1, 3):
        p = parameters_of(stem, models=["lab-llama"], n_draws=n_draws)
        (work,) = plan_work(stem, p).works
        counts.append(cost_work(Counting(*lab.load_model("lab-llama")), work, set()))
    assert counts[0].prunings < counts[1].prunings < 3 * counts[0].prunings + 1
    assert counts[0].evaluations < counts[1].evaluations and counts[0].steps <= counts[1].steps


def test_choosing_no_data_and_no_sizes_leaves_them_out() -> None:
    p = parameters_of("14_what_heals", models=["lab-llama"])
    n_steps = []
    for given in ({}, {"reference": None}, {"reference": None, "large_tokens": 8192}):
        (work,) = plan_healing({**p, **given}).works
        n_steps.append(cost_work(Counting(*lab.load_model("lab-llama")), work, set()).steps)
    with_data, without, with_sizes = n_steps
    assert with_data > without and with_sizes == without + 3 * (4 + 1 + 1 + 5)


@pytest.mark.parametrize(("part", "trained"), [("adapters", "lora"), ("few", "biases+norms"), ("all", "all")])
def test_steps_take_as_long_as_foreseen(part, trained, meter) -> None:
    """Processor time of a real recovery, to a factor of two and a half; the model and its flags stay as they were."""
    before = {name: (each.clone(), each.requires_grad) for name, each in meter.model.named_parameters()}
    rates = measure_steps(meter.model, torch.zeros(1, 32, dtype=torch.int64), part)
    after = dict(meter.model.named_parameters())
    assert set(after) == set(before) and rates.kept > 0
    assert all(each.equal(after[name]) and grad == after[name].requires_grad for name, (each, grad) in before.items())
    tokens = torch.randint(100, (8, 128), generator=torch.Generator().manual_seed(0))
    started = time.process_time()
    recover(lab.load_model("lab-llama")[0], tokens, trained=trained, steps=6)
    seconds = time.process_time() - started
    foreseen = meter.training_seconds(Training(6, 8, 128, part))
    assert seconds / 3.5 < foreseen < 2.5 * seconds, (foreseen, seconds)


def test_a_batch_in_parts_keeps_less(meter, monkeypatch) -> None:
    whole, parts = (Training(1, 8, 128, "adapters", in_parts=each) for each in (False, True))
    assert meter.training_memory(parts) == meter.training_memory(whole)  # which fits
    row = meter.training_memory(Training(1, 2, 128, "adapters")) - meter.training_memory(
        Training(1, 1, 128, "adapters")
    )
    monkeypatch.setattr(meter_module, "KEPT_AT_ONCE", 1)
    assert meter.training_memory(whole) - meter.training_memory(parts) == pytest.approx(7 * row, rel=1e-3)


def test_recoveries_train_in_parts_and_masks_take_memory(meter) -> None:
    (work,) = plan_healing(parameters_of("14_what_heals", models=["lab-llama"])).works
    recovered = [each for each in work.trainings if each.rows == RecoverySizes().batch_size]
    assert recovered and all(each.in_parts for each in recovered) and len({each.masked for each in recovered}) == 2
    plain, masked = (meter.training_memory(Training(1, 8, 32, masked=each)) for each in (False, True))
    assert masked - plain == 5 * meter.model.num_parameters()


def test_searches_cost_more_than_walks_and_walks_more_than_nothing(meter) -> None:
    def seconds(arm: str, n: int = 2) -> float:
        return cost_work(meter, Work(MODEL, made=(Made(arm, n, (8, 64)),), loads=0), set()).seconds

    assert seconds("deepest") == 0.0 < seconds("influence") < seconds("SLEB") < seconds("sublayers")
    assert seconds("SLEB", 1) < seconds("SLEB", 2) and seconds("Taylor") > seconds("influence")
    assert seconds("FLAP") < seconds("SLEB") < seconds("FLAP, EvoPress") == seconds("FLAP, EvoPress", 3)
    halves = cost_work(meter, Work(MODEL, made=(Made("angular", None, (8, 64)),), loads=0), set())
    assert halves.prunings == len(meter.blocks) // 2 and halves.evaluations == 0


def test_a_search_is_charged_for_what_no_other_has_read(meter) -> None:
    def seconds(arm: str, n: int, **searched: int) -> float:
        made = Made(arm, n, (8, 64), searched=searched)
        return cost_work(meter, Work(MODEL, made=(made,), loads=0), set()).seconds

    for arm in ("SLEB", "sublayers"):
        assert seconds(arm, 2) + seconds(arm, 3, **{arm: 2}) == pytest.approx(seconds(arm, 3))
    assert seconds("blocks", 2, SLEB=2) < seconds("blocks", 2) == seconds("SLEB", 2)
    assert seconds("blocks", 2, SLEB=2) < seconds("blocks", 2, SLEB=1) < seconds("blocks", 2)
    (work,) = plan_smaller(parameters_of("13_smaller_for_real", models=["lab-llama"], n_blocks=[1, 2])).works
    of_blocks = [dict(each.searched) for each in work.made if each.arm == "blocks" and each.reading is not None]
    assert [(each["SLEB"], each["blocks"]) for each in of_blocks] == [(1, 0), (2, 1)]


def test_steps_and_the_ledger_are_told() -> None:
    told = Outlook("14_what_heals", seconds=100.0, memory=1, disk=1, prunings=2, evaluations=3, steps=40)
    ledger = Outlook("99_ledger", seconds=5.0, memory=1, disk=1, note=plan_work("99_ledger", {}).rough)
    lines = write_outlooks([told, ledger], free_disk=10**9, free_temporary=10**9)
    assert "2 prunings, 3 evaluations, 40 steps of training" in lines[1]
    assert lines[2].strip() == "99_ledger: about 00:05, 0 MB; no pruning (reads the others' rows only)"
