"""A sample of the conformance sweep, one class for each mechanism, and the stored table of the whole sweep."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from conformance import checks, sweep, table
from conformance.attempts import Wrong, attempt
from conformance.checks import Row, check_statistics, matrices, require_same, snapshot
from conformance.plain_passes import plain_reads
from conformance.tiny_configs import forward_failure, tiny_model
from torch import nn

# What each stands for: plain decoders, fused projections, transposed layers, experts in four forms, hybrids of
# attention and recurrence, hashed experts, two widths of heads, encoders, and what must be refused.
SAMPLE = [
    "LlamaForCausalLM", "Gemma3nForCausalLM", "GPT2LMHeadModel", "BloomForCausalLM", "FalconForCausalLM",
    "MixtralForCausalLM", "GptOssForCausalLM", "DeepseekV3ForCausalLM", "DeepseekV4ForCausalLM", "DbrxForCausalLM",
    "GraniteMoeHybridForCausalLM", "Qwen3NextForCausalLM", "JambaForCausalLM", "RwkvForCausalLM", "MambaForCausalLM",
    "OpenAIGPTLMHeadModel", "BertModel", "AlbertModel", "XLMModel", "T5EncoderModel", "BartModel", "LiltModel",
    "CLIPModel", "ViTModel", "ResNetModel", "Wav2Vec2Model",
]  # fmt: skip
CANDIDATES = {candidate.name: candidate for candidate in sweep.candidates()}


@pytest.mark.parametrize("name", SAMPLE)
def test_a_class_is_right_or_refused_as_the_table_says(name: str) -> None:
    row = sweep.check_candidate(CANDIDATES[name])
    assert row.outcome in ("right", "refused"), row.reason
    stored = table.read_table().set_index("class")
    if stored["transformers"].iloc[0] == transformers.__version__:
        assert row.outcome == stored.loc[name, "outcome"], row.reason


def test_the_stored_table_holds_every_class_and_nothing_wrong() -> None:
    stored = table.read_table()
    if (version := stored["transformers"].iloc[0]) != transformers.__version__:
        pytest.skip(f"the table is of transformers {version}, installed is {transformers.__version__}")
    assert set(stored["class"]) == CANDIDATES.keys() and stored["class"].is_unique
    assert set(stored["outcome"]) <= {"right", "refused", "not built"}
    assert (stored.loc[stored["outcome"] != "right", "reason"] != "").all()


def test_page_and_readme_are_written_from_the_table() -> None:
    stored = table.read_table()
    assert table.PAGE.read_text(encoding="utf-8") == table.page(stored)
    readme = table.README.read_text(encoding="utf-8")
    assert readme == table.with_sentence(readme, stored)


def test_refusals_are_those_of_our_own_documented_kinds(tiny_llama: nn.Module) -> None:
    def foreign() -> None:
        torch.ones(2) @ torch.ones(3)

    def slip() -> None:
        {}["hidden_states"]

    for action in (foreign, slip):
        with pytest.raises(Wrong, match="prune: (RuntimeError|KeyError) at"):
            attempt("prune", action)
    message = attempt("prune", lambda: checks.lab.prune(tiny_llama, checks.IDS, method="wanda", sparsity=2.0))
    assert "sparsity=2.0 must be a share" in message


def test_the_checks_see_faults(tiny_llama: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check fails where what it looks for is broken: otherwise it would prove nothing."""
    dense = snapshot(tiny_llama)
    report = checks.lab.prune(tiny_llama, checks.IDS, method="wanda", sparsity=0.5)
    checks.check_zeros(tiny_llama, report)
    checks.restore(tiny_llama, dense)
    with pytest.raises(Wrong, match="0 of .* entries of model.layers.0"):
        checks.check_zeros(tiny_llama, report)
    with torch.no_grad():
        tiny_llama.model.norm.weight.add_(1)
    with pytest.raises(Wrong, match="model.norm.weight is no matrix"):
        checks.check_nothing_else_changed(tiny_llama, dense)
    with pytest.raises(Wrong, match="saved: 1 tensors differ"):
        require_same(dense, tiny_llama, "saved")

    class OffWalk(checks.BlockWalk):
        def collect(self, index: int, *, hessian: bool) -> dict:
            found = super().collect(index, hessian=hessian)
            for own in found.values():
                own.hessian *= 1.1
            return found

    monkeypatch.setattr(checks, "BlockWalk", OffWalk)
    with pytest.raises(Wrong, match=r"model\.layers\.0\.\S+ \(behind changed blocks\): the Hessian is off by"):
        check_statistics(tiny_llama, Row("Llama", "causal"))


def test_products_see_what_hooks_see(tiny_llama: nn.Module) -> None:
    batches = [checks.IDS]
    hooked = plain_reads(tiny_llama, batches, {})
    tiny_llama.set_experts_implementation = lambda _: None
    watched = plain_reads(tiny_llama, batches, {f"{name}[0]": matrix for name, matrix in matrices(tiny_llama).items()})
    for name in matrices(tiny_llama):
        assert watched[f"{name}[0]"].n_tokens == hooked[name].n_tokens == checks.IDS.numel()
        torch.testing.assert_close(watched[f"{name}[0]"].gram, hooked[name].gram)


def test_tiny_models_are_tiny_and_read_tokens() -> None:
    for name in ("Qwen3MoeForCausalLM", "BertModel"):
        model_class = getattr(transformers, name)
        model = tiny_model(model_class, [model_class.config_class], checks.IDS).model
        assert sum(parameter.numel() for parameter in model.parameters()) < 200_000
        assert forward_failure(model, checks.IDS) is None
        assert all(parameter.std() > 0 for parameter in model.parameters() if parameter.numel() > 1)


def test_rows_survive_a_kill(tmp_path: Path) -> None:
    results = tmp_path / "rows.jsonl"
    done = list(sweep.sweep([CANDIDATES["ResNetModel"]], results, jobs=1))
    with results.open("a", encoding="utf-8") as file:
        file.write('{"name": "LlamaForCausalLM", "mapp')
    assert list(sweep.read_rows(results).values()) == done and done[0].outcome == "refused"
    assert json.loads(results.read_text().splitlines()[0])["name"] == "ResNetModel"


def test_a_class_that_hangs_is_wrong_and_the_sweep_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SECONDS", 0.0)
    monkeypatch.setattr(sweep, "_child", lambda candidate, sender: torch.inf)
    chosen = [CANDIDATES[name] for name in ("BertModel", "ResNetModel")]
    rows = list(sweep.sweep(chosen, tmp_path / "rows.jsonl", jobs=1))
    assert [row.name for row in rows] == ["BertModel", "ResNetModel"]
    assert {row.outcome for row in rows} == {"wrong"}
