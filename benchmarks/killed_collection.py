"""The collection that `kill_and_resume.py` kills: three tiny notebooks, and a disk that takes its time."""

from pathlib import Path

import nbformat

SECONDS_A_WRITE = 0.03
SLOW_DISK = f"""\
import os, time
_fsync = os.fsync
def slow(handle):
    time.sleep({SECONDS_A_WRITE})
    _fsync(handle)
os.fsync = slow
"""
IMPORTS = "import time\nimport numpy as np\nimport pandas as pd\nfrom labutils import conclude, not_testable"
PART = """\
time.sleep(0.1)
part_{i} = pd.DataFrame({{"part": {i}, "item": range(50), "loss": np.random.default_rng({i}).random(50)}})"""
JUDGE = "verdicts = [not_testable(name, 'a trial', scope={'model': 'none'}) for name in ('C01', 'C02')]"
CONCLUDE = "conclude(pd.concat([part_0, part_1, part_2], ignore_index=True), verdicts, 'Yes.')"
STUDY = """\
import os
from pathlib import Path
import torch
from labutils.runner.finished_runs import FinishedRuns
finished = FinishedRuns(Path(os.environ["LABUTILS_RUN_FOLDER"]).parent / "finished", 1)
found = []
for number in range(6):
    key, shared = {"number": number}, {"pair": number // 2}
    if not finished.has(key):
        layer = torch.nn.Linear(4, 4)
        if finished.load_weights(shared, layer) is None:
            torch.manual_seed(number // 2)
            torch.nn.init.normal_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
            finished.save_weights(shared, layer, {"steps": 1})
        time.sleep(0.05)
        loss = layer(torch.ones(8, 4)).detach().double().numpy().mean(1)
        finished.write_frames(key, {"items": pd.DataFrame({"item": range(8), "loss": loss + number})})
    if number % 2:
        finished.drop_weights(shared)
    found.append(finished.read_frames(key)["items"].assign(number=number))
rows = pd.concat(found, ignore_index=True)"""
JUDGE_STUDY = """\
verdict = not_testable("C03", f"{rows.loss.sum():.12f}", scope={"model": "none"})
conclude(rows, [verdict], "Yes.")"""
READ = """\
import os
from labutils import ledger
found = ledger(os.environ["LABUTILS_RUN_FOLDER"])
conclude(found[["run", "claim", "outcome", "note"]], [], f"{len(found)} verdicts")"""
NOTEBOOKS = {
    "01_rows": [IMPORTS, *(PART.format(i=i) for i in range(3)), JUDGE, CONCLUDE],
    "02_study": [IMPORTS, STUDY, JUDGE_STUDY],
    "99_last": [IMPORTS, READ],
}


def write_collection(place: Path) -> None:
    """The notebooks, their profile, and a disk that takes its time, for the runner and its kernels."""
    (place / "notebooks" / "profiles").mkdir(parents=True)
    (place / "notebooks" / "profiles" / "lab.yaml").write_text("".join(f"{stem}: {{}}\n" for stem in NOTEBOOKS))
    for stem, sources in NOTEBOOKS.items():
        cells = [nbformat.v4.new_markdown_cell(f"# {stem}", id="title")]
        cells += [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
        notebook = nbformat.v4.new_notebook(cells=cells)
        if stem == "99_last":
            notebook.metadata["labutils"] = {"after": "all"}
        nbformat.write(notebook, place / "notebooks" / f"{stem}.ipynb")
    (place / "slow").mkdir()
    (place / "slow" / "sitecustomize.py").write_text(SLOW_DISK)
