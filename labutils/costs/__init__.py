"""What pruning costs in time and memory, what the zeros buy, and what the benchmarks found beside others.

>>> costs = lab.costs.pruning_costs(model, tokens, methods=["wanda", "sparsegpt"], sparsities=[0.5, 0.7])
>>> lab.costs.cost_curves(costs, title="What pruning costs")

Imports `core` for the clock, `pruning` for what is measured, `plots` and `stats` for figures. Measurements made in a
notebook are in `prunings` and `sparse_products`; a new benchmark writes its file into `benchmarks/results`, and
`results` gets a function that reads it as a table, or `ratios` one that tells its ratios.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "figures": [
            "added_loss_strips",
            "aim_points",
            "cost_curves",
            "forecast_points",
            "kernel_curves",
            "peer_bars",
            "size_curves",
            "sparse_product_curves",
        ],
        "prunings": ["pruning_costs", "random_llama", "size_costs"],
        "ratios": ["missed_aims", "ratio_results"],
        "results": [
            "forecast_results",
            "kernel_results",
            "peer_results",
            "read_benchmark",
            "streaming_results",
        ],
        "sparse_products": ["pays_from", "sparse_product_times"],
    },
)
