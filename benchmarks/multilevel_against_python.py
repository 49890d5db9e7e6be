"""How long does a mixed model take, beside the fast Python packages mixedlm and lme-python, and is it the same model?

Small published tables, and one million simulated rows in 10,000 groups with a random intercept and slope. Timed is all
from the frame to the table of fixed effects with standard errors and Satterthwaite's degrees of freedom: processor
seconds on one thread. mixedlm takes a pandas frame, as ours; lme-python takes its own, a polars frame. Each side runs
in a process of its own that stays alive, and the fits alternate, since the clock of a shared machine drifts; a ratio
is the median over pairs. The peers have an environment of their own:

    python -m venv peer && peer/bin/pip install mixedlm==1.3.0 lme-python==0.2.7
    LABUTILS_DATA=… OMP_NUM_THREADS=1 python benchmarks/multilevel_against_python.py --python peer/bin/python

writes `benchmarks/results/multilevel_against_python.json`. Pastes and cake come with mixedlm, the other tables from
LABUTILS_DATA. What both find is compared in the same run, and before anything is said about speed: a deviance of ours
above the peer's by more than 1e-9 of it, or standard errors that differ by more than 1e-3, end the run. How much the
peer's deviance lies above ours, and how far its degrees of freedom are off, is in the result.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from workers import Worker, answer

PACKAGES = ("mixedlm", "lme_python")
MODELS = {  # table, formula, columns that are text, fits in one timing
    "sleepstudy": ("sleepstudy", "Reaction ~ Days + (Days | Subject)", ["Subject"], 20),
    "sleepstudy, no correlation": ("sleepstudy", "Reaction ~ Days + (Days || Subject)", ["Subject"], 20),
    "Dyestuff": ("dyestuff", "Yield ~ 1 + (1 | Batch)", ["Batch"], 20),
    "Penicillin": ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", ["plate", "sample"], 20),
    "Pastes": ("Pastes", "strength ~ 1 + (1 | batch/cask)", ["batch", "cask"], 20),
    "cake": ("cake", "angle ~ recipe * temp + (1 | recipe:replicate)", ["recipe", "replicate"], 20),
    "one million rows": ("simulated", "y ~ x + (x | g)", ["g"], 1),
}
OF_THE_PEER = {"Pastes": "load_pastes", "cake": "load_cake"}
AIMS = {"mixedlm": 1.0, "lme_python": 0.3}  # of the small tables, of the large one
WORSE, OTHER = 1e-9, 1e-3  # relative: deviance of ours above the peer's; difference of standard errors
Fit = Callable[[str, object], tuple[float, np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="peer/bin/python", help="Python of the environment with the peers")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of timings for each small model (default 5)")
    parser.add_argument("--large-repeats", type=int, default=3, help="the same for a million rows (default 3)")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--worker", choices=["ours", *PACKAGES], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker)
        return
    from common import RESULTS, describe_machine, write_result

    from labutils.core import paths

    folder = paths.real_data()
    if folder is None:
        raise SystemExit("LABUTILS_DATA must name the folder of the tables.")
    os.environ.update(dict.fromkeys(("RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    pythons = {"ours": sys.executable, **dict.fromkeys(PACKAGES, options.python)}
    workers = {side: Worker(__file__, python, ["--worker", side]) for side, python in pythons.items()}
    about = {**describe_machine(), "versions": {side: worker.about for side, worker in workers.items()}}
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as place:
        for name in options.models:
            table = MODELS[name][0]
            file = folder / "f_mixed_models" / f"{table}.csv"
            if table == "simulated" or table in OF_THE_PEER:
                file = Path(place) / f"{table}.csv"
                simulated(file) if table == "simulated" else workers["mixedlm"].ask(table=table, file=str(file))
            repeats = options.large_repeats if table == "simulated" else options.repeats
            found[name] = compare(name, str(file), workers, repeats)
            write_result(RESULTS / "multilevel_against_python.json", {**about, "median_over_pairs": found})
    for worker in workers.values():
        worker.close()


def simulated(file: Path, n_rows: int = 1_000_000, n_groups: int = 10_000) -> None:
    """x varies within groups; intercepts and slopes vary, with a correlation; groups are text."""
    generator = np.random.default_rng(0)
    g, x = np.arange(n_rows) % n_groups, generator.normal(size=n_rows)
    intercepts, other = generator.normal(size=(2, n_groups))
    slopes = 0.3 * intercepts + 0.4 * other
    y = 2 + 0.5 * x + intercepts[g] + slopes[g] * x + 2 * generator.normal(size=n_rows)
    labels = np.array([f"g{number:05d}" for number in range(n_groups)])
    pd.DataFrame({"y": y, "x": x, "g": labels[g]}).to_csv(file, index=False)


def compare(name: str, file: str, workers: dict[str, Worker], repeats: int) -> dict:
    """Interleaved fits of all sides; the first of each is the warm-up, by which the models are compared."""
    table, formula, text, fits = MODELS[name]
    request = {"file": file, "formula": formula, "text": text}
    first = {side: worker.ask(**request, fits=1) for side, worker in workers.items()}
    same = {side: differences(name, side, first["ours"], first[side]) for side in PACKAGES}
    runs = [
        {side: worker.ask(**request, fits=fits)["seconds"] for side, worker in workers.items()} for _ in range(repeats)
    ]
    aimed = "lme_python" if table == "simulated" else "mixedlm"
    against = {}
    for side in PACKAGES:
        ratios = [run["ours"] / run[side] for run in runs]
        aim = {"aim": AIMS[side]} if side == aimed else {}
        against[side] = {"ratio": statistics.median(ratios), **aim, "ratios": ratios, **same[side]}
    seconds = {side: statistics.median(run[side] for run in runs) for side in workers}
    rows, log_likelihood = first["ours"]["rows"], {side: one["log_likelihood"] for side, one in first.items()}
    print(name, {side: f"{value * 1e3:.2f} ms" for side, value in seconds.items()}, against, flush=True)
    return {
        "formula": formula, "rows": rows, "repeats": repeats, "seconds": seconds, "log_likelihood": log_likelihood,
        "against": against,
    }  # fmt: skip


def differences(name: str, side: str, ours: dict, theirs: dict) -> dict[str, float]:
    """By how much the peer's deviance lies above ours, and how far its standard errors and degrees of freedom differ.

    Raises:
        SystemExit: ours is no minimum, or the two have fitted different models.
    """
    deviance, other = -2 * ours["log_likelihood"], -2 * theirs["log_likelihood"]
    estimates, errors, degrees = (np.array([one["table"][i] for one in (ours, theirs)]) for i in range(3))
    found = {
        "deviance_above_ours": (other - deviance) / abs(deviance),
        "estimates_differ": float((np.abs(np.subtract(*estimates)) / errors[0]).max()),  # in standard errors
        "standard_errors_differ": float(np.abs(errors[1] / errors[0] - 1).max()),
        "degrees_differ": float(np.abs(degrees[1] / degrees[0] - 1).max()),
    }
    if found["deviance_above_ours"] < -WORSE:
        raise SystemExit(f"{name}: the deviance of ours, {deviance!r}, is above {other!r} of {side}.")
    if max(found["estimates_differ"], found["standard_errors_differ"]) > OTHER:
        raise SystemExit(f"{name}: ours and {side} are different models: {found}")
    return found


def serve(side: str) -> None:
    """Answer with the processor seconds of a fit, its log-likelihood, and its estimates, standard errors and df."""
    fit, version = {"ours": own, "mixedlm": mixedlm, "lme_python": lme_python}[side]()
    answer({side: version, "numpy": np.__version__, "pandas": pd.__version__})
    data, read = None, None
    for line in sys.stdin:
        request = json.loads(line)
        if "table" in request:
            import mixedlm as peer

            getattr(peer, OF_THE_PEER[request["table"]])().to_csv(request["file"], index=False)
            answer({})
            continue
        if read != request["file"]:
            read = request["file"]
            data = pd.read_csv(read, dtype=dict.fromkeys(request["text"], str), float_precision="round_trip")
            rows = len(data)
            data = polars_frame(data) if side == "lme_python" else data
        start = time.process_time()
        for _ in range(request["fits"]):
            log_likelihood, table = fit(request["formula"], data)
        seconds = (time.process_time() - start) / request["fits"]
        answer({"seconds": seconds, "rows": rows, "log_likelihood": log_likelihood, "table": np.array(table).tolist()})


def own() -> tuple[Fit, str]:
    from labutils.multilevel import fit_multilevel

    def fit(formula: str, data: pd.DataFrame) -> tuple[float, np.ndarray]:
        model = fit_multilevel(formula, data)
        return model.log_likelihood, model.fixed[["estimate", "se", "df"]].to_numpy().T

    return fit, "labutils"


def mixedlm() -> tuple[Fit, str]:
    import mixedlm as peer

    def fit(formula: str, data: pd.DataFrame) -> tuple[float, np.ndarray]:
        model = peer.lmer(formula, data)
        return float(model.logLik().value), model.tidy()[["estimate", "std.error", "df"]].to_numpy().T

    return fit, version_of("mixedlm")


def lme_python() -> tuple[Fit, str]:
    import lme_python as peer

    def fit(formula: str, data: object) -> tuple[float, np.ndarray]:
        model = peer.lmer(formula, data, reml=True)
        model.with_satterthwaite(data)
        return model.log_likelihood, np.array([model.coefficients, model.beta_se, model.satterthwaite_dfs])

    return fit, version_of("lme-python")


def polars_frame(data: pd.DataFrame) -> object:
    import polars

    return polars.DataFrame({name: data[name].tolist() for name in data})


def version_of(package: str) -> str:
    from importlib.metadata import version

    return version(package)


if __name__ == "__main__":
    main()
