"""What do exact least squares and mask searches cost, in units of SparseGPT on the same model and tokens?

Measured on a Llama of about 110 M parameters with random weights and 32 × 256 random tokens at 50 %, on one thread.
Each token's embedding lies near one of a few, which makes the inputs of every layer correlated, as text does: of inputs
that are nearly uncorrelated (`--unmixed`) exchanges and conjugate gradients end much sooner. Every pruning runs in a
process of its own and follows SparseGPT's; the ratios are medians over the repeats, of processor times, since the clock
of a shared machine drifts, and of the largest resident memory.

    python benchmarks/reconstruction_cost.py --repeats 3
    python benchmarks/reconstruction_cost.py --blocks 2 --sequences 8 --repeats 1 --out try.json

writes `benchmarks/results/reconstruction_cost.json`, anew after every pruning. The house asks for wanda+ls at 2.5 and
wanda+swaps at 4 times SparseGPT's time at most, and for 1.5 times its memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from common import RESULTS, describe_machine, random_llama, random_tokens, timed, write_result
from transformers import LlamaForCausalLM

import labutils as lab
from labutils.core.usage import peak_resident_megabytes

OUT = RESULTS / "reconstruction_cost.json"
SHAPE = {"hidden": 768, "intermediate": 2048, "heads": 12}
LIMITS = {"wanda+ls": 2.5, "wanda+swaps": 4.0}
MEMORY_LIMIT = 1.5
METHODS = ["wanda+ls", "wanda+swaps"]
YARDSTICK = "sparsegpt"
N_CENTRES = 64


def mix_embeddings(model: LlamaForCausalLM) -> None:
    """Move the embeddings near a few common ones, in place."""
    weight, generator = model.get_input_embeddings().weight, torch.Generator().manual_seed(0)
    centres = torch.randn(N_CENTRES, weight.shape[1], generator=generator) * 2 * weight.std()
    with torch.no_grad():
        weight += centres[torch.randint(0, N_CENTRES, (len(weight),), generator=generator)]


def in_own_process(method: str, options: argparse.Namespace) -> dict[str, float]:
    """Prune in a new process and return what it tells."""
    command = [sys.executable, __file__, "--part", method, "--blocks", str(options.blocks)]
    command += ["--sequences", str(options.sequences), "--threads", str(options.threads)]
    command += ["--unmixed"] if options.unmixed else []
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def prune_in_this_process(method: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds, peak memory in MB, and parameters of the model; a small pruning before it is not counted."""
    torch.set_num_threads(options.threads)
    small = random_llama(hidden=64, intermediate=128, heads=2, blocks=1)
    lab.prune(small, random_tokens(2, 64), method=YARDSTICK, sparsity=0.5)
    model, tokens = random_llama(**SHAPE, blocks=options.blocks), random_tokens(options.sequences, 256)
    if not options.unmixed:
        mix_embeddings(model)
    taken = timed(lambda: lab.prune(model, tokens, method=method, sparsity=0.5))
    count = sum(parameter.numel() for parameter in model.parameters())
    return {**taken, "peak_megabytes": peak_resident_megabytes(), "parameters": count}


def summarise(method: str, rounds: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Medians over the rounds that hold the method."""
    pairs = [(found[method], found[YARDSTICK]) for found in rounds if method in found]
    ratios = [own["processor"] / other["processor"] for own, other in pairs]
    return {
        "ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios), "limit": LIMITS.get(method),
        "seconds": statistics.median(own["processor"] for own, _ in pairs),
        "sparsegpt_seconds": statistics.median(other["processor"] for _, other in pairs),
        "memory_ratio": statistics.median(own["peak_megabytes"] / other["peak_megabytes"] for own, other in pairs),
        "memory_limit": MEMORY_LIMIT,
        "peak_megabytes": statistics.median(own["peak_megabytes"] for own, _ in pairs),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=METHODS, help=f"default: {' '.join(METHODS)}")
    parser.add_argument("--blocks", type=int, default=12, help="of the model; 12 make 110 M parameters (default 12)")
    parser.add_argument("--sequences", type=int, default=32, help="of 256 tokens (default 32)")
    parser.add_argument("--repeats", type=int, default=3, help="prunings per method (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--unmixed", action="store_true", help="random embeddings: nearly uncorrelated inputs")
    parser.add_argument("--out", type=Path, default=OUT, help=f"result file (default {OUT.name})")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(prune_in_this_process(options.part, options)))
        return
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(options.repeats):
        rounds.append({})
        for method in [YARDSTICK, *options.methods]:
            rounds[-1][method] = in_own_process(method, options)
            print(method, json.dumps(rounds[-1][method]), flush=True)
            known = [name for name in options.methods if any(name in found for found in rounds)]
            about = {
                **describe_machine(), "threads": options.threads, "tokens": [options.sequences, 256],
                "repeats": number + 1, "mixed": not options.unmixed, "blocks": options.blocks,
                "parameters": rounds[0][YARDSTICK]["parameters"],
            }  # fmt: skip
            summary = {name: summarise(name, rounds) for name in known}
            write_result(options.out, {**about, "over_sparsegpt": summary})
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
