"""The generator of the web site: its pages are made from what is stored, whole and escaped, without Sphinx."""

import itertools
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sitegen import (
    api,
    claims,
    claims_data,
    docstrings,
    documents,
    gallery,
    home,
    interval_drawings,
    links,
    notebooks,
    source_tree,
    text,
    which,
    which_data,
)

import labutils
from labutils.claims.registry import all_claims
from labutils.claims.verdicts import Verdict
from labutils.core import paths
from labutils.runner.notebooks import find_notebooks, read_notebook

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="


def shown(**data: str) -> nbformat.NotebookNode:
    kinds = {"png": "image/png", "html": "text/html", "md": "text/markdown"}
    return new_output("display_data", data={kinds[kind]: value for kind, value in data.items()})


@pytest.fixture
def study() -> nbformat.NotebookNode:
    """A study with a figure, its sentence, a long table and a judged claim."""
    rows = "<tr><td>1</td></tr>" * 60
    return new_notebook(cells=[
        new_markdown_cell("# Does it work?"),
        new_code_cell("rows = 1", metadata={"tags": ["parameters"]}),
        new_markdown_cell("## Look\n\nEvery rule, per model. More words."),
        new_code_cell("draw()", outputs=[shown(png=PIXEL)]),
        new_code_cell("tell()", outputs=[shown(md="`owl` gains **0.1** <nats>.")]),
        new_code_cell('c01 = lab.judge("C01", interval=low)', outputs=[shown(md="C01 supported")]),
        new_code_cell("show(rows)", outputs=[shown(html=f"<table>{rows}</table>")]),
        new_markdown_cell("## Verdicts\n\n*Limits.* One model\nalone."),
        new_code_cell("lab.conclude(rows, [c01], answer)"),
    ])  # fmt: skip


def test_a_figure_has_its_section_its_sentence_and_a_text_in_its_place(study) -> None:
    (figure,) = notebooks.find_figures(study)
    assert (figure.cell, figure.heading, figure.words) == (3, "Look", "Every rule, per model.")
    assert figure.finding == "`owl` gains **0.1** <nats>."
    assert figure.alt == "Figure 1. Look. Every rule, per model. owl gains 0.1 <nats>."
    study.cells.insert(4, new_markdown_cell("## Another section"))
    assert notebooks.find_figures(study)[0].finding == ""  # a sentence of another section is not the figure's


def test_a_page_folds_code_and_long_tables_and_keeps_every_cell(study) -> None:
    before = nbformat.writes(study)
    page = notebooks.prepare(study)
    assert nbformat.writes(study) == before
    code = [cell for cell in page.cells if cell.cell_type == "code"]
    assert [cell.source for cell in code] == [cell.source for cell in study.cells if cell.cell_type == "code"]
    assert all("hide-input" in cell.metadata.tags for cell in code)
    anchors = [cell.source for cell in page.cells if "cell-anchor" in cell.source]
    assert len(anchors) == len(code) and 'id="cell-5"' in anchors[3]
    assert "<details><summary>A table of 59 rows" in code[4].outputs[0].data["text/html"]
    assert code[1].metadata.mystnb.image.alt.startswith("Figure 1. Look.")
    assert "<details" not in notebooks.wrap_table("<table><tr></tr><tr></tr></table>")


def test_a_claim_is_found_where_it_is_judged(study) -> None:
    assert notebooks.find_cell(study, "C01") == 5
    assert notebooks.find_cell(study, "C99") is None
    assert notebooks.nearest_figure(notebooks.find_figures(study), 5).cell == 3
    assert notebooks.read_limits(study) == "One model alone."


def test_every_judged_claim_of_the_collection_has_its_cell() -> None:
    """The notebooks are found, not listed: a new one must be readable too."""
    found = {stem: read_notebook(path) for stem, path in find_notebooks(paths.NOTEBOOKS).items()}
    entries = {entry.claim.id: entry for entry in claims_data.collect(found, paths.REPOSITORY)}
    assert set(entries) == {one.id for one in all_claims()}
    judged = [entry for entry in entries.values() if entry.studies and entry.claim.studied_in in found]
    assert len(judged) > 15
    for entry in judged:
        assert entry.cell is not None and entry.claim.id in entry.code + str(found[entry.claim.studied_in].cells)
        assert all((paths.REPOSITORY / file).is_file() for file in entry.rows) and entry.rows
    assert 'judge("C04"' in entries["C04"].code and entries["C04"].real == "docs/real/02_pruning_strategy.html"
    page = claims.write_claims(list(entries.values()))
    assert page.count("<tbody id=") == len(entries) and 'id="C04"' in page
    assert "data/evidence/02_pruning_strategy/0-C04.parquet" in page


def entry_of(**about: object) -> claims_data.Entry:
    given = {"claim": "C02", "statement": "", "outcome": "supported", "first_outcome": "supported", "unit": "nats"}
    given |= {"scope": {"model": "<b>m</b>"}, "estimate": 0.2, "low": 0.1, "high": 0.3, "margin": 0.1, "n_items": 4}
    verdict = Verdict(**(given | about))
    run = claims_data.Study("a <run>", "a <run>", verdict, "inconclusive", (1.0, 2.0, 3.0))
    return claims_data.Entry(next(one for one in all_claims() if one.id == "C02"), (run,))


def test_what_a_verdict_says_is_escaped_and_its_correction_is_told() -> None:
    page = claims.write_claims([entry_of(note="<script>alert(1)</script>")])
    assert "<script>" not in page and "a <run>" not in page and "<b>m</b>" not in page
    assert "✔ supported" in page and "inconclusive after correction" in page


def test_the_smallest_effect_that_a_study_finds_comes_from_its_interval() -> None:
    """The textbook's 2.8 standard errors for 80 % power at the 5 % level; none without an interval."""
    (study,) = entry_of().studies
    standard_error = (0.3 - 0.1) / (2 * 1.959964)
    assert study.detectable == pytest.approx(2.801585 * standard_error, rel=1e-5)
    assert entry_of(estimate=None, low=None, high=None).studies[0].detectable is None


def test_models_stand_in_order_of_size() -> None:
    order = claims_data.in_order_of_size(claims_data.read_studies())
    assert order[0] == "SmolLM2-135M-Instruct" and order[-1] == "lab models"
    assert claims_data.name_model("MiniLM adapted on PubMed abstracts, BIOSSES") == "MiniLM"


def test_an_interval_is_drawn_in_order_and_a_missing_one_is_refused() -> None:
    drawn = interval_drawings.draw_interval(-1e9, 0.0, 1.0, 'a "label"')
    assert 'x1="6.0"' in drawn and "a &quot;label&quot;" in drawn
    places = [interval_drawings.position(value) for value in (-300, -1, 0, 1, 300)]
    assert places == sorted(places) and len(set(places)) == 5
    for numbers in ((float("nan"), 0, 1), (2, 1, 1)):
        with pytest.raises(ValueError, match="finite numbers"):
            interval_drawings.draw_interval(*numbers, "")


def test_the_gallery_has_every_figure_of_notebooks_and_real_pages(study) -> None:
    real = {"01_x": "## Look\n\n![Figure 1. Look. Words.](figures/01_x-1.png)\n\n> It **gains**.\n\n## Next\n"}
    page = gallery.write_gallery({"01_x": study}, real, "a model")
    assert page.count("<figure>") == 2 and "notebooks/01_x.html#cell-3" in page and "docs/real/01_x.html" in page
    assert "<code>owl</code> gains <b>0.1</b> &lt;nats&gt;." in page and "It <b>gains</b>." in page


def test_the_first_page_is_made_of_the_readme() -> None:
    readme = home.read_readme((paths.REPOSITORY / "README.md").read_text(encoding="utf-8"))
    page = home.write_home(readme, [("A", "b", "c.html")], [entry_of()])
    assert len(re.findall(r"\.\s|\.$", readme["about"])) == 3  # sentences
    assert "make lab" in page and 'href="claims.html#C02"' in page and "0 of the 1 clear outcomes stay" in page
    assert all(home.write_section(readme, title).startswith("# ") for title in source_tree.SECTIONS.values())
    with pytest.raises(ValueError, match="must begin with a title"):
        home.read_readme("# Title alone\n")


def test_documents_and_their_files_are_found() -> None:
    found = documents.find_documents(paths.REPOSITORY)
    assert {"docs/architecture.md", "docs/real/index.md", "data/models/lab-llama/README.md"} <= set(found)
    drawn = documents.draw_storeys((paths.REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8"))
    assert "mermaid" not in drawn and all(f"<code>{name}</code>" in drawn for name in labutils._ROOMS)
    with pytest.raises(ValueError, match="without storeys"):
        documents.draw_storeys("```mermaid\nflowchart LR\n  a --> b\n```\n")


@pytest.mark.parametrize("name", labutils._ROOMS)
def test_the_reference_has_every_public_name(name: str) -> None:
    room = api.rooms(labutils)[name]
    page = api.write_room(name, room)
    assert all(f":: labutils.{path}\n" in page for path in api.public_names(room))


def test_calls_in_docstrings_become_code() -> None:
    lines = ["Does it.", "", "Raises:", "    ValueError: never; **it** is.", "", "    prune(model, **given)", ""]
    assert docstrings.tidy(lines)[-3:] == ["", "    prune(model, **given)", ""]
    assert "ValueError: never" in docstrings.tidy(lines)[3]
    assert docstrings.tidy(["|x| and `|y|`"])[0] == "\\|x\\| and `|y|`"
    kept = ["Args:", "    rows: of a sweep."]
    assert docstrings.tidy(kept)[:2] == kept


def test_a_broken_link_is_told(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<p id="there"></p>')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there"></a><a href="b.html#gone"></a><a href="c.html"></a><a href="https://x.org"></a>'
        '<img src="https://x.org/p.png">'
    )
    assert links.find_broken(tmp_path) == [
        "a.html: b.html#gone: that page has no such place", "a.html: c.html does not exist",
        "a.html: https://x.org/p.png would be fetched from elsewhere",
    ]  # fmt: skip


def test_how_to_cite_names_the_papers() -> None:
    page = source_tree.write_cite((paths.REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert "@software{labutils" in page and "Neuron Semantic Attribution (2025)" in page


def test_a_text_of_markdown_is_escaped() -> None:
    assert text.inline("**a** <i> `b<c` [d](http://e)") == "<b>a</b> &lt;i&gt; <code>b&lt;c</code> d"
    with pytest.raises(ValueError, match="four backticks"):
        text.raw_html("````")
    assert json.loads(json.dumps(text.write_number(0.0394))) == "0.039"
    assert which.write_seconds(234) == "3.9 min" and which_data.name_size("nobody's") == ""


def sweep_rows() -> pd.DataFrame:
    """Dense rows, and three methods of which the costliest is clearly best at 50 % and all are equal at 20 %."""
    rng = np.random.default_rng(0)
    base = rng.normal(2.0, 0.3, 30)
    worse = {"magnitude/uniform": 0.6, "wanda/uniform": 0.3, "sparsegpt/uniform": 0.1}
    about = {"model": "m", "architecture": "llama", "calibration": "t", "evaluation": "t", "pattern": "unstructured"}
    frames = [pd.DataFrame(about | {"arm": "dense", "sparsity": 0.0, "draw": -1, "item": range(30), "loss": base})]
    for arm, loss in worse.items():
        for sparsity, draw in itertools.product((0.2, 0.5), range(3)):
            added = loss * (sparsity == 0.5) + rng.normal(0, 0.001, 30)
            row = about | {"arm": arm, "sparsity": sparsity, "draw": draw, "item": range(30), "loss": base + added}
            frames.append(pd.DataFrame(row | {"seconds": 7.0}))
    return pd.concat(frames, ignore_index=True)


def test_a_method_is_advised_within_what_it_may_cost() -> None:
    found = {(one.zeros, one.budget): one for one in which_data.advise_each(sweep_rows(), "02", "real text")}
    taken = {budget: found["50%", budget].row["take"] for budget in which_data.BUDGETS}
    assert list(taken.values()) == ["magnitude/uniform", "wanda/uniform", "sparsegpt/uniform", "sparsegpt/uniform"]
    assert {found["20%", budget].row["take"] for budget in which_data.BUDGETS} == {"magnitude/uniform"}
    told = found["20%", "several prunings"].sentence()
    assert "as good, within 1% of the dense loss: wanda/uniform, sparsegpt/uniform." in told
    alone = found["50%", "no text: seconds"]
    assert "Nothing else was measured with so little work" in alone.sentence() and alone.seconds == 7.0
    page = which.write_which(list(found.values()), "9 tokens")
    assert page.count("<tr data-kind") == len(found) == 8 and "mixture of experts" in page and "9 tokens" in page
