"""What a spread says beforehand is what a pruning reaches."""

import pandas as pd
import pytest
import torch

import labutils as lab
from labutils.core.provenance import hash_weights

RULES = ["uniform", "owl", "alpha", "dlp", "arithmetic", "global", "global-raw"]


def test_the_spread_is_what_pruning_reaches_and_leaves_the_model_dense():
    model, tokenizer = lab.load_model("lab-llama")
    tokens = lab.load_tokens("lab:review", tokenizer, n_sequences=4, seq_len=32)
    before = hash_weights(model)
    spread = lab.pruning.spread_sparsity(model, tokens, allocations=RULES, sparsity=0.7)
    assert hash_weights(model) == before and list(spread) == RULES
    for rule in ("uniform", "owl", "global", "global-raw"):
        pruned, _ = lab.load_model("lab-llama")
        report = lab.prune(pruned, tokens, method="magnitude", sparsity=0.7, allocation=rule)
        pd.testing.assert_series_equal(spread[rule], report.block_sparsity, check_names=False, atol=1e-12)


def test_the_spread_is_that_of_options_as_few_tokens_ask_for_them(tiny_llama):
    """What a search finds hangs on the damping, which few tokens raise."""
    few = torch.randint(0, 64, (1, 6), generator=torch.Generator().manual_seed(0))
    asked = {"method": "optiprune-auto", "sparsity": 0.6}
    search = {"generations": 15, "offspring": 8, "levels": 3}
    spread = lab.pruning.spread_sparsity(tiny_llama, few, allocations=["evopress"], **asked, **search)
    report = lab.prune(tiny_llama, few, allocation="evopress", **asked, **search)
    assert spread["evopress"].tolist() == pytest.approx(report.block_sparsity.tolist(), abs=1e-12)
