"""Does a run that was killed with SIGKILL end, after `--resume`, as if nothing had happened?

A collection of three tiny notebooks (rows and verdicts in several cells; a long study that keeps finished runs, tables
and weights; one that reads the others' ledgers) is run again and again in fresh folders. Each time the runner, a
kernel or both are killed: at a random moment, or while a file is being written, on a disk that takes its time. The
resumed run must end with status 0 and leave the same files as an undisturbed run, the same bytes in the ledger, the
rows and the finished runs, and no process.

    OMP_NUM_THREADS=1 python benchmarks/kill_and_resume.py --trials 100

writes `benchmarks/results/kill_and_resume.json`. The exit status is 1 where a trial fails.
"""

import argparse
import contextlib
import hashlib
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common import RESULTS, describe_machine, write_result
from killed_collection import NOTEBOOKS, SLOW_DISK, write_collection

from labutils.__main__ import main as command
from labutils.core.files import is_running
from labutils.runner import runner  # noqa: F401 (so that every trial finds it loaded)

OUT = RESULTS / "kill_and_resume.json"
# What one trial runs: mostly a part of the collection, which takes less time.
PARTS = (["01_rows"], ["01_rows"], ["02_study"], ["02_study"], list(NOTEBOOKS))
SAME_BYTES = ("ledger.jsonl", "rows.parquet")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100, help="kills (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of what is killed")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    started = time.monotonic()
    undisturbed: dict[str, tuple[dict[str, str], float]] = {}
    found: list[dict[str, str | list]] = []
    with tempfile.TemporaryDirectory(prefix="kt-") as root:
        write_collection(Path(root))
        for number in itertools.count():
            if len(found) == options.trials:
                break
            choose = random.Random(1000 * options.seed + number)
            names = choose.choice(PARTS)
            if str(names) not in undisturbed:
                undisturbed[str(names)] = run_undisturbed(Path(root) / f"u{len(names)}{names[0]}", names)
            trial = run_trial(Path(root) / f"t{number}", names, *undisturbed[str(names)], choose)
            print(number, trial, file=sys.stderr, flush=True)
            if trial["killed"] == "nothing" and not trial["problems"]:
                continue  # it had ended before
            found.append(trial)
            write_result(options.out, summarize(found, options.seed, time.monotonic() - started))
    print(options.out.read_text())
    return 1 if any(trial["problems"] for trial in found) else 0


def summarize(found: list[dict[str, str | list]], seed: int, seconds: float) -> dict[str, object]:
    """The result so far, as it is stored."""
    failed = [trial for trial in found if trial["problems"]]
    return {
        **describe_machine(), "trials": len(found), "seed": seed,
        "killed": dict(Counter(trial["killed"] for trial in found)),
        "while_writing": sum(trial["written"] != "" for trial in found),
        "files_written": dict(Counter(trial["written"] for trial in found if trial["written"])),
        "identical": len(found) - len(failed), "failed": failed, "seconds": round(seconds),
    }  # fmt: skip


def run_undisturbed(folder: Path, names: list[str]) -> tuple[dict[str, str], float]:
    """The files of a run that nothing disturbs, and its seconds."""
    start = time.monotonic()
    pid = start_runner(folder, names)
    if (status := wait_for(pid, 300)) != 0:
        raise RuntimeError(f"the undisturbed run ended with {status}: {(folder / 'log').read_text()}")
    duration = time.monotonic() - start
    return read_files(folder), duration


def run_trial(
    folder: Path, names: list[str], expected: dict[str, str], duration: float, choose: random.Random
) -> dict[str, str | list]:
    """Kill once, resume, and compare: what was killed, which file was being written, and what is wrong afterwards."""
    pid = start_runner(folder, names)
    if choose.random() < 0.5:
        killed, written = kill_while_writing(folder, pid, choose)
    else:
        killed, written = kill_at_any_moment(pid, choose.uniform(0.2, duration), choose), ""
    problems = []
    if wait_for(pid, 120) is None:
        problems.append("the runner did not end")
        kill(pid)
    pid = start_runner(folder, names)
    if (status := wait_for(pid, 120)) != 0:
        problems.append(f"resumed with status {status}: {(folder / 'log').read_text()[-1000:]}")
        kill(pid)
    found = read_files(folder)
    problems += [f"{name} differs" for name in sorted(found) if expected.get(name, ...) != found[name]]
    problems += [f"{name} is missing" for name in sorted(set(expected) - set(found))]
    problems += [f"process {left} is left" for left in find_left(folder)]
    return {"killed": killed, "written": written, "problems": problems}


def start_runner(folder: Path, names: list[str]) -> int:
    """`labutils run --resume` in a process of its own, whose packages are loaded already; returns its id."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["TMPDIR"], tempfile.tempdir = str(folder / "tmp"), None
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder.parent / "slow"), os.environ.get("PYTHONPATH", "")])
    exec(SLOW_DISK, {})
    words = ["run", *names, "--notebooks", str(folder.parent / "notebooks"), "--out", str(folder / "run"), "--resume"]
    try:
        os._exit(command([*words, "--jobs", "2"]))
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
    os._exit(70)


def kill_at_any_moment(pid: int, seconds: float, choose: random.Random) -> str:
    """Kill the runner, one of its kernels, or both."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and not has_ended(pid):
        time.sleep(0.01)
    wanted = choose.choice(["runner", "kernel", "both"])
    kernels = find_kernels(pid)
    if has_ended(pid) or (wanted == "kernel" and not kernels):
        return "nothing"
    kill_both(pid, wanted, choose.choice(kernels) if kernels else None)
    return wanted


def kill_while_writing(folder: Path, pid: int, choose: random.Random) -> tuple[str, str]:
    """Kill the process that is writing a file, and perhaps the other one as well; which file it was."""
    seen: set[str] = set()
    number = choose.randrange(1, 30)
    while not has_ended(pid):
        for path in find_unfinished(folder):
            seen.add(str(path))
            writer = int(path.name.rpartition("-")[0].rpartition("-")[2])
            if len(seen) < number or not path.exists():
                continue
            kernel = None if writer == pid else writer
            wanted = choose.choice(["both", "runner" if kernel is None else "kernel"])
            kernels = find_kernels(pid)
            kill_both(pid, wanted, kernel or (choose.choice(kernels) if kernels else None))
            return wanted, path.name.removeprefix(".").rpartition(".")[0] if path.exists() else ""
        time.sleep(0.002)
    return "nothing", ""


def kill_both(pid: int, wanted: str, kernel: int | None) -> None:
    for process in (pid if wanted != "kernel" else None, kernel if wanted != "runner" else None):
        if process is not None:
            kill(process)


def kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def find_unfinished(folder: Path) -> Iterator[Path]:
    """The temporary files of atomic writes under way."""
    for base, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".") and name.count("-") >= 2 and is_running(_writer(name)):
                yield Path(base) / name


def _writer(name: str) -> int:
    number = name.rpartition("-")[0].rpartition("-")[2]
    return int(number) if number.isdecimal() else 2**22 + 1  # no process has such an id


def find_kernels(pid: int) -> list[int]:
    """The processes that a runner has started."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def has_ended(pid: int) -> bool:
    """Whether a child of ours has ended; it stays a child, so that `wait_for` can tell its status."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wait_for(pid: int, seconds: float) -> int | None:
    """The exit status of a child of ours, negative for a signal; None where it has not ended in time."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


def read_files(folder: Path) -> dict[str, str]:
    """The names of all files that a run leaves, and a hash of those that must have the same bytes in all runs."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == "log" or path.is_dir():
            continue
        same = path.name in SAME_BYTES or "finished" in path.parts
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if same else "present"
    return found | {f"tmp/{path.name}/": "left" for path in (folder / "tmp").iterdir() if path.is_dir()}


def find_left(folder: Path) -> list[int]:
    """Processes of this trial that are still there after five seconds."""
    wanted = f"LABUTILS_RUN_FOLDER={folder / 'run'}\0".encode()

    def alive() -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                found += [int(path.parent.name)] if wanted in path.read_bytes() else []
        return found

    limit = time.monotonic() + 5
    while alive() and time.monotonic() < limit:
        time.sleep(0.1)
    return alive()


if __name__ == "__main__":
    sys.exit(main())
