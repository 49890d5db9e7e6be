"""How long does a grid of prunings take, in units of the separate calls of `prune` that give the same models?

Five methods at seven sparsities: one call of `prune_grid` against 35 calls of `prune`. Neither side evaluates; between
calls the dense weights are put back outside the clock. Calls and grids alternate, and the ratio is the median over
pairs. Both sides are on one thread; the wall clock and the processor time of the process are reported.

In sequence, the papers' protocol, the ratio has a floor, which stands beside it: the share of the calls' time that is
left when everything is shared that can be. From the second block on every pruning has inputs of its own, so that each
must run every block twice there (once for its statistics, once for the outputs of the pruned block) unless its score
reads the weights alone. Prunings by the dense model's activations (`sequential=False`) have no such floor.

    python benchmarks/grid_against_calls.py --repeats 3

writes `benchmarks/results/grid_against_calls.json`.
"""

import argparse
import statistics

import torch
from common import RESULTS, describe_machine, random_llama, random_tokens, timed, write_result
from transformers import PreTrainedModel

import labutils as lab
from labutils.models.structure import find_blocks
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.restoring import WeightSnapshot

METHODS = ("magnitude", "wanda", "ri", "ria", "sparsegpt")
TOKENLESS = ("magnitude", "ri")
PROTOCOLS = (("uniform", True), ("owl", True), ("uniform", False))  # allocation, and whether in sequence
SPARSITIES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def load_case(name: str) -> tuple[PreTrainedModel, torch.Tensor]:
    """A model and its calibration tokens."""
    if name == "lab-llama":
        model = lab.load_model("lab-llama")[0]
        return model, random_tokens(24, 128, model.config.vocab_size)
    model = random_llama(hidden=384, intermediate=1024, blocks=6, heads=6, vocabulary=8_000)
    return model, random_tokens(32, 256, 8_000)


def time_calls(model: PreTrainedModel, tokens: torch.Tensor, **protocol: object) -> dict[str, float]:
    """Seconds of all separate calls."""
    total = {"wall": 0.0, "processor": 0.0}
    with WeightSnapshot(find_blocks(model)[1]) as dense:
        for method in METHODS:
            for sparsity in SPARSITIES:
                spent = timed(lambda: lab.prune(model, tokens, method=method, sparsity=sparsity, **protocol))  # noqa: B023
                total = {clock: total[clock] + spent[clock] for clock in total}
                dense.restore()
    return total


def time_grid(model: PreTrainedModel, tokens: torch.Tensor, allocation: str, sequential: bool) -> dict[str, float]:
    """Seconds of the same prunings in one grid."""
    grid = lab.prune_grid(
        model, tokens, methods=METHODS, sparsities=SPARSITIES, allocations=[allocation], sequential=sequential,
        evaluate=lambda pruned: {},
    )  # fmt: skip
    return timed(lambda: list(grid))


def time_unshared(model: PreTrainedModel, tokens: torch.Tensor) -> float:
    """Processor seconds of the passes that no grid can share: blocks run twice from the second on (the last once)."""
    walk = BlockWalk(model, tokens)
    walk.advance(0)

    def run_blocks() -> None:
        for index in range(1, len(walk.blocks)):
            walk.collect(index, hessian=False)
            if index + 1 < len(walk.blocks):
                walk.advance(index)

    first = timed(lambda: BlockWalk(model, tokens).run(0))["processor"]
    once = timed(run_blocks)["processor"] + first
    return once * len(SPARSITIES) * sum(method not in TOKENLESS for method in METHODS)


def measure(name: str, allocation: str, sequential: bool, repeats: int) -> dict[str, object]:
    model, tokens = load_case(name)
    protocol, pairs = {"allocation": allocation, "sequential": sequential}, []
    for _ in range(repeats):
        pairs.append((time_calls(model, tokens, **protocol), time_grid(model, tokens, **protocol)))
        print(name, protocol, *pairs[-1], flush=True)
    clocks = tuple(pairs[0][0])
    floors = [time_unshared(model, tokens) / calls["processor"] if sequential else 0.0 for calls, _ in pairs]
    return {
        "model": name, "parameters": sum(p.numel() for p in model.parameters()), "tokens": list(tokens.shape),
        **protocol, "repeats": repeats,
        "ratio": {clock: statistics.median(grid[clock] / calls[clock] for calls, grid in pairs) for clock in clocks},
        "calls_seconds": {clock: statistics.median(calls[clock] for calls, _ in pairs) for clock in clocks},
        "floor": statistics.median(floors),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="pairs of calls and grids (default 3)")
    parser.add_argument("--models", nargs="+", default=["lab-llama", "llama-14M"], help="of lab-llama, llama-14M")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about, cases = {**describe_machine(), "methods": METHODS, "sparsities": SPARSITIES}, []
    for name in options.models:
        for allocation, sequential in PROTOCOLS:
            cases.append(measure(name, allocation, sequential, options.repeats))
            write_result(RESULTS / "grid_against_calls.json", {**about, "cases": cases})


if __name__ == "__main__":
    main()
