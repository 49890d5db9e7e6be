"""The notebooks: house style, parameters of every profile, fresh stored outputs, and a run from first to last cell."""

import ast
import json
import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from foresight_counts import check_counts, foreseen_arms, foreseen_prunings, kept_arms, kept_prunings

import labutils as lab
from labutils.claims.registry import load_claims
from labutils.core import paths
from labutils.foresight.outlooks import STEMS as STEMS_FORESEEN
from labutils.runner import readme_table, run_studies, stale_notebooks
from labutils.runner.planning import find_lab_text, plan_studies

STEMS = sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb"))
PROFILES = ["smoke", "lab", "full", "hub", "paper"]


@pytest.fixture(scope="module")
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(paths.NOTEBOOKS / f"{request.param}.ipynb", as_version=4)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_fits_every_notebook(profile: str) -> None:
    studies, skipped = plan_studies((), profile=profile, overrides={}, folder=paths.NOTEBOOKS)
    assert sorted(study.stem for study in studies) == STEMS and not skipped


def test_the_real_profile_leaves_no_parameter_on_the_controlled_language() -> None:
    studies, skipped = plan_studies((), profile="real", overrides={}, folder=paths.NOTEBOOKS)
    assert len(studies) + len(skipped) == len(STEMS)
    assert find_lab_text(studies) == {}
    for study in studies:
        assert study.last or study.parameters["dtype"] == "fast"


def test_the_real_profile_names_files_that_are_there(real_data) -> None:
    studies, _ = plan_studies((), profile="real", overrides={}, folder=paths.NOTEBOOKS)
    named = {source for study in studies for source in _file_sources(study.parameters)}
    assert len(named) > 8
    for source in named:
        assert (real_data / source.removeprefix("file:")).is_file()


def _file_sources(parameters: dict) -> set[str]:
    texts = json.dumps(list(parameters.values()), ensure_ascii=False)
    return set(re.findall(r"file:[\w/.]+", texts))


@pytest.mark.parametrize("profile", ["hub", "paper"])
def test_profiles_that_need_a_network_name_what_can_be_asked_for(profile: str) -> None:
    """Ids are owner/name and texts parse as sources; the hub itself is out of reach of a test."""
    from labutils.data.sources import parse_source

    studies, _ = plan_studies((), profile=profile, overrides={}, folder=paths.NOTEBOOKS)
    for study in studies:
        values = study.parameters
        for name in [values.get("model"), values.get("second_model"), *(values.get("models") or [])]:
            assert name is None or name.count("/") == 1
        texts = [*(values.get("texts") or []), *values.get("registers", [])]
        for text in texts:
            assert all(parse_source(source).scheme == "hub" for source in lab.data.split_pair(text))
        assert not texts or "revision" in values


@pytest.mark.parametrize("notebook", STEMS, indirect=True)
def test_house_style(notebook: nbformat.NotebookNode) -> None:
    cells = notebook.cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    assert cells[0].source.splitlines()[0].endswith("?")
    tags = [tag for cell in cells for tag in cell.metadata.get("tags", [])]
    assert tags.count("parameters") == 1 and tags.count("answer") == 1
    code = [cell for cell in cells if cell.cell_type == "code"]
    parameters = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert max(len(cell.source.splitlines()) for cell in code if cell not in parameters) <= 25
    assert len(parameters[0].source.splitlines()) <= 26
    assert "lab.conclude(" in code[-1].source
    for node in (node for cell in code for node in ast.walk(ast.parse(cell.source))):
        assert not isinstance(node, ast.ClassDef)
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 10
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            assert module in ("labutils", "copy", "pandas", "IPython.display")


class Bindings(ast.NodeVisitor):
    """Names that a cell binds where later cells see them, and those that it changes in place."""

    def __init__(self, source: str) -> None:
        self.bound: set[str] = set()
        self.changed: set[str] = set()
        self.visit(ast.parse(source))

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.bound.add(node.id)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._change(node.target)
        self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del):
            self._change(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        changing = ("pop", "append", "extend", "update", "insert", "clear", "remove", "setdefault", "sort")
        if isinstance(node.func, ast.Attribute) and node.func.attr in changing:
            self._change(node.func.value)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.bound.add(node.name)  # what it binds inside is its own

    def _change(self, node: ast.AST) -> None:
        while isinstance(node, ast.Subscript | ast.Attribute):
            node = node.value
        if isinstance(node, ast.Name):
            self.changed.add(node.id)

    def _skip(self, node: ast.AST) -> None:
        """Their variables end with them."""

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_Lambda = _skip


@pytest.mark.parametrize("notebook", STEMS, indirect=True)
def test_every_cell_can_be_run_again(notebook: nbformat.NotebookNode) -> None:
    """A name is bound in one cell alone and changed in no other, so that it means one thing in any order of cells."""
    places: dict[str, int] = {}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        found = Bindings(cell.source)
        assert not found.bound & set(places), f"cell {number} binds {found.bound & set(places)} a second time"
        assert found.changed <= found.bound, f"cell {number} changes {found.changed - found.bound} of an earlier cell"
        places |= dict.fromkeys(found.bound, number)


@pytest.mark.parametrize("notebook", STEMS, indirect=True)
def test_stored_outputs_are_whole(notebook: nbformat.NotebookNode) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert all(cell.execution_count for cell in code)
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("notebook", [stem for stem in STEMS if stem != "99_ledger"], indirect=True)
def test_cells_that_show_texts_of_the_data_say_so(notebook: nbformat.NotebookNode) -> None:
    """Running text in a table, or a text drawn word by word; pages on real models leave such cells out by their tag."""
    running, drawn, tagged = set(), set(), set()
    for number, cell in enumerate(notebook.cells):
        pages = "".join(output.get("data", {}).get("text/html", "") for output in cell.get("outputs", []))
        if re.search(r"<td[^>]*>[^<]*\w\. \w[^<]*</td>", pages):
            running.add(number)
        if cell.cell_type == "code" and "heatmap" in cell.source:
            drawn.add(number)
        if "texts" in cell.metadata.get("tags", []):
            tagged.add(number)
    assert running | drawn == tagged


def test_stored_outputs_are_fresh() -> None:
    assert stale_notebooks() == {}


def test_the_readme_says_what_the_notebooks_found() -> None:
    readme = (paths.REPOSITORY / "README.md").read_text()
    table = readme.split("<!-- notebooks -->")[1].split("<!-- /notebooks -->")[0]
    assert table.strip() == readme_table().strip()


@pytest.mark.timeout(1800)  # eighteen kernels
def test_every_notebook_runs_from_first_to_last_cell(tmp_path) -> None:
    records = run_studies(profile="smoke", out=tmp_path, jobs=2)
    assert {stem: record.get("failure") for stem, record in records.items()} == dict.fromkeys(STEMS)
    ledger = lab.ledger(tmp_path)
    studied = load_claims().dropna(subset="studied_in")
    assert set(studied["id"]) == set(ledger["claim"])
    for stem in STEMS:
        assert (tmp_path / stem / f"{stem}.html").stat().st_size > 10_000
        assert list((tmp_path / stem / "figures").glob("*.png"))
        assert json.loads((tmp_path / stem / "result.json").read_text())["answer"]
    rows = pd.read_parquet(tmp_path / "01_layerwise_sparsity" / "rows.parquet")
    assert len(rows) and rows["loss"].notna().all()
    check_what_was_foreseen(tmp_path)


def check_what_was_foreseen(run: Path) -> None:
    """Every pruning whose rows the run has kept was foreseen, and no other, but for tasks that were left out.

    Where this fails after an edit of a notebook, its function in `labutils/foresight` no longer follows it.
    """
    studies, _ = plan_studies([*STEMS_FORESEEN, "11_cost"], profile="smoke", overrides={}, folder=paths.NOTEBOOKS)
    kept, foreseen = kept_prunings(run), foreseen_prunings(studies)
    assert kept == foreseen, (kept - foreseen, foreseen - kept)
    check_counts(run, studies)
    (healing,) = (study for study in studies if study.stem == "14_what_heals")
    assert kept_arms(run) == foreseen_arms(healing)


def test_hub_code_paths_on_local_folders_in_the_hubs_format(tmp_path) -> None:
    """What the profiles `hub` and `paper` do, with a model folder and a data set folder in the place of their ids."""
    pytest.importorskip("datasets")
    shutil.copytree(paths.MODELS / "lab-llama", tmp_path / "owner" / "model")
    folder = tmp_path / "dataset"
    folder.mkdir()
    for split in ("train", "test"):
        texts = lab.load_texts("lab:narrative", split=split, n=60)
        pd.DataFrame({"text": texts}).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    parameters = {"models": [str(tmp_path / "owner" / "model")], "texts": [f"hub:{folder}"]}
    records = run_studies(["01_layerwise_sparsity"], profile="smoke", out=tmp_path / "run", parameters=parameters)
    assert records["01_layerwise_sparsity"]["status"] == "succeeded", records
