"""Is what `forecast` tells what `prune` then takes?

Three sizes of Llama with random weights, two methods, each in a process of its own and on one thread. The forecast is
made from the configuration, before the model exists. Memory is the process's peak above what it held before the model
was made; time is the processor's, since the forecast is that of a machine which does nothing else. Ratios are forecast
to measured.

    python benchmarks/forecast_against_measured.py

writes `benchmarks/results/forecast_against_measured.json`.
"""

import argparse
import ctypes
import json
import subprocess
import sys

import torch
from common import RESULTS, describe_machine, random_llama, random_tokens, timed, write_result
from transformers import LlamaConfig

import labutils as lab
from labutils.core.usage import peak_resident_megabytes

SIZES = {
    "6 M": {"hidden": 256, "intermediate": 688, "blocks": 5, "heads": 4, "vocabulary": 8_000},
    "14 M": {"hidden": 384, "intermediate": 1024, "blocks": 6, "heads": 6, "vocabulary": 8_000},
    "36 M": {"hidden": 512, "intermediate": 1376, "blocks": 9, "heads": 8, "vocabulary": 16_000},
}
TOKENS = (32, 256)
METHODS = ("wanda", "sparsegpt")


def configuration(size: str) -> LlamaConfig:
    """That of `random_llama`, without the model."""
    given = SIZES[size]
    return LlamaConfig(
        vocab_size=given["vocabulary"], hidden_size=given["hidden"], intermediate_size=given["intermediate"],
        num_hidden_layers=given["blocks"], num_attention_heads=given["heads"], num_key_value_heads=given["heads"],
        max_position_embeddings=512, tie_word_embeddings=True, architectures=["LlamaForCausalLM"],
    )  # fmt: skip


def resident_megabytes() -> float:
    """What this process holds now, without what the C library has freed and not given back."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def measure(size: str, method: str) -> dict[str, object]:
    """One case, in this process."""
    torch.set_num_threads(1)
    tiny = random_llama(hidden=32, intermediate=64, blocks=2, heads=2, vocabulary=64)
    lab.prune(tiny, random_tokens(4, 16, 64), method=method, sparsity=0.5)  # imports and libraries are not the pruning
    found = lab.forecast(configuration(size), TOKENS, method=method, sparsity=0.5)
    before = resident_megabytes()
    model, tokens = random_llama(**SIZES[size]), random_tokens(*TOKENS, SIZES[size]["vocabulary"])
    seconds = timed(lambda: lab.prune(model, tokens, method=method, sparsity=0.5))["processor"]
    megabytes = peak_resident_megabytes() - before
    return {
        "size": size, "parameters": sum(p.numel() for p in model.parameters()), "method": method,
        "seconds": {"forecast": found.seconds, "measured": seconds, "ratio": found.seconds / seconds},
        "megabytes": {
            "forecast": found.memory / 1e6, "measured": megabytes, "ratio": found.memory / 1e6 / megabytes,
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs=2, metavar=("SIZE", "METHOD"), help="measure one case in this process")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(*options.case)))
        return
    torch.set_num_threads(1)
    about, cases = {**describe_machine(), "tokens": list(TOKENS)}, []
    for method in METHODS:
        for size in SIZES:
            command = [sys.executable, __file__, "--case", size, method]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            cases.append(json.loads(run.stdout.splitlines()[-1]))
            print(cases[-1], flush=True)
            write_result(RESULTS / "forecast_against_measured.json", {**about, "cases": cases})


if __name__ == "__main__":
    main()
