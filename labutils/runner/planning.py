"""What a run will do, settled and checked before anything runs: which notebooks, with which parameters."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from labutils.core import paths
from labutils.core.yaml_text import parse_yaml
from labutils.runner.notebooks import count_code_cells, find_notebooks, read_notebook, runs_last, select_notebooks
from labutils.runner.parameters import Parameter, check_values, name_known, read_parameters


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


def load_profile(folder: Path, profile: str | Path) -> dict[str, dict[str, Any]]:
    """Read a profile: the parameters by notebook stem.

    Args:
        folder: the folder of notebooks, for profiles by name; one without `profiles` uses the collection's for those
            of its notebooks that they list.
        profile: name of a file in its `profiles`, or the path of a file of one's own, which ends with .yaml.

    Raises:
        LookupError: there is no such profile.
        ValueError: the file is no YAML, or no mapping of notebooks to mappings of parameters; it names file and line.

        load_profile(paths.NOTEBOOKS, "my/profile.yaml")  # {"01_a": {"seed": 3}}
    """
    path = _find_profile(folder, profile)
    try:
        content = parse_yaml(path.read_text(encoding="utf-8-sig"), name=path.name)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is no text in UTF-8: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(entry, dict | None) for entry in content.values()):
        raise ValueError(f"{path.name} must map each notebook's stem to its parameters, 'name: value' each")
    values = {str(stem): dict(entry or {}) for stem, entry in content.items()}
    if path.parent == paths.NOTEBOOKS / "profiles" and folder != paths.NOTEBOOKS:
        return {stem: entry for stem, entry in values.items() if (folder / f"{stem}.ipynb").exists()}
    return values


def name_profile(profile: str | Path) -> str:
    """A profile as records and messages call it: its name, or the name of its file without the folder.

    >>> name_profile("my/profile.yaml")
    'profile.yaml'
    """
    return Path(profile).name


def _find_profile(folder: Path, profile: str | Path) -> Path:
    own = folder / "profiles"
    place = own if own.is_dir() else paths.NOTEBOOKS / "profiles"
    available = {path.stem: path for path in sorted(place.glob("*.yaml"))}
    if str(profile) in available:
        return available[str(profile)]
    path = Path(profile).expanduser()
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise LookupError(f"there is no profile file {str(profile)!r}{name_known(path.stem, available)}")
    more = " One's own is given as a path that ends with .yaml."
    raise LookupError(f"unknown profile {str(profile)!r}{name_known(str(profile), available)}{more}")


def plan_studies(
    names: Iterable[str], *, profile: str | Path, overrides: Mapping[str, Any], folder: Path
) -> tuple[list[Study], list[str]]:
    """Check a run as a whole and return its studies, and the stems that the profile leaves out.

    Args:
        names: notebooks by stem or file name; all of the folder when empty.
        profile: name of a file in `folder/profiles`, or the path of a file of one's own.
        overrides: parameters by name, for every selected notebook that declares them.
        folder: where the notebooks are.

    Raises:
        LookupError: an unknown notebook, profile or parameter; the message names the nearest known one.
        ValueError: an ill-typed parameter, or nothing to run.

        (study,), _ = plan_studies(["01_a"], profile="lab", overrides={"seed": 3}, folder=paths.NOTEBOOKS)
    """
    available = find_notebooks(folder)
    values, profile = load_profile(folder, profile), name_profile(profile)
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


def find_untaken(studies: Iterable[Study], overrides: Iterable[str]) -> dict[str, dict[str, str]]:
    """Which studies do not declare an override, and the parameter of theirs whose name is nearest, or "".

    >>> find_untaken(studies, ["model"])
    {'model': {'03_c': 'models', '99_last': ''}}
    """
    untaken: dict[str, dict[str, str]] = {}
    for name in overrides:
        for study in studies:
            if name not in study.parameters:
                nearest = difflib.get_close_matches(name, study.parameters, n=1)
                untaken.setdefault(name, {})[study.stem] = nearest[0] if nearest else ""
    return untaken


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
