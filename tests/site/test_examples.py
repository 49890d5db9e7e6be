"""The examples of the reference are true: those that show a result give it, and every call fits what it calls."""

import ast
import doctest
import inspect
from collections.abc import Iterator

import pytest
from sitegen.api import public_names, rooms

import labutils

PARSER = doctest.DocTestParser()
PUBLIC = {path: value for room in rooms(labutils).values() for path, value in public_names(room).items()}
EXAMPLES = {path: PARSER.get_examples(inspect.getdoc(value) or "") for path, value in PUBLIC.items() if callable(value)}
SHOWN = {path for path, found in EXAMPLES.items() if any(one.want for one in found)}
# What these show is the result of a run or the time of a machine; their calls are checked like all others.
OF_A_RUN = {
    "claims.describe_beside", "claims.ledger_answer", "multilevel.describe_ratio", "plots.absent_effects",
    "plots.describe_figure", "pruning.forecast.forecast", "quantisation.quantise", "recovery.chosen_recipes",
    "recovery.tell_ways", "structured.expressible_groups", "yardsticks.reasoning_arms", "yardsticks.tell_kept",
    "yardsticks.tell_rise", "yardsticks.telling",
}  # fmt: skip


def calls_of(name: str, source: str) -> Iterator[ast.Call]:
    """The calls of a name in a piece of Python."""
    try:
        tree = ast.parse(source.replace("…", "..."))
    except SyntaxError:  # "…" behind keywords stands for more of them
        tree = ast.parse(source.replace("…", "**more"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if called == name:
                yield node


def find_misfit(value: object, call: ast.Call) -> str:
    """Why a call does not fit the signature; "" where it does, or where it passes on what is not seen."""
    if any(isinstance(one, ast.Starred) for one in call.args) or any(one.arg is None for one in call.keywords):
        return ""
    try:
        inspect.signature(value).bind(*call.args, **{one.arg: one.value for one in call.keywords})
    except TypeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("path", [path for path, found in EXAMPLES.items() if found])
def test_a_call_in_an_example_fits(path: str) -> None:
    value, name = PUBLIC[path], path.rpartition(".")[2]
    for example in EXAMPLES[path]:
        for call in calls_of(name, example.source):
            assert not find_misfit(value, call), example.source


@pytest.mark.parametrize("path", sorted(SHOWN - OF_A_RUN))
def test_an_example_gives_the_result_that_it_shows(path: str) -> None:
    value, name = PUBLIC[path], path.rpartition(".")[2]
    known = {**vars(inspect.getmodule(value)), name: value, "lab": labutils, "labutils": labutils}
    test = doctest.DocTest(EXAMPLES[path], known, path, None, None, None)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    results = doctest.DocTestRunner(verbose=False, optionflags=flags).run(test)
    assert results.failed == 0 and results.attempted == len(EXAMPLES[path])


def test_what_is_left_out_is_there() -> None:
    assert OF_A_RUN <= SHOWN


def test_a_misfit_is_seen() -> None:
    call = ast.parse("f(1, c=2)").body[0].value
    assert "missing a required argument: 'b'" in find_misfit(lambda a, b, c=0: None, call)
    assert "unexpected keyword argument 'c'" in find_misfit(lambda a: None, call)
    assert list(calls_of("f", "x.f(1)")) and not list(calls_of("g", "x.f(1)"))
