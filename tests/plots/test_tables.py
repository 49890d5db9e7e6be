"""Tables as a notebook shows them: digits, missing values, no index, and text that cannot become HTML."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

import labutils as lab

TABLE = pd.DataFrame(
    {"name": ["<b>x</b>", "a & b"], "loss": [0.12345, float("nan")], "share": [0.5, 0.25], "items": [1200, 3]},
    index=["first", "first"],
)


def cells(html: str) -> list[str]:
    """The text of every cell, headers first, as a browser would show it."""
    found: list[str] = []

    class Reader(HTMLParser):
        inside = False

        def handle_starttag(self, tag: str, attributes: list) -> None:
            self.inside = tag in ("td", "th")
            found.extend([""] * self.inside)

        def handle_endtag(self, tag: str) -> None:
            self.inside = False

        def handle_data(self, data: str) -> None:
            if self.inside:
                found[-1] += data

    Reader().feed(html)
    return found


def test_numbers_have_their_digits_and_the_index_is_hidden() -> None:
    html = lab.show(TABLE, precision=2, formats={"share": ".1%", "items": "{:,} items"}, missing="none").to_html()
    assert cells(html) == [
        *("name", "loss", "share", "items"),
        *("<b>x</b>", "0.12", "50.0%", "1,200 items"),
        *("a & b", "none", "25.0%", "3 items"),
    ]


def test_missing_values_are_empty_and_whole_numbers_stay_whole() -> None:
    assert cells(lab.show(TABLE, precision=3).to_html())[-4:] == ["a & b", "", "0.250", "3"]
    assert "0.123450" in lab.show(TABLE).to_html()


def test_text_of_data_and_of_headers_is_escaped() -> None:
    html = lab.show(TABLE.rename(columns={"loss": "<i>loss</i>"}), formats={"name": "“{}”"}).to_html()
    assert "<b>" not in html and "<i>" not in html
    assert cells(html)[1] == "<i>loss</i>" and "“<b>x</b>”" in cells(html)


def test_an_unknown_column_is_answered_with_the_nearest() -> None:
    with pytest.raises(LookupError, match=r"no column 'shares' to format\. Did you mean 'share'\?"):
        lab.show(TABLE, formats={"shares": ".1%"})
    with pytest.raises(LookupError, match=r"no column 12 to format\. Did you mean '2'\?"):
        lab.show(TABLE.set_axis([0, 1, 2, 3], axis=1), formats={12: ".1%"})


def test_text_inside_lists_is_escaped_too() -> None:
    html = lab.show(pd.DataFrame({"choices": [["<i>yes</i>", "no"], ("<b>",)]})).to_html()
    assert "<i>" not in html and "<b>" not in html and "&lt;i&gt;yes" in html


def test_text_stands_at_the_left_and_numbers_stay() -> None:
    html = lab.show(TABLE[["name", "items"]]).to_html()
    assert re.search(r"\.col0 *\{\s*text-align: left;", html) and not re.search(r"\.col1 *\{", html)


def test_provenance_is_folded_away_and_other_tables_are_not() -> None:
    page = lab.show(lab.provenance(seed=3))._repr_html_()
    assert page.startswith("<details><summary>") and page.endswith("</details>") and page.count("<details>") == 1
    assert cells(page)[:2] == ["item", "value"] and cells(page)[-2:] == ["seed", "3"]
    assert "<details" not in lab.show(TABLE)._repr_html_()


def test_numbers_have_true_minus_signs_and_text_keeps_its_hyphens() -> None:
    table = pd.DataFrame({"arm": ["rail-l"], "loss": [-0.25], "zero": [-0.001], "count": [-3], "share": [-0.5]})
    shown = cells(lab.show(table, precision=2, formats={"share": "+.0%", "arm": "“{}”"}).to_html())
    assert shown[5:] == ["“rail-l”", "−0.25", "0.00", "−3", "−50%"]


@pytest.mark.parametrize("n_rows", [19, 20])
def test_a_long_table_brings_what_sorts_and_filters_it_and_fetches_nothing(n_rows: int) -> None:
    html = lab.show(pd.DataFrame({"name": [f"<b>{row}</b>" for row in range(n_rows)]}))._repr_html_()
    assert html.count("<script>") == html.count('class="long-table"') == (n_rows >= 20)
    assert cells(html)[1:] == [f"<b>{row}</b>" for row in range(n_rows)]
    assert "<script src" not in html and "http" not in html.partition("<script>")[2]


def test_a_long_table_that_is_folded_away_sorts_too() -> None:
    table = pd.DataFrame({"layer": range(30)})
    table.attrs["folded"] = "every layer"
    html = lab.show(table)._repr_html_()
    assert html.startswith("<details><summary>every layer</summary>") and html.count("<script>") == 1
    assert html.endswith("</details>")
