"""Time and memory of prunings by method, sparsity and model size, beside one bare pass over the same tokens."""

import copy
import inspect
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from labutils.core.profiling import Cost, measure_cost
from labutils.core.progress import progress
from labutils.models.structure import find_blocks, prunable_layers
from labutils.pruning import prune
from labutils.pruning.forecast import forecast

PASS = "one pass"


def random_llama(hidden: int, *, blocks: int = 4, vocabulary: int = 1024) -> LlamaForCausalLM:
    """A Llama with random weights of a given hidden size, for measurements of cost; its text means nothing.

    >>> random_llama(256, blocks=2)

    Heads are 32 wide, the inner width of the MLP is 8/3 of the hidden size, rounded up to a multiple of 32.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=-(-8 * hidden // 96) * 32,
        num_hidden_layers=blocks, num_attention_heads=hidden // 32, max_position_embeddings=2048,
        tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def pruning_costs(
    model: PreTrainedModel,
    tokens: Int64[Tensor, "n seq_len"],
    *,
    methods: Sequence[str],
    sparsities: Sequence[float],
    repeats: int = 3,
    name: str = "",
    batch_size: int = 8,
) -> pd.DataFrame:
    """Prune copies of a model in every way, `repeats` times in turn, and measure each pruning.

    >>> pruning_costs(model, tokens, methods=["wanda", "sparsegpt"], sparsities=[0.5], name="lab-llama")

    In turn, because the clock of a shared machine drifts: every repeat has one bare pass (`prune` runs about two) and
    one pruning of each kind. A first pruning, which is not measured, warms the machine up.

    Returns:
        one row per method, sparsity and repeat: `model, parameters` (in blocks), `method, sparsity, repeat, wall,
        processor, peak_megabytes`, and what `forecast` says beforehand, `forecast_seconds` and `forecast_megabytes`
        (beyond the model; NaN where it cannot tell). The bare pass has the method "one pass", sparsity 0 and no
        forecast.
    """
    device = model.device.type
    layers = [layer for block in find_blocks(model)[1] for layer in prunable_layers(block).values()]
    parameters = sum(layer.weight.numel() for layer in layers)
    about = {"model": name or type(model).__name__, "parameters": parameters}

    def pruned(method: str, sparsity: float) -> Cost:
        fresh = copy.deepcopy(model)
        return measure_cost(
            lambda: prune(fresh, tokens, method=method, sparsity=sparsity, batch_size=batch_size), device=device
        )

    kinds = [(method, sparsity) for method in methods for sparsity in sparsities]
    expected = {kind: _forecast(model, tuple(tokens.shape), *kind, batch_size) for kind in kinds}
    pruned(*kinds[0])
    rows = []
    for repeat in progress(range(repeats), description=f"cost of {about['model']}", unit="repeat"):
        found = {(PASS, 0.0): measure_cost(_bare_pass(model, tokens, batch_size), device=device)}
        found |= {kind: pruned(*kind) for kind in kinds}
        rows += [
            {
                **about,
                "method": kind[0],
                "sparsity": kind[1],
                "repeat": repeat,
                **cost._asdict(),
                **expected.get(kind, {}),
            }
            for kind, cost in found.items()
        ]
    return pd.DataFrame(rows)


def size_costs(
    hidden_sizes: Sequence[int],
    shape: tuple[int, int],
    *,
    methods: Sequence[str],
    sparsity: float,
    repeats: int = 3,
) -> pd.DataFrame:
    """As `pruning_costs`, for random Llamas of several hidden sizes on random tokens of a shape (n, seq_len).

    >>> size_costs([64, 128], (16, 128), methods=["wanda"], sparsity=0.5)
    """
    frames = []
    for hidden in hidden_sizes:
        model = random_llama(hidden)
        tokens = torch.randint(0, model.config.vocab_size, shape, generator=torch.Generator().manual_seed(0))
        options = {"methods": methods, "sparsities": [sparsity], "repeats": repeats}
        frames.append(pruning_costs(model, tokens, name=f"Llama, width {hidden}", **options))
    return pd.concat(frames, ignore_index=True)


def _forecast(
    model: PreTrainedModel, shape: tuple[int, int], method: str, sparsity: float, batch_size: int
) -> dict[str, float]:
    try:
        found = forecast(model, shape, method=method, sparsity=sparsity, batch_size=batch_size)
    except LookupError:  # a model whose cost cannot be told beforehand can be measured all the same
        return {"forecast_seconds": float("nan"), "forecast_megabytes": float("nan")}
    return {"forecast_seconds": found.seconds, "forecast_megabytes": (found.memory - found.parts["model"]) / 1e6}


def _bare_pass(model: PreTrainedModel, tokens: Tensor, batch_size: int) -> Callable[[], None]:
    takes = inspect.signature(model.base_model.forward).parameters
    no_cache = {"use_cache": False} if "use_cache" in takes else {}

    @torch.no_grad()
    def run() -> None:
        for batch in tokens.split(batch_size):
            model.base_model(batch.to(model.device), **no_cache)

    return run
