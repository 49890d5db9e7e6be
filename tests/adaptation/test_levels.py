"""A loss on text of the domain beside guessing and beside a trained model."""

import pandas as pd
import pytest

import labutils as lab
from labutils.adaptation import describe_levels, domain_loss

LOSSES = pd.DataFrame({"loss before": [11.5, 11.5], "loss after": [5.5, 6.5]}, index=["full", "lora"])


def test_losses_stand_beside_guessing_and_a_trained_model() -> None:
    told = describe_levels(LOSSES, 4096, ("trained", 1.5))
    assert told.startswith("Guessing costs ln 4,096 = 8.318 nats per token. The model before adaptation loses 11.500, ")
    assert "worse than guessing" in told and "after it, 5.500 (full) to 6.500 (lora)." in told
    assert told.endswith("loses 1.500, to which adaptation goes 60% of the way at best.")


def test_what_is_absent_is_not_told() -> None:
    assert describe_levels(LOSSES.head(1), 200_000).endswith("less than guessing; after it, 5.500 (full).")
    assert describe_levels(LOSSES, 4096, ("worse", 12.0)).endswith(
        "worse, which was trained on such text, loses 12.000."
    )


def test_the_loss_on_the_domain_is_that_of_its_unseen_windows() -> None:
    model, tokenizer = lab.load_model("lab-llama")
    windows = lab.load_tokens("lab:biomedical", tokenizer, n_sequences=2, seq_len=32, split="test")
    found = domain_loss("lab-llama", "lab:biomedical", n_heldout=2, seq_len=32)
    assert 2.718281828**found == pytest.approx(lab.perplexity(model, windows), rel=1e-4)
