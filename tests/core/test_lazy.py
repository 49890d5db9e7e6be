"""Public names: loaded when first used, told when mistyped, and said where they went when they have moved."""

import subprocess
import sys

import pytest

import labutils as lab


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, labutils; print(sorted({'torch', 'transformers', 'pandas'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


def test_every_public_name_can_be_had() -> None:
    assert {"load_model", "prune", "forecast", "judge", "sweeps", "multilevel"} <= set(lab.__all__)
    assert all(getattr(lab, name) is not None for name in lab.__all__)
    rooms = [getattr(lab, name) for name in lab.__all__ if hasattr(getattr(lab, name), "__path__")]
    assert len(rooms) == 27
    for room in rooms:
        assert all(getattr(room, name) is not None for name in room.__all__), room


def test_a_name_that_has_moved_says_where_it_went() -> None:
    with pytest.warns(DeprecationWarning, match=r"labutils\.slope is now labutils\.stats\.slope"):
        assert lab.slope is lab.stats.slope
    with pytest.warns(DeprecationWarning, match=r"labutils\.Setting is now labutils\.sweeps\.SweepSizes"):
        assert lab.Setting is lab.sweeps.SweepSizes


def test_a_name_that_is_gone_says_what_takes_its_place() -> None:
    with pytest.raises(AttributeError, match=r"labutils\.load_study is gone\. Use lab\.adaptation\.StudyPlan\.load"):
        _ = lab.load_study


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"labutils has no 'prun'\. Did you mean 'prune'\? Public names: .*prune"):
        _ = lab.prun
    with pytest.raises(AttributeError, match=r"labutils\.stats has no 'x'\. Public names: Interval"):
        _ = lab.stats.x


def test_names_of_functions_and_of_their_modules_do_not_get_in_each_others_way() -> None:
    import labutils.claims.ledger
    import labutils.core.progress

    assert callable(lab.ledger) and callable(lab.progress) and callable(labutils.claims.ledger)


@pytest.mark.parametrize("imports", ["warnings", "warnings, labutils"])
def test_a_jupyter_without_widgets_is_told_nothing_of_it(imports: str) -> None:
    code = f"import {imports}; warnings.warn('IProgress not found. Please update jupyter and ipywidgets.')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert ("IProgress" in told) == ("labutils" not in imports)
