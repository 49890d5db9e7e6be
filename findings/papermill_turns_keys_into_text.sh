#!/usr/bin/env bash
# papermill turns the numbers that are keys of a parameter into text, so that a notebook's look-ups miss, silently.
#
# Versions: papermill 2.7.0, with ipykernel 7.4.0.
# Expected: the documentation injects parameters as Python values and takes them as a dict or as YAML; in both a key
#   may be a number, and a value that is a number stays one. So giving a notebook the very value that its cell
#   "parameters" has as default changes nothing.
# Seen: shares by layer, {0: 0.3, 3: 0.7}, are written into the notebook as {"0": 0.3, "3": 0.7}. The pattern
#   `shares.get(layer, default)` then gives the default for every layer, and the run ends without error or warning. It
#   is the same from YAML on the command line (`-y`), where "0:" and "'0':" mean two keys of two types, and for keys
#   true and false, which become "True" and "False". Numbers in lists and as values of a dict keep their type. (The
#   project has heard of it: its issue 484, of 2020, is open and names JSON's keys; the documentation does not.)
# Hurts: whoever sweeps over plans by layer, head, seed or size: all runs of the sweep compute the same thing, while
#   the names of their files and the arguments in the caller say that they differ.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check papermill==2.7.0 ipykernel==7.4.0
cd "$folder"
cat >run.py <<'PYTHON'
import subprocess
import sys

import nbformat
import papermill

DEFAULT = "shares = {0: 0.3, 3: 0.7}\nflags = {True: 1}"
USE = "print([shares.get(layer, 0.5) for layer in range(4)], flags.get(True), list(shares), list(flags))"
notebook = nbformat.v4.new_notebook(
    cells=[nbformat.v4.new_code_cell(DEFAULT, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(USE)],
    metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
)
nbformat.write(notebook, "notebook.ipynb")


def printed(notebook):
    return notebook.cells[-1].outputs[0].text.strip()


default = printed(papermill.execute_notebook("notebook.ipynb", "default.ipynb", progress_bar=False))
passed = papermill.execute_notebook(
    "notebook.ipynb", "passed.ipynb", {"shares": {0: 0.3, 3: 0.7}, "flags": {True: 1}}, progress_bar=False
)
command = [sys.executable, "-m", "papermill", "notebook.ipynb", "yaml.ipynb", "--no-progress-bar"]
subprocess.run([*command, "-y", "{shares: {0: 0.3, 3: 0.7}, flags: {true: 1}}"], check=True, capture_output=True)
from_yaml = printed(nbformat.read("yaml.ipynb", 4))
print("as in the cell of defaults:   ", default)
print("the same, passed from Python: ", printed(passed))
print("the same, passed as YAML:     ", from_yaml)
print(passed.cells[1].source)
assert default == "[0.3, 0.5, 0.5, 0.7] 1 [0, 3] [True]"
assert printed(passed) == from_yaml == "[0.5, 0.5, 0.5, 0.5] None ['0', '3'] ['True']"
PYTHON
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" run.py 2>log || { cat log >&2; exit 1; }
if grep -E "shares|flags" log >&2; then
    echo "a warning names the keys now" >&2
    exit 1
fi
