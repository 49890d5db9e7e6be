"""Parameters, profiles and names as nobody would write them: refused in our own words, at once, and nothing is left."""

import os
import string
from pathlib import Path

import pytest
from tiny_notebooks import write_profile, write_study

from labutils.core.yaml_text import parse_yaml
from labutils.runner.notebooks import find_notebooks, select_notebooks
from labutils.runner.parameters import TYPES, Parameter, parse_assignment
from labutils.runner.planning import plan_studies
from labutils.runner.records import check_named, portable

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

# `FUZZ=10000 pytest …` looks longer, and elsewhere each time.
SEARCH = hypothesis.settings(
    max_examples=int(os.environ.get("FUZZ", "150")), derandomize="FUZZ" not in os.environ, deadline=10_000,
    database=None, suppress_health_check=list(hypothesis.HealthCheck),
)  # fmt: skip
OURS = (ValueError, LookupError)
PIECES = [
    *"[]{}:,-?&*!|>%@`#'\"\\\n\t =0123456789eE.+_~<x\0\x07\ufeff\ud800é→/", "null", "true", "no", ".inf", ".nan", "0x",
    "0o", "!!int", "!!", "&a", "*a", "<<", "seed", "words", ": ", "- ", "file:", "package:", "lab:", "01_a", "../", "~",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    st.sampled_from(["[" * 2000, "9" * 5000, "0x" + "f" * 900, "/", "/dev/zero", "a/" + "b" * 5000, "é" * 300 + "/x"]),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**400)
    | st.floats()
    | TEXTS
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@SEARCH
@hypothesis.given(TEXTS)
def test_any_text_is_yaml_or_refused(text: str) -> None:
    for words in (False, True):
        try:
            parse_yaml(text, name="own.yaml", words=words)
        except ValueError as refused:
            assert type(refused) is ValueError and "\n" not in str(refused)


@SEARCH
@hypothesis.given(st.sampled_from(TYPES), st.booleans(), VALUES, TEXTS)
def test_any_value_is_of_its_type_or_refused(kind: str, optional: bool, value: object, text: str) -> None:
    parameter = Parameter("x", kind, optional, None, "")
    for given in (value, parse_assignment(f"x={text}")[1]):
        try:
            converted = parameter.convert(given)
        except OURS as refused:
            assert len(str(refused)) < 1000
        else:
            assert isinstance(portable(converted), type(converted) | str)


@SEARCH
@hypothesis.given(st.text(string.printable, max_size=20))
def test_any_assignment_is_one_or_refused(text: str) -> None:
    try:
        name, _ = parse_assignment(text)
    except ValueError:
        return
    assert name.isidentifier()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("notebooks")
    write_study(made, "01_a")
    write_profile(made, "lab", **{"01_a": {}})
    return made


@SEARCH
@hypothesis.given(st.one_of(TEXTS, TEXTS.map("01_a: {{{}}}".format), TEXTS.map("01_a:\n  words: {}".format)))
def test_any_profile_is_a_plan_or_refused(folder: Path, text: str) -> None:
    own = folder / "own.yaml"
    own.write_bytes(text.encode("utf-8", "surrogatepass"))
    before = sorted(folder.rglob("*"))
    try:
        studies, _ = plan_studies((), profile=own, overrides={}, folder=folder)
        check_named(studies[0].parameters)
    except OURS as refused:
        assert len(str(refused)) < 2000
    assert sorted(folder.rglob("*")) == before


@SEARCH
@hypothesis.given(TEXTS)
def test_any_name_is_a_notebook_or_refused(folder: Path, text: str) -> None:
    try:
        assert list(select_notebooks([text], find_notebooks(folder))) == ["01_a"]
    except OURS as refused:
        assert type(refused) is LookupError
    for profile in (text, f"{text}.yaml"):
        with pytest.raises(OURS):
            plan_studies((), profile=profile, overrides={}, folder=folder)


@SEARCH
@hypothesis.given(st.lists(TEXTS, max_size=3))
def test_any_named_file_is_looked_at_or_refused(texts: list[str]) -> None:
    try:
        check_named({"words": texts})
    except OURS as refused:
        assert "parameter" in str(refused)
