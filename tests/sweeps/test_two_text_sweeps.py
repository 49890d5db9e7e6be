"""Scores of two texts beside either text alone: which prunings are run, and which gains are formed."""

import copy

import pytest
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

import labutils as lab
from labutils.data.sources import pair_name
from labutils.optima import mask_differences
from labutils.pruning import CalibrationTexts

DOMAIN, GENERAL = "lab:biomedical", "lab:review"
SIZES = lab.sweeps.SweepSizes(n_calibration=2, n_items=3, seq_len=16)


@pytest.fixture
def loaded() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model of two small blocks that reads the lab's words."""
    model, tokenizer = lab.load_model("lab-llama")
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=model.config.vocab_size, **shape)).eval(), tokenizer


def test_both_texts_beside_either_alone(loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    fixed = {"sparsities": [0.5], "n_draws": 1, "sizes": SIZES, "loaded": loaded}
    rows = lab.sweeps.mixture_sweep("lab-llama", DOMAIN, GENERAL, method="gaprune", normalise=True, **fixed)
    arms = {f"gaprune, {reads}" for reads in ("both", "domain alone", "general alone")}
    assert {*rows["arm"]} == {*arms, "dense"} and {*rows["calibration"]} == {f"{DOMAIN} & {GENERAL}"}
    assert not rows.duplicated(["arm", "evaluation", "draw", "item"]).any() and len(rows) == 3 * 2 * 3 + 2 * 3
    model, tokenizer = copy.deepcopy(loaded[0]), loaded[1]
    texts = (lab.load_tokens(text, tokenizer, n_sequences=2, seq_len=16, seed=0) for text in (DOMAIN, GENERAL))
    lab.prune(model, CalibrationTexts(*texts), method="gaprune", sparsity=0.5, normalise=True)
    expected = lab.item_losses(model, tokenizer, lab.load_evaluation(GENERAL, model, tokenizer, n_items=3, seq_len=16))
    both = rows[(rows["arm"] == "gaprune, both") & (rows["draw"] == 0) & (rows["evaluation"] == GENERAL)]
    assert both["loss"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    gains = lab.sweeps.mixture_gains(rows, "gaprune", DOMAIN, GENERAL)
    assert gains["contrast"].unique().tolist() == ["gaprune keeps the domain", "gaprune keeps general text"]
    alone = rows[(rows["arm"] == "gaprune, domain alone") & (rows["draw"] == 0) & (rows["evaluation"] == GENERAL)]
    own = gains[(gains["contrast"] == "gaprune keeps general text") & (gains["draw"] == 0)].sort_values("item")
    assert own["value"].tolist() == pytest.approx((alone["loss"].to_numpy() - both["loss"].to_numpy()).tolist())
    assert lab.sweeps.lowest_over_models(gains).overall.estimate == gains.groupby("contrast")["value"].mean().min()
    assert pair_name(f"{DOMAIN} & {GENERAL}", DOMAIN) == "biomedical & review → biomedical"
    with pytest.raises(LookupError, match="no evaluation 'lab:narrative'"):
        lab.sweeps.mixture_gains(rows, "gaprune", "lab:narrative", GENERAL)
    with pytest.raises(LookupError, match="mixes no two texts; those that do: d-pruner, gaprune"):
        lab.sweeps.mixture_sweep("lab-llama", DOMAIN, GENERAL, method="wanda", **fixed)


def test_how_far_masks_differ(loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    model, tokenizer = loaded
    tokens = lab.load_tokens(GENERAL, tokenizer, n_sequences=2, seq_len=16)
    arms = {"row": ("magnitude", {"group": "row"}), "whole": ("magnitude", {}), "again": ("magnitude", {})}
    found = mask_differences(model, tokens, arms, sparsity=0.5).set_index(["first", "second"])["other"]
    assert len(found) == 6 and found["whole", "again"] == 0
    assert found["row", "whole"] == pytest.approx(found["whole", "row"], abs=1e-2) and 0 < found["row", "whole"] < 0.5
