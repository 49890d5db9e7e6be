"""What unstructured zeros buy in speed: a matrix product with the zeros stored, and with the zeros left out."""

import statistics
import time
import warnings
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

LEAST_SECONDS = 0.02


def sparse_product_times(
    sparsities: Sequence[float], *, width: int = 1024, n_tokens: int = 256, repeats: int = 5
) -> pd.DataFrame:
    """Time a square weight times the inputs of some tokens, dense and in torch's compressed rows (CSR), on the CPU.

    >>> times = sparse_product_times([0.5, 0.9, 0.99])

    The clock is the processor's, over as many products in a row as take some milliseconds.

    Returns:
        one row per sparsity: `sparsity, dense_ms, sparse_ms` (medians over repeats in turn), `ratio` (sparse / dense;
        below 1 the zeros pay), `dense_megabytes, sparse_megabytes` (values, column numbers and row starts).
    """
    generator = torch.Generator().manual_seed(0)
    inputs, rows = torch.randn(width, n_tokens, generator=generator), []
    for sparsity in sparsities:
        weight = torch.randn(width, width, generator=generator)
        weight[torch.rand(width, width, generator=generator) < sparsity] = 0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            compressed = weight.to_sparse_csr()
        pairs = [tuple(_seconds(matrix, inputs) for matrix in (weight, compressed)) for _ in range(repeats + 1)]
        dense, sparse = (statistics.median(pair[side] for pair in pairs[1:]) * 1e3 for side in (0, 1))
        parts = (compressed.values(), compressed.col_indices(), compressed.crow_indices())
        size = sum(part.numel() * part.element_size() for part in parts) / 1e6
        rows.append(
            {
                "sparsity": sparsity, "dense_ms": dense, "sparse_ms": sparse, "ratio": sparse / dense,
                "dense_megabytes": weight.numel() * weight.element_size() / 1e6, "sparse_megabytes": size,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def pays_from(times: pd.DataFrame, small: str, large: str) -> float | None:
    """The lowest sparsity from which on one column of `sparse_product_times` stays below another; None for nowhere.

    >>> pays_from(times, "sparse_ms", "dense_ms")  # the sparsity from which on leaving zeros out is faster
    """
    ordered = times.sort_values("sparsity", ascending=False)
    below = (ordered[small] < ordered[large]).cummin()
    return float(ordered.loc[below, "sparsity"].min()) if below.any() else None


def _seconds(matrix: Tensor, inputs: Tensor) -> float:
    started, spent, count = time.process_time(), 0.0, 0
    while spent < LEAST_SECONDS:
        matrix @ inputs
        count += 1
        spent = time.process_time() - started
    return spent / count
