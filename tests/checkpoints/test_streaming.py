"""Pruning from disk to disk equals pruning in memory, bit for bit."""

import gc
import json
import weakref
from pathlib import Path

import pytest
import torch
from checkpoint_models import (
    PADDED,
    TOKENS,
    VOCABULARY,
    assert_same_report,
    assert_same_state,
    load_plainly,
    masked_bert,
    mixture,
    run_in_child,
    store,
    untied_llama,
)
from helpers import can_reset_peak
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from labutils.checkpoints import load_pruned, prune_checkpoint
from labutils.checkpoints.streamed import StreamedModel
from labutils.checkpoints.walk import SpilledActivations
from labutils.core.profiling import measure_cost
from labutils.pruning import prune
from labutils.pruning.calibration import Calibration

MODELS = ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_bert"]


def check_equal(source: Path, target: Path, calibration: Calibration = TOKENS, spill: bool = False, **request) -> None:
    """Prune in memory and from disk to disk, and compare everything."""
    model = load_plainly(source)
    expected = prune(model, calibration, **request)
    report = prune_checkpoint(source, target, calibration, spill=spill, **request)
    assert_same_state(load_plainly(target), model)
    assert_same_report(report, expected)
    loaded = load_pruned(target)
    assert_same_state(loaded.model, model)
    assert_same_report(loaded.report, expected)
    assert not (target / ".pruning").exists()


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt", "ria+obs"])
@pytest.mark.parametrize("name", MODELS)
def test_methods_and_architectures(name: str, method: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = store(request.getfixturevalue(name), tmp_path / "dense", in_shards=method == "wanda")
    check_equal(source, tmp_path / "pruned", method=method, sparsity=0.5, batch_size=4)


@pytest.mark.parametrize("allocation", ["owl", "dlp", "alpha", "arithmetic", "optiprune", [0.3, 0.5, 0.5, 0.7]])
def test_allocations(allocation: str | list, tmp_path: Path) -> None:
    source = store(untied_llama(), tmp_path / "dense", in_shards=True)
    check_equal(source, tmp_path / "pruned", method="wanda", sparsity=0.5, allocation=allocation, spill=True)


def test_by_the_dense_models_activations(tmp_path: Path) -> None:
    source = store(untied_llama(), tmp_path / "dense")
    check_equal(source, tmp_path / "pruned", method="ria+obs", sparsity=0.5, allocation="owl", sequential=False)


@pytest.mark.parametrize("sparsity", [0.3, 0.7])
def test_optiprune(sparsity: float, tmp_path: Path) -> None:
    source = store(untied_llama(), tmp_path / "dense")
    check_equal(source, tmp_path / "pruned", method="optiprune", sparsity=sparsity, threshold_on="layer")


@pytest.mark.parametrize("permute", [False, True])
def test_patterns(tiny_llama: torch.nn.Module, permute: bool, tmp_path: Path) -> None:
    source = store(tiny_llama, tmp_path / "dense")
    check_equal(source, tmp_path / "pruned", method="ria", sparsity=0.5, pattern="2:4", permute=permute)


@pytest.mark.parametrize("spill", [False, True])
def test_padding_and_a_checkpoint_with_another_head(spill: bool, tmp_path: Path) -> None:
    source = store(masked_bert(), tmp_path / "dense", in_shards=True)
    check_equal(source, tmp_path / "pruned", PADDED, method="sparsegpt", sparsity=0.6, batch_size=2, spill=spill)
    dense = {name: t for path in source.glob("*.safetensors") for name, t in load_file(path).items()}
    pruned = {name: t for path in (tmp_path / "pruned").glob("model*") if path.suffix != ".json"
              for name, t in load_file(path).items()}  # fmt: skip
    assert pruned.keys() == dense.keys()
    assert all(torch.equal(pruned[name], dense[name]) for name in dense if name.startswith("cls."))


@pytest.mark.parametrize("architecture", ["mixtral", "mixtral without head", "qwen3_moe"])
def test_experts_that_are_stored_one_by_one(architecture: str, tmp_path: Path) -> None:
    """In memory they are one parameter; the written checkpoint has the form of the read one."""
    source = store(mixture(architecture), tmp_path / "dense", in_shards=True)
    dense = json.loads((source / "model.safetensors.index.json").read_text())["weight_map"]
    assert sum(".experts.2." in name for name in dense) == 2 * 3
    check_equal(source, tmp_path / "pruned", method="sparsegpt", sparsity=0.5, allocation="owl")
    assert (
        json.loads((tmp_path / "pruned" / "model.safetensors.index.json").read_text())["weight_map"].keys()
        == dense.keys()
    )


def test_half_precision(tmp_path: Path) -> None:
    source = store(untied_llama().to(torch.bfloat16), tmp_path / "dense")
    check_equal(source, tmp_path / "pruned", method="wanda", sparsity=0.5)
    assert load_pruned(tmp_path / "pruned").model.dtype == torch.bfloat16


def test_another_dtype_than_the_checkpoints(tmp_path: Path) -> None:
    source = store(untied_llama().to(torch.bfloat16), tmp_path / "dense")
    model = load_plainly(source).float()
    prune(model, TOKENS, method="sparsegpt", sparsity=0.5)
    prune_checkpoint(source, tmp_path / "pruned", TOKENS, method="sparsegpt", sparsity=0.5, dtype="float32")
    assert_same_state(load_plainly(tmp_path / "pruned"), model)
    assert json.loads((tmp_path / "pruned" / "config.json").read_text())["dtype"] == "float32"


def test_one_block_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a block has been brought into memory, the others have none."""
    source = store(untied_llama(), tmp_path / "dense")
    visit, visits = StreamedModel.visit, []

    def watched(self: StreamedModel, index: int) -> torch.nn.Module:
        block = visit(self, index)
        visits.append(index)
        for other, module in enumerate(self.blocks):
            assert all(parameter.is_meta == (other != index) for parameter in module.parameters())
        return block

    monkeypatch.setattr(StreamedModel, "visit", watched)
    prune_checkpoint(source, tmp_path / "pruned", TOKENS, method="wanda", sparsity=0.5, allocation="owl")
    assert set(visits) == {0, 1, 2, 3}


@pytest.mark.skipif(not can_reset_peak(), reason="this system does not let the peak memory be measured anew")
def test_peak_memory_does_not_grow_with_the_number_of_blocks(tmp_path: Path) -> None:
    """Twelve blocks take as much as three, but for the size of two: what was freed does not pile up."""
    peaks = []
    for n_blocks in (3, 12):
        config = LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1408, num_hidden_layers=n_blocks,
            num_attention_heads=4, max_position_embeddings=64,
        )  # fmt: skip
        source, target = tmp_path / f"dense-{n_blocks}", tmp_path / f"pruned-{n_blocks}"
        store(LlamaForCausalLM(config), source)
        block = (source / "model.safetensors").stat().st_size / n_blocks / 1e6

        def work(source: Path = source, target: Path = target) -> None:
            cost = measure_cost(lambda: prune_checkpoint(source, target, TOKENS, method="wanda", sparsity=0.5))
            source.with_suffix(".peak").write_text(str(cost.peak_megabytes))

        assert run_in_child(work) == 0
        peaks.append(float(source.with_suffix(".peak").read_text()))
    assert peaks[1] - peaks[0] < 2.5 * block


def test_spilled_hidden_states_are_in_memory_a_batch_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """From the first batch that is embedded on: what was put into the file is not kept beside it."""
    source, store_batch = store(untied_llama(), tmp_path / "dense"), SpilledActivations.__setitem__
    stored: list[weakref.ref] = []

    def watched(self: SpilledActivations, position: int, batch: torch.Tensor) -> None:
        stored.append(weakref.ref(batch.untyped_storage()))
        store_batch(self, position, batch)
        gc.collect()
        assert sum(reference() is not None for reference in stored) <= 2  # this batch, and the block's input

    monkeypatch.setattr(SpilledActivations, "__setitem__", watched)
    gc.freeze()  # so that the many collections look at what is made from here on
    request.addfinalizer(gc.unfreeze)
    wanted = {"method": "wanda", "sparsity": 0.5, "batch_size": 1}
    prune_checkpoint(source, tmp_path / "pruned", TOKENS, spill=True, **wanted)
    assert len(stored) == 6 * 4  # embedded once, then moved past three of four blocks


def test_what_lies_beside_the_weights(tiny_llama: torch.nn.Module, lab_tokenizer, tmp_path: Path) -> None:
    source, target = store(tiny_llama, tmp_path / "dense"), tmp_path / "pruned"
    lab_tokenizer.save_pretrained(source)
    (source / "README.md").write_text("The dense model.")
    report = prune_checkpoint(source, target, TOKENS, method="wanda", sparsity=0.5)
    record = json.loads((target / "pruning.json").read_text())
    assert record["sparsity"] == report.sparsity and record["options"]["method"] == "wanda"
    assert len(record["provenance"]["source weights sha256"]) == 64
    assert load_pruned(target).tokenizer("a b c") == lab_tokenizer("a b c")
    assert not (target / "README.md").exists()


def test_a_finished_target_is_not_pruned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = store(untied_llama(), tmp_path / "dense"), tmp_path / "pruned"
    first = prune_checkpoint(source, target, TOKENS, method="wanda", sparsity=0.5)
    monkeypatch.setattr("labutils.checkpoints.streaming.prune_block", lambda *given: pytest.fail("pruned again"))
    assert_same_report(prune_checkpoint(source, target, TOKENS, method="wanda", sparsity=0.5), first)
    with pytest.raises(ValueError, match="sparsity was 0.5 and is now 0.6"):
        prune_checkpoint(source, target, TOKENS, method="wanda", sparsity=0.6)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"method": "optiprune-auto"}, ValueError, "disk to disk"),
        ({"allocation": "global"}, ValueError, "disk to disk"),
        ({"dtype": "int8"}, ValueError, "float32"),
        ({"sparsity": 1.5}, ValueError, r"\[0, 1\)"),
        ({"method": "wandaa"}, LookupError, "wanda"),
        ({"allocation": "owll"}, LookupError, "owl"),
        ({"calibration": TOKENS + 60}, ValueError, "vocabulary"),
    ],
)
def test_bad_requests(arguments: dict, error: type, says: str, tmp_path: Path) -> None:
    source = store(untied_llama(), tmp_path / "dense")
    request = {"method": "wanda", "sparsity": 0.5, "calibration": TOKENS, **arguments}
    with pytest.raises(error, match=says):
        prune_checkpoint(source, tmp_path / "pruned", **request)
    assert not list((tmp_path / "pruned").glob("*.json"))


def test_a_source_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no folder"):
        prune_checkpoint(tmp_path / "nowhere", tmp_path / "pruned", TOKENS, method="wanda", sparsity=0.5)
