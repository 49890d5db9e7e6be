"""What a spread says beforehand is what a pruning reaches."""

import pandas as pd

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
