"""What does pruning a model of seven billion parameters cost on one accelerator, and what do 2:4 kernels gain?

A Llama of Llama-2-7B's shape with random bfloat16 weights, made on the device; 128 × 2048 random tokens; sparsity 0.5.
Measured are the seconds and the peak device memory of `prune` by Wanda and by SparseGPT (Hessians in float32), beside
one bare pass of the same tokens through the blocks. Then dense matrix products against the same products with a
2:4 sparse left matrix (`torch.sparse.to_sparse_semi_structured`), at the shapes of that model.

    python benchmarks/gpu_pruning.py --out benchmarks/results/gpu_pruning.json

SparseGPT first prunes two blocks only; where all of them would take longer than `--limit` leaves, that is what is
reported. The file is written after every measurement, so that a stop loses one. `--tiny --device cpu` shows that the
script runs, where there is no accelerator; it measures nothing of interest.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from common import RESULTS, describe_machine, random_llama, random_tokens, timed, write_result
from torch import Tensor
from torch.sparse import SparseSemiStructuredTensor, to_sparse_semi_structured
from transformers import LlamaForCausalLM

import labutils as lab
from labutils.core.usage import peak_resident_megabytes

SHAPE = {"hidden": 4096, "intermediate": 11008, "heads": 32, "vocabulary": 32_000, "positions": 4096, "tied": False}
TINY = {**SHAPE, "hidden": 64, "intermediate": 192, "heads": 4, "vocabulary": 256}
BACKENDS = {"cutlass": True, "cusparselt": False}  # name → the value of torch's switch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu_pruning.json", help="result file")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="four small blocks and few tokens: does it run at all?")
    parser.add_argument("--limit", type=float, default=230, help="seconds that everything may take (default 230)")
    parser.add_argument("--batch-size", type=int, default=8, help="sequences that run together (default 8)")
    options = parser.parse_args()
    started = time.perf_counter()
    shape, n_blocks, n_tokens = (TINY, 4, (4, 64)) if options.tiny else (SHAPE, 32, (128, 2048))
    tokens = random_tokens(*n_tokens, vocabulary=shape["vocabulary"])
    about = {
        **describe_machine(options.device), "transformers": transformers.__version__, "tiny": options.tiny,
        "shape": {**shape, "blocks": n_blocks}, "tokens": list(n_tokens), "batch_size": options.batch_size,
        "sparsity": 0.5, "dtype": "bfloat16",
    }  # fmt: skip
    prunings: list[dict] = []
    kernels: list[dict] = []

    def keep() -> None:
        write_result(options.out, {**about, "prunings": prunings, "kernels": kernels})

    def prune(method: str, blocks: int) -> dict:
        prunings.append(measure_pruning(method, shape, blocks, tokens, options.device, options.batch_size))
        print({name: round(value, 2) if isinstance(value, float) else value for name, value in prunings[-1].items()})
        keep()
        return prunings[-1]

    prune("wanda", 2)  # also warms the device up
    prune("wanda", n_blocks)
    few = prune("sparsegpt", 2)
    for row in measure_kernels(options.device, tiny=options.tiny):
        kernels.append(row)
        print(row, flush=True)
        keep()
    forecast = few["wall"] * n_blocks / 2
    left = options.limit - (time.perf_counter() - started)
    if forecast < left:
        prune("sparsegpt", n_blocks)
    else:
        print(f"SparseGPT on all blocks would take {forecast:.0f} s, and {left:.0f} s are left: not measured.")


def measure_pruning(
    method: str, shape: dict, n_blocks: int, tokens: Tensor, device: str, batch_size: int
) -> dict[str, object]:
    """Seconds and peak memory of one pruning of a new model, and the seconds of a bare pass through its blocks."""
    gc.collect()
    model = random_llama(**shape, blocks=n_blocks, device=device, dtype=torch.bfloat16)
    passing = timed(lambda: pass_through_blocks(model, tokens, batch_size), device)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    reports = []
    taken = timed(
        lambda: reports.append(lab.prune(model, tokens, method=method, sparsity=0.5, batch_size=batch_size)), device
    )
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else peak_resident_megabytes() / 1e3
    return {
        "method": method, "blocks": n_blocks, "parameters": sum(p.numel() for p in model.parameters()),
        "weights_gigabytes": weights / 1e9, "peak_gigabytes": peak, **taken, "pass_wall": passing["wall"],
        "sparsity": reports[0].sparsity, "matrices_seconds": float(reports[0].layers["seconds"].sum()),
    }  # fmt: skip


@torch.no_grad()
def pass_through_blocks(model: LlamaForCausalLM, tokens: Tensor, batch_size: int) -> None:
    """Run all tokens through the blocks, without the head."""
    for batch in tokens.split(batch_size):
        model.model(batch.to(model.device), use_cache=False)


def measure_kernels(device: str, *, tiny: bool) -> list[dict[str, object]]:
    """Dense against 2:4 products of a weight [out, in] with inputs [n, in], bfloat16; what fails says why."""
    if device != "cuda":
        return [{"failed": "2:4 kernels need a CUDA device: not measured here"}]
    shapes = [(256, 256)] if tiny else [(4096, 4096), (11008, 4096), (4096, 11008)]
    rows = []
    for out, width in shapes:
        weight = torch.randn(out, width, device=device, dtype=torch.bfloat16)
        weight[:, ::4] = weight[:, 1::4] = 0
        for n in (64,) if tiny else (1, 64, 2048, 8192):
            inputs = torch.randn(n, width, device=device, dtype=torch.bfloat16)
            rows += [kernel_row(weight, inputs, backend) for backend in BACKENDS]
    return rows


def kernel_row(weight: Tensor, inputs: Tensor, backend: str) -> dict[str, object]:
    """Milliseconds of one product, dense and 2:4 by one of torch's backends, and how far their results differ."""
    about = {"out": weight.shape[0], "in": weight.shape[1], "n": len(inputs), "backend": backend}
    SparseSemiStructuredTensor._FORCE_CUTLASS = BACKENDS[backend]
    try:
        sparse = to_sparse_semi_structured(weight)
        found, expected = F.linear(inputs, sparse), F.linear(inputs, weight)
        difference = ((found - expected).float().norm() / expected.float().norm()).item()
        dense_ms = milliseconds(lambda: F.linear(inputs, weight))
        sparse_ms = milliseconds(lambda: F.linear(inputs, sparse))
    except (RuntimeError, NotImplementedError, ValueError) as error:
        return {**about, "failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    return {
        **about, "dense_ms": dense_ms, "sparse_ms": sparse_ms, "ratio": sparse_ms / dense_ms,
        "relative_difference": difference,
    }  # fmt: skip


def milliseconds(work: Callable[[], object], repeats: int = 20, calls: int = 10) -> float:
    """Median over repeats of the device time of one call."""
    for _ in range(5):
        work()
    found = []
    for _ in range(repeats):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(calls):
            work()
        stop.record()
        torch.cuda.synchronize()
        found.append(start.elapsed_time(stop) / calls)
    return statistics.median(found)


if __name__ == "__main__":
    main()
