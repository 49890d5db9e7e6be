"""What a run will do, settled and checked before anything runs: which notebooks, with which parameters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from labutils.runner.notebooks import count_code_cells, find_notebooks, read_notebook, runs_last, select_notebooks
from labutils.runner.parameters import Parameter, check_values, name_known, parse_yaml, read_parameters


@dataclass(frozen=True)
class Study:
    """One notebook to run: `given` are the parameters injected, `parameters` all of them with the defaults."""

    stem: str
    profile: str
    notebook: NotebookNode
    given: dict[str, Any]
    parameters: dict[str, Any]

    @property
    def last(self) -> bool:
        """True when the notebook reads the others' ledgers, so runs after them."""
        return runs_last(self.notebook)

    @property
    def code_cells(self) -> int:
        """Number of the author's code cells."""
        return count_code_cells(self.notebook)


def load_profile(folder: Path, profile: str) -> dict[str, dict[str, Any]]:
    """Read `profiles/<profile>.yaml` in a folder of notebooks: the parameters by notebook stem.

    Raises:
        LookupError: there is no such profile.
        ValueError: the file is no mapping of notebooks to mappings of parameters.
    """
    available = sorted(path.stem for path in (folder / "profiles").glob("*.yaml"))
    if profile not in available:
        raise LookupError(f"unknown profile {profile!r}{name_known(profile, available)}")
    content = parse_yaml((folder / "profiles" / f"{profile}.yaml").read_text())
    if not isinstance(content, dict) or not all(isinstance(entry, dict | None) for entry in content.values()):
        raise ValueError(f"profile {profile!r} must map each notebook's stem to its parameters, 'name: value' each")
    return {str(stem): dict(entry or {}) for stem, entry in content.items()}


def plan_studies(
    names: Iterable[str], *, profile: str, overrides: Mapping[str, Any], folder: Path
) -> tuple[list[Study], list[str]]:
    """Check a run as a whole and return its studies, and the stems that the profile leaves out.

    Args:
        names: notebooks by stem or file name; all of the folder when empty.
        profile: name of a file in `folder/profiles`.
        overrides: parameters by name, for every selected notebook that declares them.
        folder: where the notebooks are.

    Raises:
        LookupError: an unknown notebook, profile or parameter; the message names the nearest known one.
        ValueError: an ill-typed parameter, or nothing to run.

        (study,), _ = plan_studies(["01_a"], profile="lab", overrides={"seed": 3}, folder=paths.NOTEBOOKS)
    """
    available = find_notebooks(folder)
    values = load_profile(folder, profile)
    for stem in values:
        if stem not in available:
            raise LookupError(f"profile {profile!r} lists an unknown notebook {stem!r}{name_known(stem, available)}")
    selected = select_notebooks(names, available)
    skipped = [stem for stem in selected if stem not in values]
    notebooks = {stem: read_notebook(path) for stem, path in selected.items() if stem in values}
    if not notebooks:
        raise ValueError(f"nothing to run: profile {profile!r} lists none of {', '.join(selected)}")
    declared = {stem: read_declarations(stem, notebook) for stem, notebook in notebooks.items()}
    _check_overrides(overrides, declared)
    return [
        _plan_study(stem, profile, notebook, declared[stem], values[stem], overrides)
        for stem, notebook in notebooks.items()
    ], skipped


def read_declarations(stem: str, notebook: NotebookNode) -> dict[str, Parameter]:
    """The notebook's declared parameters; errors name the notebook.

    Raises:
        ValueError: its cell tagged `parameters` is malformed.
    """
    try:
        return read_parameters(notebook)
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{stem}: {error}") from None


def _check_overrides(overrides: Mapping[str, Any], declared: Mapping[str, Mapping[str, Parameter]]) -> None:
    known = {name: None for parameters in declared.values() for name in parameters}
    for name in overrides:
        if name not in known:
            raise LookupError(f"no selected notebook has a parameter {name!r}{name_known(name, known)}")


def _plan_study(
    stem: str,
    profile: str,
    notebook: NotebookNode,
    declared: Mapping[str, Parameter],
    values: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> Study:
    wanted = {**values, **{name: value for name, value in overrides.items() if name in declared}}
    given = check_values(wanted, declared, stem)
    defaults = {name: parameter.default for name, parameter in declared.items()}
    return Study(stem, profile, notebook, given, defaults | given)
