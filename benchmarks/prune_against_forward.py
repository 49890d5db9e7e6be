"""How long does pruning take, in units of two bare forward passes over the same calibration tokens?

Two forward passes are the floor of the block-by-block protocol: one to collect the statistics, one to carry the pruned
outputs on. Measured on a Llama of about 60 M parameters with random weights, on one thread. The passes and the
prunings alternate, and the ratio is the median over pairs, since the clock of a shared machine drifts. Both the wall
clock and the processor time of the process are reported.

    python benchmarks/prune_against_forward.py --repeats 5

writes `benchmarks/results/prune_against_forward.json`.
"""

import argparse
import copy
import json
import statistics

import torch
from common import RESULTS, describe_machine, random_llama, random_tokens, timed, write_result
from transformers import LlamaForCausalLM

import labutils as lab

OUT = RESULTS / "prune_against_forward.json"
SHAPE = {"hidden": 512, "intermediate": 1376, "blocks": 14, "heads": 8}  # 60 M parameters, 44 M of them in blocks


@torch.no_grad()
def two_forward_passes(model: LlamaForCausalLM, tokens: torch.Tensor, batch_size: int) -> None:
    for _ in range(2):
        for batch in tokens.split(batch_size):
            model(batch, use_cache=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="pairs of passes and prunings (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--batch-size", type=int, default=8, help="sequences that run together, in both (default 8)")
    options = parser.parse_args()
    size = options.batch_size
    torch.set_num_threads(options.threads)
    model, tokens = random_llama(**SHAPE), random_tokens(32, 256)
    pairs: dict[str, list[dict]] = {"wanda": [], "sparsegpt": []}
    two_forward_passes(model, tokens[:8], options.batch_size)  # warm-up
    for _ in range(options.repeats):
        for method, measured in pairs.items():
            dense = copy.deepcopy(model)
            passes = timed(lambda: two_forward_passes(model, tokens, options.batch_size))
            pruning = timed(
                lambda: lab.prune(dense, tokens, method=method, sparsity=0.5, batch_size=size)  # noqa: B023
            )
            measured.append({clock: {"passes": passes[clock], "pruning": pruning[clock]} for clock in passes})
            print(method, {clock: round(pruning[clock] / passes[clock], 3) for clock in passes}, flush=True)
    summary = {
        method: {
            clock: {
                "ratio": statistics.median(pair[clock]["pruning"] / pair[clock]["passes"] for pair in measured),
                "passes_seconds": statistics.median(pair[clock]["passes"] for pair in measured),
            }
            for clock in ("wall", "processor")
        }
        for method, measured in pairs.items()
    }
    about = {
        **describe_machine(), "tokens": list(tokens.shape), "repeats": options.repeats,
        "parameters": sum(p.numel() for p in model.parameters()), "batch_size": options.batch_size,
    }  # fmt: skip
    write_result(OUT, {**about, "median_over_pairs": summary})
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
