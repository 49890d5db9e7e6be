"""The forecast: its arithmetic against real tensors and runs, its order, its errors, and what `prune` says of it."""

import subprocess
import sys
from importlib import import_module

import pytest
import torch
from architectures import ARCHITECTURES
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig

import labutils as lab
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.forecast import advice
from labutils.pruning.forecast.probe import PruningSpeed, Speed, clocked
from labutils.pruning.forecast.request import build_on_meta
from labutils.pruning.forecast.trace import trace_block
from labutils.pruning.statistics import Collector

MODELS = ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_bert"]
UNIT = Speed(product=1.0, attention=1.0, traffic=1.0, norms=1.0, operation=1.0, factor=1.0)


@pytest.fixture
def unit_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which every unit of work takes a second: forecasts are then pure arithmetic."""
    module = import_module("labutils.pruning.forecast.request")
    monkeypatch.setattr(module, "measure_speed", lambda device, dtype: UNIT)
    monkeypatch.setattr(module, "measure_pruning", lambda method, device, group: PruningSpeed(1.0, 1.0))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_run_without_data_finds_the_inputs_that_a_real_run_finds(name: str) -> None:
    model = ARCHITECTURES[name].build()
    costs, n_blocks = trace_block(build_on_meta(model, torch.float32), (2, 8))
    walk = BlockWalk(model, torch.arange(16).reshape(2, 8))
    with torch.no_grad():
        statistics = walk.collect(0, hessian=False)
    assert n_blocks == len(walk.blocks) and costs.weights == sum(
        matrix.rows * matrix.columns for matrix in costs.matrices
    )
    dense = [matrix for matrix in costs.matrices if matrix.share == 1]
    shared = {id(own): len(own.norms) for layer, own in statistics.items() if "experts" not in layer}
    assert sorted({matrix.input: matrix.columns for matrix in dense}.values()) == sorted(shared.values())
    assert costs.hidden == walk.hidden[0].nbytes and costs.products > 0 and costs.peak > costs.hidden


def test_work_is_timed_with_all_threads_and_with_one() -> None:
    """On a crowded machine a thread's clock counts its waiting for the others of its process."""
    seen, before = [], torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = clocked(lambda: seen.append(torch.get_num_threads()), torch.device("cpu"), repeats=3)
        assert seen == [2, 2, 2, 1, 1, 1] and torch.get_num_threads() == 2
        assert [len(times) for times in found] == [2, 2]
        torch.set_num_threads(1)
        assert len(clocked(lambda: None, torch.device("cpu"), repeats=3)) == 1
    finally:
        torch.set_num_threads(before)


def test_counts_of_a_llama_block_by_hand(tiny_llama: nn.Module) -> None:
    """Width 16, inner width 24, 2 heads, 2 sequences of 10 tokens, float32."""
    costs, n_blocks = trace_block(build_on_meta(tiny_llama, torch.float32), (2, 10))
    assert (n_blocks, costs.weights) == (3, 4 * 16 * 16 + 3 * 16 * 24)
    assert costs.products == 2 * 20 * costs.weights
    assert costs.attention == 2 * 2 * 20 * 10 * 16 // 2  # scores and values, for half of the pairs
    assert costs.hidden == 20 * 16 * 4
    gate_up_and_their_product = 3 * 20 * 24 * 4
    assert gate_up_and_their_product < costs.peak < 2 * gate_up_and_their_product + 4 * costs.hidden


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
@pytest.mark.parametrize("name", MODELS)
def test_memory_is_that_of_the_tensors(
    name: str, method: str, unit_speed: None, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    tokens = torch.randint(0, 64, (8, 24), generator=torch.Generator().manual_seed(0))
    found = lab.forecast(model, (8, 24), method=method, sparsity=0.5, batch_size=4)
    walk = BlockWalk(model, tokens, batch_size=4)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    hidden = sum(batch.nbytes for batch in walk.hidden)
    blocks = {id(p): p.nbytes for block in walk.blocks for n, p in block.named_parameters() if p.dim() == 2}
    statistics = {id(own): own for own in walk.collect(0, hessian=method == "sparsegpt").values()}.values()
    sums = sum(own.sample.nbytes + (own.hessian.nbytes if own.hessian is not None else 0) for own in statistics)
    factors = sum(own.hessian.nbytes for own in statistics) if method == "sparsegpt" else 0
    assert found.parts["model"] == weights
    assert found.parts["weights put back after a failure"] == sum(blocks.values())
    assert found.parts["hidden states"] == 2 * hidden
    assert found.parts["statistics"] == sums + factors
    assert found.memory == found.stages["bytes"].max() >= weights + sum(blocks.values()) + 2 * hidden + sums


def test_one_threshold_for_all_matrices_holds_all_scores(tiny_llama: nn.Module, unit_speed: None) -> None:
    asked = {"method": "wanda", "sparsity": 0.5}
    found = lab.forecast(tiny_llama, (2, 8), allocation="global", **asked)
    owl = lab.forecast(tiny_llama, (2, 8), allocation="owl", **asked)
    n_weights = 3 * (4 * 16 * 16 + 3 * 16 * 24)
    by_stage = (each.stages.set_index("stage")["bytes"]["allocate"] for each in (found, owl))
    assert next(by_stage) - next(by_stage) == 4 * n_weights


def test_more_of_anything_costs_more(tiny_llama: nn.Module, unit_speed: None) -> None:
    base = lab.forecast(tiny_llama, (8, 16), method="wanda", sparsity=0.5)
    for shape in ((16, 16), (8, 32)):
        more = lab.forecast(tiny_llama, shape, method="wanda", sparsity=0.5)
        assert more.seconds > base.seconds and more.memory > base.memory
    solving = lab.forecast(tiny_llama, (8, 16), method="sparsegpt", sparsity=0.5)
    assert solving.parts["statistics"] > base.parts["statistics"]
    stages = [found.stages.set_index("stage")["seconds"] for found in (base, solving)]
    assert stages[0]["factorise"] == 0 < stages[1]["factorise"] and stages[0]["collect"] < stages[1]["collect"]
    measuring = lab.forecast(tiny_llama, (8, 16), method="optiprune-auto", sparsity=0.5)
    unspread = lab.forecast(tiny_llama, (8, 16), method="admm", sparsity=0.5)
    assert measuring.seconds > unspread.seconds > solving.seconds
    assert set(measuring.stages["stage"]) - set(unspread.stages["stage"]) == {"allocate", "search"}
    by_owl = lab.forecast(tiny_llama, (8, 16), method="wanda", allocation="owl", sparsity=0.5)
    assert by_owl.seconds > base.seconds and by_owl.memory >= base.memory
    one_pass = lab.forecast(tiny_llama, (8, 16), method="wanda", sequential=False, sparsity=0.5)
    assert one_pass.seconds < base.seconds and "advance" not in set(one_pass.stages["stage"])
    slim = lab.forecast(tiny_llama, (8, 16), method="wanda", batch_size=1, sparsity=0.5)
    assert slim.memory < base.memory and slim.streamed < base.streamed < base.memory


def test_optiprune_is_forecast_as_what_it_comes_to(tiny_llama: nn.Module, unit_speed: None) -> None:
    low, high = (lab.forecast(tiny_llama, (8, 16), method="optiprune", sparsity=sparsity) for sparsity in (0.3, 0.7))
    assert low.seconds == lab.forecast(tiny_llama, (8, 16), method="ria", sparsity=0.5).seconds
    assert high.seconds == lab.forecast(tiny_llama, (8, 16), method="sparsegpt", allocation="owl", sparsity=0.5).seconds


def test_a_configuration_is_as_good_as_the_model(unit_speed: None) -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2
    )
    config.architectures = ["LlamaForCausalLM"]
    model = LlamaForCausalLM(config)
    own, planned = (
        lab.forecast(model, (8, 16), method="sparsegpt", sparsity=0.5),
        lab.forecast(config, (8, 16), method="sparsegpt", sparsity=0.5),
    )
    assert (planned.seconds, planned.memory, planned.parts) == (own.seconds, own.memory, own.parts)
    half = lab.forecast(config, (8, 16), method="sparsegpt", dtype=torch.bfloat16, sparsity=0.5)
    assert half.parts["model"] == own.parts["model"] // 2


def test_a_model_too_big_for_this_machine_can_be_forecast(unit_speed: None) -> None:
    config = LlamaConfig(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64)
    config.architectures = ["LlamaForCausalLM"]
    found = lab.forecast(config, (128, 2048), method="sparsegpt", dtype=torch.bfloat16, sparsity=0.5)
    assert found.parts["model"] > 100e9 and found.streamed < found.memory / 10
    assert "GB, of which" in str(found)


@pytest.mark.parametrize("shape", [(0, 8), (8,), (8, 8, 8), (8, -1)])
def test_a_shape_that_is_none_is_refused(tiny_llama: nn.Module, shape: tuple) -> None:
    with pytest.raises(ValueError, match="two positive integers"):
        lab.forecast(tiny_llama, shape, sparsity=0.5)


def test_arguments_are_those_of_prune(tiny_llama: nn.Module) -> None:
    with pytest.raises(LookupError, match="wanda"):
        lab.forecast(tiny_llama, (8, 16), method="wandaa", sparsity=0.5)
    with pytest.raises(ValueError, match="batch_size"):
        lab.forecast(tiny_llama, (8, 16), batch_sise=2, sparsity=0.5)
    with pytest.raises(ValueError, match="device='gpu' cannot be used"):
        lab.forecast(tiny_llama.config, (8, 16), sparsity=0.5, seed=1, device="gpu")
    with pytest.raises((LookupError, ValueError)):
        lab.forecast(PretrainedConfig(), (8, 16), sparsity=0.5)


def test_the_calibration_may_be_given_as_it_is_and_the_dtype_by_name(tiny_llama: nn.Module, unit_speed: None) -> None:
    tokens, asked = torch.zeros(8, 16, dtype=torch.int64), {"method": "wanda", "sparsity": 0.5}
    by_shape = lab.forecast(tiny_llama, (8, 16), **asked)
    for calibration in (tokens, {"input_ids": tokens}, tokens.shape):
        assert lab.forecast(tiny_llama, calibration, **asked).seconds == by_shape.seconds
    config = tiny_llama.config
    config.architectures = ["LlamaForCausalLM"]
    named, given = (lab.forecast(config, (8, 16), dtype=dtype, **asked) for dtype in ("bfloat16", torch.bfloat16))
    assert named.parts == given.parts
    assert lab.forecast(config, (8, 16), **asked).parts["model"] == 2 * named.parts["model"]
    for dtype in ("bfloat61", "int8", torch.int8):
        with pytest.raises(ValueError, match="not a floating-point dtype"):
            lab.forecast(config, (8, 16), dtype=dtype, **asked)


def test_a_method_by_position_is_deprecated_and_a_sparsity_is_needed(tiny_llama: nn.Module, unit_speed: None) -> None:
    with pytest.warns(DeprecationWarning, match="method="):
        found = lab.forecast(tiny_llama, (8, 16), "wanda", sparsity=0.5)
    assert found.seconds == lab.forecast(tiny_llama, (8, 16), method="wanda", sparsity=0.5).seconds
    with pytest.raises(TypeError, match="one method"), pytest.warns(DeprecationWarning):
        lab.forecast(tiny_llama, (8, 16), "wanda", method="ria", sparsity=0.5)
    with pytest.raises(TypeError, match="sparsity"):
        lab.forecast(tiny_llama, (8, 16))


def test_the_probe_measures_rates() -> None:
    from labutils.pruning.forecast.probe import measure_speed

    speed = measure_speed(torch.device("cpu"), torch.float32)
    assert all(rate > 0 for rate in vars(speed).values())
    assert measure_speed(torch.device("cpu"), torch.float32) is speed


# ---- what prune says ---------------------------------------------------------------------------------------------


def test_a_long_pruning_is_announced_and_a_short_one_is_not(
    tiny_llama: nn.Module, unit_speed: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = torch.randint(0, 64, (4, 16))
    lab.prune(tiny_llama, tokens, method="wanda", sparsity=0.3)
    assert not caplog.records
    monkeypatch.setattr(advice, "measure_product", lambda device, dtype: 1.0)  # a very slow machine
    lab.prune(tiny_llama, tokens, method="wanda", sparsity=0.5)
    (record,) = caplog.records
    assert record.name == "labutils" and record.getMessage().startswith("prune wanda: about ")


ANNOUNCED = """\
import torch, labutils as lab
from labutils.pruning.forecast import advice
from transformers import LlamaConfig, LlamaForCausalLM
advice.LONG_SECONDS = 0.0
config = LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
lab.prune(LlamaForCausalLM(config).eval(), torch.zeros(2, 8, dtype=torch.int64), method="magnitude", sparsity=0.5)
"""


def test_an_announcement_is_shown_where_nobody_has_configured_logging() -> None:
    run = subprocess.run([sys.executable, "-c", ANNOUNCED], capture_output=True, text=True, check=True)
    assert "prune magnitude: about " in run.stderr and run.stdout == ""


def test_exhausted_memory_becomes_advice_and_the_model_is_as_it_was(
    tiny_llama: nn.Module, unit_speed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    own = Collector.results

    def fail_late(self: Collector, block: str, n_sequences: int) -> dict:
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return own(self, block, n_sequences)

    monkeypatch.setattr(Collector, "results", fail_late)
    before = {name: tensor.clone() for name, tensor in tiny_llama.state_dict().items()}
    with pytest.raises(MemoryError, match=r"batch_size=1 \(.* MB\), or 4 calibration .*, or `prune_checkpoint`"):
        lab.prune(tiny_llama, torch.randint(0, 64, (8, 24)), method="wanda", sparsity=0.5)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_llama.state_dict().items())


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("out of memory")])
def test_other_errors_stay_what_they_are(
    tiny_llama: nn.Module, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> dict:
        raise error

    monkeypatch.setattr(Collector, "results", fail)
    with pytest.raises(type(error), match=str(error)):
        lab.prune(tiny_llama, torch.randint(0, 64, (8, 24)), method="wanda", sparsity=0.5)


LIMITED = """\
import resource, torch, labutils as lab
from transformers import LlamaConfig, LlamaForCausalLM
config = LlamaConfig(vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
model, tokens = LlamaForCausalLM(config).eval(), torch.zeros(256, 1024, dtype=torch.int64)
lab.prune(model, tokens[:2], method="wanda", sparsity=0.5)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
try:
    lab.prune(model, tokens, method="wanda", sparsity=0.5, batch_size=256)
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are those of Linux")
def test_a_process_that_may_not_have_more_memory_gets_advice() -> None:
    run = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert run.stdout.startswith("Out of memory") and "batch_size=1" in run.stdout, run.stderr
