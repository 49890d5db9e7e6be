"""What pruning costs in time and memory, what the zeros buy, and what the benchmarks found beside others."""

from labutils.costs.figures import (
    added_loss_strips,
    cost_curves,
    forecast_points,
    kernel_curves,
    peer_bars,
    size_curves,
    sparse_product_curves,
)
from labutils.costs.prunings import pruning_costs, random_llama, size_costs
from labutils.costs.results import (
    forecast_results,
    kernel_results,
    other_results,
    peer_results,
    read_benchmark,
    streaming_results,
)
from labutils.costs.sparse_products import pays_from, sparse_product_times

__all__ = [
    "added_loss_strips",
    "cost_curves",
    "forecast_points",
    "forecast_results",
    "kernel_curves",
    "kernel_results",
    "other_results",
    "pays_from",
    "peer_bars",
    "peer_results",
    "pruning_costs",
    "random_llama",
    "read_benchmark",
    "size_costs",
    "size_curves",
    "sparse_product_curves",
    "sparse_product_times",
    "streaming_results",
]
