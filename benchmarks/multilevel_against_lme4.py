"""How long does a mixed model take, beside R's lme4, and do both find the same optimum?

Published tables: students and lecturers crossed (73,421 ratings), sleep deprivation, yields of machines, pupils in
schools. Timed is all from the frame to the table of fixed effects; ours has Satterthwaite's degrees of freedom in it,
that of lme4 has none. Processor seconds of either process, on one thread; one R process answers one request after the
other, so that its start is not counted, and neither is ours. The fits alternate, since the clock of a shared machine
drifts; a ratio is the median over pairs.

    LABUTILS_DATA=… OMP_NUM_THREADS=1 python benchmarks/multilevel_against_lme4.py --repeats 5

writes `benchmarks/results/multilevel_against_lme4.json`. It needs Rscript with lme4, which the collection does not.
"""

import argparse
import datetime
import platform
import statistics
import subprocess
import time

import numpy as np
import pandas as pd
from common import RESULTS, write_result

from labutils.core import paths
from labutils.multilevel import fit_multilevel

MODELS = {  # table, formula, columns that are categories, fits in one timing
    "InstEval": ("insteval", "y ~ 1 + (1 | s) + (1 | d)", ["s", "d"], 1),
    "InstEval service": ("insteval", "y ~ service + (1 | s) + (1 | d)", ["s", "d"], 1),
    "sleepstudy": ("sleepstudy", "Reaction ~ Days + (Days | Subject)", ["Subject"], 20),
    "machines": ("machines", "score ~ Machine + (1 | Worker/Machine)", ["Worker", "Machine"], 20),
    "popular2": ("popular2", "popular ~ texp + extrav + sex + (extrav | class)", ["class"], 5),
}
PEER = r"""
suppressMessages(library(lme4))
requests <- file("stdin", "r")
cat(sprintf("%s; lme4 %s; BLAS %s\n", R.version.string, packageVersion("lme4"), basename(sessionInfo()$BLAS)))
while (length(line <- readLines(requests, n = 1))) {
  asked <- strsplit(line, "\t")[[1]]  # file, formula, categories, fits
  data <- read.csv(asked[1])
  for (name in strsplit(asked[3], ",")[[1]]) data[[name]] <- factor(data[[name]])
  start <- proc.time()
  for (i in seq_len(as.integer(asked[4]))) {
    model <- suppressWarnings(suppressMessages(lmer(as.formula(asked[2]), data)))
    table <- coef(summary(model))
  }
  spent <- proc.time() - start
  cat(sprintf("%.6f\t%.9f\n", (spent[1] + spent[2]) / as.integer(asked[4]), as.numeric(logLik(model))))
}
"""


def ours(data: pd.DataFrame, formula: str, fits: int) -> tuple[float, float]:
    """Processor seconds of one fit with its table, and its log-likelihood."""
    start = time.process_time()
    for _ in range(fits):
        model = fit_multilevel(formula, data)
        table = model.fixed
    spent = (time.process_time() - start) / fits
    return spent, model.log_likelihood if len(table) else float("nan")


def theirs(peer: subprocess.Popen, file: str, formula: str, categories: list[str], fits: int) -> tuple[float, float]:
    """The same by lme4."""
    peer.stdin.write("\t".join([file, formula, ",".join(categories), str(fits)]) + "\n")
    peer.stdin.flush()
    seconds, log_likelihood = peer.stdout.readline().split("\t")
    return float(seconds), float(log_likelihood)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="pairs of timings for each model (default 5)")
    parser.add_argument("--models", nargs="*", default=list(MODELS), help=f"of {', '.join(MODELS)}")
    options = parser.parse_args()
    folder = paths.real_data()
    if folder is None:
        raise SystemExit("LABUTILS_DATA must name the folder of the tables.")
    command = ["Rscript", "--vanilla", "-e", PEER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        version, found = peer.stdout.readline().strip(), {}
        for name in options.models:
            table, formula, categories, fits = MODELS[name]
            file = folder / "f_mixed_models" / f"{table}.csv"
            data = pd.read_csv(file).astype(dict.fromkeys(categories, "category"))
            request = (peer, str(file), formula, categories, fits)
            ours(data, formula, 1), theirs(*request[:-1], 1)  # warm-up
            pairs = [(ours(data, formula, fits), theirs(*request)) for _ in range(options.repeats)]
            found[name] = {
                "formula": formula, "rows": len(data),
                "ours_seconds": statistics.median(one[0] for one, _ in pairs),
                "lme4_seconds": statistics.median(other[0] for _, other in pairs),
                "ratio": statistics.median(one[0] / other[0] for one, other in pairs),
                "ratios": [one[0] / other[0] for one, other in pairs],
                "log_likelihood": {"ours": pairs[0][0][1], "lme4": pairs[0][1][1]},
            }  # fmt: skip
            print(name, {key: value for key, value in found[name].items() if key != "formula"}, flush=True)
        peer.stdin.close()
    about = {
        "date": datetime.date.today().isoformat(), "processor": platform.processor() or platform.machine(),
        "peer": version, "numpy": np.__version__, "repeats": options.repeats,
    }  # fmt: skip
    write_result(RESULTS / "multilevel_against_lme4.json", {**about, "median_over_pairs": found})


if __name__ == "__main__":
    main()
