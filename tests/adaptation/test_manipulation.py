"""The gate of the adaptation study: planted changes are found as often as promised, and the sentences tell them."""

import numpy as np
import pandas as pd
import pytest

from labutils.adaptation.manipulation import heldout_changes, manipulation_check, why_not_adapted
from labutils.adaptation.sentences import describe_check, describe_configuration_gains, describe_scores, describe_spread


def study(change: float, seed: int, *, n_samples: int = 12, sample_sd: float = 0.1) -> pd.DataFrame:
    """Runs whose adaptations change the loss by `change` on average; two ways and two fine-tunings per sample."""
    generator = np.random.default_rng(seed)
    rows = [{"sample": "base", "adaptation": "none", "finetuning": "H1"}]
    for number in range(n_samples):
        of_sample = change + generator.normal(scale=sample_sd)
        for way in ("D1", "D2"):
            after = 2.0 + of_sample + generator.normal(scale=0.02)
            name = {"sample": f"S{number}", "adaptation": way, "heldout_before": 2.0, "heldout_after": after}
            rows += [name | {"finetuning": tuning} for tuning in ("H1", "H2")]
    return pd.DataFrame(rows)


def test_every_adaptation_counts_once():
    runs = study(-0.3, 0)
    changes = heldout_changes(runs)
    assert len(changes) == 24 and changes.columns.tolist() == ["sample", "adaptation", "change"]
    found = manipulation_check(runs)
    assert found.estimate == pytest.approx(changes["change"].mean()) and (found.n_items, found.n_draws) == (24, 12)


def test_the_interval_holds_the_planted_change_as_often_as_it_says():
    """Adaptations of one sample are not independent: counted as 24 units the interval would be far too narrow."""
    found = [manipulation_check(study(-0.05, seed)) for seed in range(300)]
    coverage = np.mean([each.low <= -0.05 <= each.high for each in found])
    assert 0.92 <= coverage <= 0.98


@pytest.mark.parametrize(("change", "passes"), [(-0.3, True), (0.3, False), (0.0, False)])
def test_the_gate_opens_where_the_loss_fell_and_nowhere_else(change, passes):
    opened = [not why_not_adapted(study(change, seed)) for seed in range(40)]
    assert np.mean(opened) == 1 if passes else np.mean(opened) <= 0.125  # one-sided 2.5 % where nothing changed


def test_what_is_said_is_what_happened():
    assert "rose: +0." in describe_check(study(0.6, 1)) and "in 0 of 24 adaptations" in describe_check(study(0.6, 1))
    assert "fell: −0." in describe_check(study(-0.6, 1)) and "24 of 24" in describe_check(study(-0.6, 1))
    assert "did not change for certain" in describe_check(study(0.0, 2))
    assert why_not_adapted(study(0.3, 1)).startswith("adaptation did not teach the model the domain")
    with pytest.raises(ValueError, match="no run of an adapted model among 1 runs"):
        heldout_changes(study(0, 0).head(1))
    with pytest.raises(LookupError, match="heldout_before"):
        heldout_changes(study(0, 0).drop(columns="heldout_before"))


def test_the_spread_names_the_emptiest_band():
    samples = pd.DataFrame({"complexity": [0, 0.25, 0.5, 0.75, 1.0], "term_share": [0.1, 0.11, 0.12, 0.19, 0.2]})
    told = describe_spread(samples)
    assert "share of terms from 0.120 to 0.190, 70% of its range" in told and "r = 0.94" in told
    assert "r = −1.00" in describe_spread(samples.assign(term_share=[0.4, 0.3, 0.2, 0.1, 0.0]))


def test_clear_findings_are_counted_on_both_sides():
    table = pd.DataFrame({"low": [0.1, -0.3, -0.1, 0.0], "high": [0.2, -0.1, 0.1, 0.1]})
    told = describe_configuration_gains(table)
    assert "Of 4 fine-tunings and adaptations, 1 gain and 1 lose" in told and "0.2 such findings" in told


def test_the_room_for_a_gain_is_told():
    rows = [("none", "H1", 0.5, 0.3), ("none", "H2", 0.7, 0.3), ("D1", "H1", 0.6, 0.4), ("D1", "H2", 0.8, 0.4)]
    runs = pd.DataFrame(rows, columns=["adaptation", "finetuning_line", "pearson", "zero_shot"])
    told = describe_scores(runs)
    assert "cosines alone reach r = 0.300" in told and "0.600 on average, 0.700 with the best" in told
    assert told.endswith("with adaptation 0.400 and 0.700.")
