"""`make site`: write the sources of all pages, have Sphinx make the site, and take out what no page uses.

python docs/site/build.py site
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(HERE), str(REPOSITORY)]

from sitegen.links import find_broken  # noqa: E402
from sitegen.pictures import shrink_pictures  # noqa: E402
from sitegen.source_tree import EXTRA, write_tree  # noqa: E402

LARGEST = 25_000_000  # bytes
UNUSED = ("*.map", ".buildinfo", "objects.inv", "_sources", "webpack-macros.html")


def build(target: Path, work: Path) -> int:
    """Build the site; returns its size in bytes.

    Raises:
        RuntimeError: Sphinx failed or warned, a link leads nowhere, or the site is too large.
    """
    shutil.rmtree(work, ignore_errors=True)
    sources = work / "sources"
    write_tree(sources, REPOSITORY)
    made, log = work / "html", work / "warnings.txt"
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-c", str(HERE), "-j", "2", "-q", "-w", str(log)]
    command += ["-d", str(work / "doctrees"), "-D", f"html_extra_path={sources / EXTRA}"]
    status = subprocess.run([*command, str(sources), str(made)], check=False).returncode
    warnings = log.read_text(encoding="utf-8").strip() if log.exists() else ""
    if status or warnings:
        raise RuntimeError(f"Sphinx ended with {status} and these warnings:\n{warnings}")
    for pattern in UNUSED:
        for path in made.rglob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shrink_pictures(made / "_images")
    broken = find_broken(made)
    if broken:
        raise RuntimeError("links of the site lead nowhere:\n" + "\n".join(broken))
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    if size > LARGEST:
        raise RuntimeError(f"the site takes {size / 1e6:.1f} MB, at most {LARGEST / 1e6:.0f} MB are allowed")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(made, target)
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, nargs="?", default=REPOSITORY / "site")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "site", help="folder of what is between")
    options = parser.parse_args()
    size = build(options.target, options.work)
    print(f"{options.target / 'index.html'}: {size / 1e6:.1f} MB; open it in a browser")


if __name__ == "__main__":
    main()
