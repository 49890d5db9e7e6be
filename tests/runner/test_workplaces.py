"""What a killed runner leaves behind is removed by the next one, and its kernels end with it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tiny_notebooks import wait_until

from labutils.core.files import is_running, write_atomically
from labutils.runner import parent_death, workplaces

DIE_WITH_WORKPLACE = """\
import os, signal
from labutils.runner.workplaces import make_workplace
print(make_workplace(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)"""
DIE_WHILE_WRITING = """\
import os, signal, sys
from pathlib import Path
from labutils.core.files import write_atomically
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path(sys.argv[1]), "new")"""
START_A_KERNEL = f"""\
import os, subprocess, sys, time
code = "from labutils.runner.parent_death import die_with_parent; die_with_parent(); print('lives', flush=True); "
code += "import time; time.sleep(60)"
environment = os.environ | {{{parent_death.VARIABLE!r}: str(os.getpid())}}
kernel = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
kernel.stdout.readline()
print(kernel.pid, flush=True)
os.kill(os.getpid(), 9)"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_folders_of_killed_runners_are_removed_and_those_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = workplaces.make_workplace()
    left = Path(run(DIE_WITH_WORKPLACE).stdout.strip())
    assert left.parent == own.parent == tmp_path and left.is_dir()
    second = workplaces.make_workplace()
    assert sorted(tmp_path.iterdir()) == sorted([own, second])
    workplaces.remove_workplace(own)
    workplaces.remove_workplace(second)
    assert not list(tmp_path.iterdir())


def test_unfinished_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text("old")
    run(DIE_WHILE_WRITING, str(path))
    (left,) = (entry for entry in tmp_path.iterdir() if entry != path)
    assert path.read_text() == "old" and left.name.startswith(".rows.")
    living = left.with_name(left.name.rpartition("-")[0].rpartition("-")[0] + f"-{os.getpid()}-x")
    living.touch()
    write_atomically(path, "new")
    assert path.read_text() == "new" and sorted(tmp_path.iterdir()) == sorted([path, living])


def test_a_process_is_told_from_none() -> None:
    assert is_running(os.getpid()) and not is_running(2**22 + 1)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells children when their parent ends")
def test_a_kernel_ends_with_its_runner() -> None:
    stat = Path(f"/proc/{int(run(START_A_KERNEL).stdout)}/stat")
    wait_until(lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z", 10)


def test_a_kernel_whose_runner_has_ended_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(parent_death.VARIABLE, "1")
    ended = run("from labutils.runner.parent_death import die_with_parent; die_with_parent(); print('lives')")
    assert ended.returncode == 1 and ended.stdout == ""
