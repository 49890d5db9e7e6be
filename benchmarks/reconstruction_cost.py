"""What do exact least squares and mask searches cost, in units of SparseGPT on the same model and tokens?

Measured on a Llama of about 110 M parameters with random weights and 32 × 256 random tokens at 50 %, on one thread.
Each method alternates with SparseGPT, and the ratio is the median over pairs of their processor times, since the clock
of a shared machine drifts. Random inputs are nearly uncorrelated, so exchanges and conjugate gradients end sooner than
on text: `--mixed` draws each token's embedding near one of a few, which makes the inputs of every layer correlated.

    python benchmarks/reconstruction_cost.py --repeats 3
    python benchmarks/reconstruction_cost.py --blocks 2 --sequences 8 --repeats 1 --out /tmp/try.json

writes `benchmarks/results/reconstruction_cost.json`. The house asks for wanda+ls at 2.5 and wanda+swaps at 4 at most.
"""

import argparse
import copy
import json
import statistics
from pathlib import Path

import torch
from common import RESULTS, describe_machine, random_llama, random_tokens, timed, write_result
from transformers import LlamaForCausalLM

import labutils as lab

OUT = RESULTS / "reconstruction_cost.json"
SHAPE = {"hidden": 768, "intermediate": 2048, "heads": 12}
LIMITS = {"wanda+ls": 2.5, "wanda+swaps": 4.0}
METHODS = ["wanda+ls", "wanda+swaps", "wanda+swaps+ls", "wanda+admm", "wanda+dsnot", "admm", "alps"]
N_CENTRES = 64


def mix_embeddings(model: LlamaForCausalLM) -> None:
    """Move the embeddings near a few common ones, in place."""
    weight, generator = model.get_input_embeddings().weight, torch.Generator().manual_seed(0)
    centres = torch.randn(N_CENTRES, weight.shape[1], generator=generator) * 2 * weight.std()
    with torch.no_grad():
        weight += centres[torch.randint(0, N_CENTRES, (len(weight),), generator=generator)]


def pair_of(model: LlamaForCausalLM, tokens: torch.Tensor, method: str) -> dict[str, dict[str, float]]:
    """Seconds of SparseGPT and of a method, one after the other, each on a copy of the dense model."""
    found = {}
    for name in ("sparsegpt", method):
        dense = copy.deepcopy(model)
        found[name] = timed(lambda: lab.prune(dense, tokens, method=name, sparsity=0.5))  # noqa: B023
    return found


def summarise(method: str, pairs: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Medians over the pairs."""
    ratios = [pair[method]["processor"] / pair["sparsegpt"]["processor"] for pair in pairs]
    return {
        "ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios),
        "seconds": statistics.median(pair[method]["processor"] for pair in pairs),
        "sparsegpt_seconds": statistics.median(pair["sparsegpt"]["processor"] for pair in pairs),
        **({"limit": LIMITS[method]} if method in LIMITS else {}),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=METHODS, help=f"default: {' '.join(METHODS)}")
    parser.add_argument("--blocks", type=int, default=12, help="of the model; 12 make 110 M parameters (default 12)")
    parser.add_argument("--sequences", type=int, default=32, help="of 256 tokens (default 32)")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of prunings per method (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--mixed", action="store_true", help="embeddings near common ones: correlated inputs")
    parser.add_argument("--out", type=Path, default=OUT, help=f"result file (default {OUT.name})")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = random_llama(**SHAPE, blocks=options.blocks)
    if options.mixed:
        mix_embeddings(model)
    tokens = random_tokens(options.sequences, 256)
    lab.prune(copy.deepcopy(model), tokens[:1], method="sparsegpt", sparsity=0.5)  # warm-up
    pairs: dict[str, list] = {method: [] for method in options.methods}
    for _ in range(options.repeats):
        for method, measured in pairs.items():
            measured.append(pair_of(model, tokens, method))
            print(method, json.dumps(measured[-1]), flush=True)
    summary = {method: summarise(method, measured) for method, measured in pairs.items()}
    about = {
        **describe_machine(), "tokens": list(tokens.shape), "repeats": options.repeats, "mixed": options.mixed,
        "blocks": options.blocks, "parameters": sum(p.numel() for p in model.parameters()),
    }  # fmt: skip
    write_result(options.out, {**about, "processor_time_over_sparsegpt": summary})
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
