"""How a forecast is written: short runs say nothing, what is not known is named, what does not fit is warned of."""

from labutils.foresight.outlooks import STEMS, Outlook, write_outlooks
from labutils.foresight.plans import FORESEEN

ROOM = {"free_disk": 10**12, "free_temporary": 10**12}
LONG = Outlook("01_a", seconds=4000.0, memory=3 * 10**9, disk=2 * 10**6, free=10**10, prunings=7, evaluations=8)
SHORT = Outlook("02_b", seconds=5.0, memory=10**9, disk=10**6, free=10**10)


def test_the_names_told_without_torch_are_those_of_the_plans():
    assert tuple(FORESEEN) == STEMS


def test_a_short_run_says_nothing_unless_asked():
    assert write_outlooks([SHORT, Outlook("99_ledger")], **ROOM) == []
    assert "about 00:05 for 1 notebook," in write_outlooks([SHORT], always=True, **ROOM)[0]


def test_a_long_run_tells_each_notebook_and_the_whole():
    lines = write_outlooks([LONG, SHORT, Outlook("99_ledger")], **ROOM)
    assert "about 1:06:45 for 2 notebooks one after another, 3.0 GB of memory, 3 MB of disk" in lines[0]
    assert lines[1].strip() == "01_a: about 1:06:40, 3.0 GB; 7 prunings, 8 evaluations"
    assert lines[3].strip() == "not forecast, so not in these numbers: 99_ledger"


def test_what_cannot_be_told_is_never_zero_and_says_why():
    lines = write_outlooks([SHORT, Outlook("03_c", note="cannot be told: no such model")], **ROOM)
    assert lines[-1].strip() == "03_c: cannot be told: no such model" and "for 1 notebook," in lines[0]
    (only, why) = write_outlooks([Outlook("03_c", note="cannot be told: no such model")], **ROOM)
    assert only == "forecast: none of these notebooks can be told" and "no such model" in why


def test_several_at_a_time_need_the_memory_of_the_largest_together():
    (whole, *_) = write_outlooks([LONG, LONG, SHORT], jobs=2, **ROOM)
    assert "6.0 GB of memory" in whole and "at best 1/2 of it with 2 at a time" in whole


def test_what_does_not_fit_is_warned_of_even_in_a_short_run():
    tight = Outlook("02_b", seconds=5.0, memory=10**9, disk=10**6, temporary=10**8, free=10**8)
    lines = write_outlooks([tight], free_disk=10**5, free_temporary=10**7)
    warnings = [line for line in lines if "WARNING" in line]
    assert len(warnings) == 3 and "100 MB that are free; 02_b needs most" in warnings[0]
    assert "--out has room for 0 MB" in warnings[1] and "TMPDIR" in warnings[2]
    assert write_outlooks([Outlook("02_b", seconds=5.0, memory=10**9, disk=10**6, free=None)], **ROOM) == []
