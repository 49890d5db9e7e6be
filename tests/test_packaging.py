"""One set of versions: pyproject.toml, constraints.txt and environment.yml agree, and name what is imported."""

import ast
import importlib.metadata
import sys
import tomllib
from collections.abc import Iterator

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from labutils.core import paths
from labutils.lab_models import SPECS

CONDA_NAMES = {"pytorch": "torch"}


def project() -> dict:
    return tomllib.loads((paths.REPOSITORY / "pyproject.toml").read_text())["project"]


def declared(*extras: str) -> dict[str, Requirement]:
    texts = [*project()["dependencies"], *(t for extra in extras for t in project()["optional-dependencies"][extra])]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, texts)}


def pins(lines: list[str]) -> dict[str, str]:
    """Versions by package of lines that must each pin one version exactly."""
    found = {}
    for line in lines:
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and "*" not in specifier.version, line
        name = canonicalize_name(requirement.name)
        found[CONDA_NAMES.get(name, name)] = specifier.version
    return found


def constraints() -> dict[str, str]:
    lines = (paths.REPOSITORY / "constraints.txt").read_text().splitlines()
    return pins([line for line in lines if line and not line.startswith("#")])


def conda() -> list:
    return yaml.safe_load((paths.REPOSITORY / "environment.yml").read_text())["dependencies"]


def imported() -> Iterator[tuple[str, str]]:
    for path in sorted((paths.REPOSITORY / "labutils").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module else []
            yield from ((name.partition(".")[0], path.name) for name in names)


def test_every_direct_dependency_is_pinned_and_nothing_else() -> None:
    assert set(constraints()) == set(declared(*project()["optional-dependencies"]))


def test_pins_satisfy_the_lower_bounds() -> None:
    for name, requirement in declared(*project()["optional-dependencies"]).items():
        assert requirement.specifier.contains(constraints()[name]), f"{requirement} excludes {constraints()[name]}"
        assert [specifier.operator for specifier in requirement.specifier] == [">="], requirement


def test_conda_users_get_the_same_versions() -> None:
    lines = [line for line in conda() if isinstance(line, str) and line != "pip" and not line.startswith("python")]
    wanted = declared("test")
    assert pins(lines) == {name: version for name, version in constraints().items() if name in wanted}
    assert f"python{project()['requires-python']}" in conda()
    assert {"pip": ["--editable ."]} in conda()


@pytest.mark.parametrize("name", sorted(declared("test")))
def test_installed_versions_are_not_older_than_allowed(name: str) -> None:
    version = importlib.metadata.version(name)
    assert declared("test")[name].specifier.contains(version, prereleases=True)


def test_what_is_imported_is_declared() -> None:
    distributions = importlib.metadata.packages_distributions()
    known = set(declared(*project()["optional-dependencies"]))
    for module, place in imported():
        if module in sys.stdlib_module_names or module == "labutils":
            continue
        names = {canonicalize_name(name) for name in distributions.get(module, [module])}
        assert names & known, f"{place} imports {module}, which pyproject.toml does not declare"


def test_the_citation_names_the_project_and_its_papers() -> None:
    citation = yaml.safe_load((paths.REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == project()["version"]
    assert citation["title"].startswith("labutils")
    assert len(citation["references"]) == 4
    assert all({"type", "title", "authors", "year"} <= set(reference) for reference in citation["references"])


def test_the_makefile_explains_itself() -> None:
    text = (paths.REPOSITORY / "Makefile").read_text()
    targets = [line for line in text.splitlines() if "##" in line and line[0].isalpha()]
    names = {line.partition(":")[0] for line in targets}
    assert names == {
        "help",
        "site",
        "site-check",
        "lab",
        "smoke",
        "real",
        "full",
        "notebooks",
        "test",
        "benchmark",
        "conformance",
        "lint",
        "train",
        "clean",
    }
    assert f"MODELS ?= {' '.join(name for name, spec in SPECS.items() if spec.shipped)}\n" in text
