"""How long does `import labutils` take, beyond what Python itself needs to start?

Each of a new process: one that imports the package and one that does nothing, in turn; processor time of both, and the
median of the differences. The first pair is not counted: it fills the caches of files. Packages that are not needed
until they are asked for (torch, transformers) must not have been loaded. The aim is at most 0.15 seconds.

    python benchmarks/import_time.py

writes `benchmarks/results/import_time.json`.
"""

import argparse
import statistics
import subprocess
import sys

from common import RESULTS, describe_machine, write_result

AIM = 0.15
HEAVY = ("torch", "transformers", "pandas", "matplotlib")
TELL = "import resource as r; u = r.getrusage(r.RUSAGE_SELF); print(u.ru_utime + u.ru_stime)"


def seconds_of(code: str) -> float:
    """Processor seconds of a new Python that runs this."""
    told = subprocess.run([sys.executable, "-c", f"{code}; {TELL}"], check=True, stdout=subprocess.PIPE, text=True)
    return float(told.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=11, help="pairs of processes (default 11)")
    options = parser.parse_args()
    seen = f"import sys, labutils; print(*(name for name in {HEAVY} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", seen], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    pairs = [(seconds_of("import labutils"), seconds_of("pass")) for _ in range(options.repeats + 1)][1:]
    found = {
        **describe_machine(), "repeats": options.repeats, "loaded": loaded, "aim": AIM,
        "seconds": statistics.median(ours - bare for ours, bare in pairs),
        "python_seconds": statistics.median(bare for _, bare in pairs),
    }  # fmt: skip
    write_result(RESULTS / "import_time.json", found)
    print(f"{found['seconds']:.3f} s beyond the {found['python_seconds']:.3f} s of Python; loaded with it: {loaded}")


if __name__ == "__main__":
    main()
