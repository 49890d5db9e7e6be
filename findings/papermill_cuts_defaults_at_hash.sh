#!/usr/bin/env bash
# papermill reports defaults wrongly where a text holds "#": prompts and colours become other values, silently.
#
# Versions: papermill 2.7.0, with ipykernel 7.4.0.
# Expected: `inspect_notebook` and `papermill --help-notebook` are documented to give each parameter's default, and the
#   comment behind it as help. A "#" within quotation marks begins no comment in Python; what cannot be read is to be
#   left out (`inspect` should ignore errors), as is done, with a warning, for a line with two "=".
# Seen: each line is cut at its first "#", quoted or not. The default "### Question:" is reported as a lone quotation
#   mark, with the rest of it as help. A list over several lines loses the rest of each line and is then joined: two
#   colours come back as [""], which is valid Python and another value. No warning. Run without parameters, the
#   notebook itself uses the right values.
# Hurts: whoever takes the defaults from papermill to fill a table of runs, a form or a sweep, in notebooks whose
#   parameters are prompts with "###", colours or patterns.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check papermill==2.7.0 ipykernel==7.4.0
cd "$folder"
cat >look.py <<'PYTHON'
import ast

import nbformat
import papermill

CELL = """share = 0.5  # of the weights
prompt = "### Question:"
colours = [
    "#1f77b4",
    "#ff7f0e",
]
layers = [
    0,  # the first
    3,
]"""
notebook = nbformat.v4.new_notebook(
    cells=[nbformat.v4.new_code_cell(CELL, metadata={"tags": ["parameters"]})],
    metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
)
nbformat.write(notebook, "notebook.ipynb")
used = {}
exec(CELL, used)  # our own text, as the kernel runs it
found = papermill.inspect_notebook("notebook.ipynb")
for name, parameter in found.items():
    print(f"{name:7} is {used[name]!r}; reported: {parameter['default']}  (help: {parameter['help']!r})")
assert ast.literal_eval(found["share"]["default"]) == used["share"] and found["share"]["help"] == "of the weights"
assert ast.literal_eval(found["layers"]["default"]) == used["layers"]
assert found["prompt"]["default"] == '"' and found["prompt"]["help"] == '## Question:"'
assert ast.literal_eval(found["colours"]["default"]) == [""] != used["colours"]
PYTHON
"$folder/venv/bin/python" look.py 2>log || { cat log >&2; exit 1; }
if grep -iE "pars|prompt|colours" log >&2; then
    echo "a warning names the parameters now" >&2
    exit 1
fi
