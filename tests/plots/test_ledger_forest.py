"""The forest shows every verdict, or says why not."""

import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from labutils.claims.outcomes import OUTCOMES
from labutils.claims.verdicts import Verdict
from labutils.plots.ledger_forest import OUTCOME_COLOURS, absent_effects, effect_forest


def row(claim: str, outcome: str, estimate: float | None, margin: float | None = 0.1) -> dict:
    ends = {} if estimate is None else {"low": estimate - 0.1, "high": estimate + 0.2}
    about = {"statement": "", "scope": {"model": "m"}, "outcome": outcome, "first_outcome": outcome}
    return Verdict(claim=claim, estimate=estimate, margin=margin, **ends, **about).as_row()


LEDGER = pd.DataFrame(
    [
        row("R10", "inconclusive", 0.1, None), row("C16", "supported", 0.2), row("C14", "contradicted", 0.3),
        row("C07", "not testable here", None, None), row("C02", "real, negligible", 0.05, 1.0),
    ]
)  # fmt: skip


def test_every_verdict_is_drawn_or_named():
    figure = effect_forest(LEDGER, title="Effects")
    axis = figure.axes[0]
    labels = [text.get_text()[:3] for text in axis.get_yticklabels()]
    assert labels == ["C02", "C14", "C16"]
    assert figure.texts[0].get_text() == "Not in the figure: no estimate C07; no margin R10."
    intervals = [
        list(line.get_xdata()) for line in axis.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] == 2
    ]
    assert intervals[0] == pytest.approx([1.0, 4.0])
    # A gain where none was claimed lies to the left, and has the colour of what does not hold.
    gain = next(line for line in axis.lines if list(line.get_ydata()) == [1, 1])
    assert list(gain.get_xdata()) == pytest.approx([-5.0, -2.0]) and gain.get_color() == OUTCOME_COLOURS["contradicted"]
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["holds", "does not hold", "real, negligible"]


def test_each_outcome_has_a_colour_of_its_own():
    assert set(OUTCOME_COLOURS) == set(OUTCOMES) - {"not testable here"}
    assert len({to_rgb(colour) for colour in OUTCOME_COLOURS.values()}) == len(OUTCOME_COLOURS)


def test_nothing_is_said_of_nothing():
    assert absent_effects(pd.DataFrame({"absent": ["", ""], "claim": ["C01", "C02"]})) == ""
    assert effect_forest(LEDGER.iloc[:0], title="t").axes[0].get_yticklabels() == []
