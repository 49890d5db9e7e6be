"""How fast smaller models read a prompt and write tokens: repeats of all models, each in an order of its own."""

import time
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from transformers import PreTrainedModel

from labutils.core.progress import progress
from labutils.models.modes import device_of, eval_mode


def time_models(
    models: Mapping[str, PreTrainedModel], *, batch_sizes: Sequence[int] = (1, 16), prompt: int = 64,
    new_tokens: int = 16, repeats: int = 9, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Milliseconds by the clock: of a prompt read at once, and of each token written after it with a cache.

    >>> times = time_models({"dense": model, "smaller": smaller})
    >>> times.groupby(["phase", "batch", "model"])["milliseconds"].median()

    Each repeat has every model once, in an order drawn anew, so that what else the machine does, and what the model
    before left in its caches, strikes all of them; one round before the first is thrown away. Tokens are random, and
    are written whatever the model would say.

    Returns:
        one row per repeat, model, batch size and phase ("prefill" or "decoding"): milliseconds.
    """
    generator, rows = torch.Generator().manual_seed(seed), []
    size = min(model.get_input_embeddings().weight.shape[0] for model in models.values())
    for batch in progress(list(batch_sizes), description="time models", unit="batch size"):
        ids = torch.randint(size, (batch, prompt + new_tokens), generator=generator)
        for repeat in progress(range(-1, repeats), description="repeats", unit="round"):
            for place in torch.randperm(len(models), generator=generator).tolist():
                name = list(models)[place]
                for phase, milliseconds in _time_one(models[name], ids, prompt).items():
                    rows.append((name, batch, phase, repeat, milliseconds))
    found = pd.DataFrame(rows, columns=["model", "batch", "phase", "repeat", "milliseconds"])
    found = found[found["repeat"] >= 0].copy()
    found["order"] = found["model"].map(list(models).index)  # rows stand in the order of the models all the same
    return found.sort_values(["batch", "repeat", "order"], kind="stable", ignore_index=True).drop(columns="order")


def relative_times(times: pd.DataFrame) -> pd.DataFrame:
    """Time relative to the dense model's in the same repeat: the median over repeats, and their middle half.

    >>> relative_times(time_models({"dense": model, "smaller": smaller}))

    Args:
        times: as `time_models` gives them, one of the models being "dense".

    Returns:
        a row per phase, batch and other model, the phases one after the other: ratio, low, high (the quartiles).

    Raises:
        LookupError: there is no dense model among them, or no other one.
    """
    if set(times["model"]) - {"dense"} in (set(), set(times["model"])):
        raise LookupError(f'times of "dense" and of another model are needed; there are {sorted(set(times["model"]))}.')
    cell = ["batch", "phase", "repeat"]
    dense = times[times["model"] == "dense"].set_index(cell)["milliseconds"]
    others = times[times["model"] != "dense"]
    ratio = others["milliseconds"].to_numpy() / dense.loc[pd.MultiIndex.from_frame(others[cell])].to_numpy()
    of_cell = others.assign(ratio=ratio).groupby(["phase", "batch", "model"], sort=False)["ratio"]
    return of_cell.quantile([0.5, 0.25, 0.75]).unstack().set_axis(["ratio", "low", "high"], axis=1).reset_index()


def _time_one(model: PreTrainedModel, ids: torch.Tensor, prompt: int) -> dict[str, float]:
    ids = ids.to(device_of(model))
    with eval_mode(model):
        started = _now(ids)
        past = model(input_ids=ids[:, :prompt], use_cache=True).past_key_values
        read = _now(ids)
        for place in range(prompt, ids.shape[1]):
            past = model(input_ids=ids[:, place : place + 1], past_key_values=past, use_cache=True).past_key_values
        done = _now(ids)
    return {"prefill": 1000 * (read - started), "decoding": 1000 * (done - read) / (ids.shape[1] - prompt)}


def _now(ids: torch.Tensor) -> float:
    """The clock, once the device has done what it was given."""
    if ids.is_cuda:
        torch.cuda.synchronize(ids.device)
    return time.perf_counter()
