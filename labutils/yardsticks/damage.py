"""One model damaged in many ways, each read and undone: pruned, quantised, both, or with fewer blocks.

An arm is written as steps joined by "+": "wanda@0.5" (method and sparsity), "wanda/2:4" (method and pattern), "rtn4" or
"Q4_0" (a kind of quantisation), "blocks@2" (two blocks fewer), "wanda@0.5+rtn4" (pruned, then quantised).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType

import pandas as pd
import torch
from jaxtyping import Int64
from joblib import delayed
from torch import Tensor
from transformers import PreTrainedModel

from labutils.core.progress import progress
from labutils.core.provenance import hash_tensors
from labutils.core.separate_tasks import separate_tasks
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.pruning.patterns import parse_pattern
from labutils.pruning.pipeline import prune
from labutils.pruning.requests import with_registrations
from labutils.quantisation.orders import prune_and_quantise
from labutils.quantisation.quantise import check_fits, list_kinds, quantise
from labutils.runner.finished_runs import FinishedRuns
from labutils.structured.silencing import silence_blocks
from labutils.yardsticks.reading import add_arm

Read = Callable[[PreTrainedModel], dict[str, pd.DataFrame]]
DENSE = "dense"
BLOCKS = "blocks"
NOTHING_KEPT = FinishedRuns(None, format=1)


@dataclass(frozen=True)
class Step:
    """One step of an arm.

    Attributes:
        name: a method of pruning, a kind of quantisation, or "blocks".
        amount: sparsity of a pruning, or number of blocks.
        pattern: of a pruning.
    """

    name: str
    amount: float = 0.0
    pattern: str = "unstructured"

    @property
    def prunes(self) -> bool:
        return self.name != BLOCKS and self.name not in list_kinds()


def parse_arm(arm: str) -> list[Step]:
    """The steps of an arm; none of "dense".

    >>> parse_arm("wanda@0.5+rtn4")
    [Step(name='wanda', amount=0.5, pattern='unstructured'), Step(name='rtn4', ...)]

    Raises:
        ValueError: a step that is no method with a sparsity or pattern, no kind, and no number of blocks; or steps that
            do not go together.
    """
    steps = [] if arm == DENSE else [_parse_step(step, arm) for step in arm.split("+")]
    alike = len(steps) == 2 and (steps[0].prunes == steps[1].prunes or BLOCKS in (steps[0].name, steps[1].name))
    if len(steps) > 2 or alike:
        raise ValueError(f"arm {arm!r}: one step, or a pruning and a quantisation in either order")
    return steps


def _parse_step(text: str, arm: str) -> Step:
    if text in list_kinds():
        return Step(text)
    name, at, amount = text.partition("@")
    if at and name and amount.replace(".", "", 1).isdigit():
        return Step(name, float(amount))
    name, slash, pattern = text.partition("/")
    if slash and name and (parsed := parse_pattern(pattern)):
        return Step(name, 1 - parsed[0] / parsed[1], pattern)
    raise ValueError(
        f"arm {arm!r}: {text!r} is neither method@sparsity, method/N:M, blocks@number, nor one of "
        f"{', '.join(list_kinds())}"
    )


def read_damaged(
    model: PreTrainedModel,
    calibrations: Sequence[Int64[Tensor, "n seq_len"]],
    arms: Sequence[str],
    read: Read,
    *,
    otherwise: Mapping[str, Read] = MappingProxyType({}),
    kept: FinishedRuns = NOTHING_KEPT,
    key: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, pd.DataFrame]:
    """Read a model as it is, then damaged by every arm with every calibration draw; it is dense again at the end.

    Arms are tasks of joblib: `with joblib.parallel_config(n_jobs=2)` reads two at a time, and holds a copy of the model
    for each task that runs or waits. Processes may compute with fewer threads than this one, and so round otherwise.

    >>> read_damaged(model, [tokens], ["wanda@0.5", "rtn4"], Reader(tokenizer, questions))["questions"]

    Args:
        calibrations: token ids of each draw.
        read: see `Reader`; the first call is with the dense model.
        otherwise: arms that are read by another function, which may return fewer frames.
        kept: where the frames of finished arms are kept; what is there is not done again.
        key: all that these frames depend on beside arm and calibration, as JSON can hold it.

    Returns:
        the frames of `read` with ``arm, draw, zeros`` (share of zeros among the blocks' weights). The dense model has
        draw −1. What no calibration changes is read once, and stands there for every draw.

    Raises:
        ValueError: an unknown arm, no draw, joblib set to threads, or as `prune` and `quantise`.
    """
    plans = {arm: parse_arm(arm) for arm in arms}
    if not len(calibrations):
        raise ValueError("at least one calibration draw is needed")
    check_arms(model, plans)
    parallel = separate_tasks()
    parts = [add_arm(read(model), arm=DENSE, draw=-1, zeros=share_of_zeros(model))]
    jobs = [
        (arm, draw) for arm, steps in plans.items() for draw in range(len(calibrations) if needs_draws(steps) else 1)
    ]
    keys = [_arm_key(arm, calibrations[draw], key, otherwise_read=arm in otherwise) for arm, draw in jobs]
    finished = [kept.has_frames(own) for own in keys]
    run_arm = with_registrations(_read_arm)
    run = parallel(
        delayed(run_arm)(model, arm, calibrations[draw], otherwise.get(arm, read))
        for (arm, draw), known in zip(jobs, finished, strict=True)
        if not known
    )
    told = progress(list(zip(jobs, keys, finished, strict=True)), description="damage and read", unit="arm")
    for (arm, draw), own, known in told:
        # read and kept here: where the others run there need not be the same disk
        found = kept.read_frames(own) if known else next(run)
        if not known:
            kept.write_frames(own, found)
        stands_for = [draw] if needs_draws(plans[arm]) else range(len(calibrations))
        parts += [add_arm(found, draw=each) for each in stands_for]
    names = dict.fromkeys(chain.from_iterable(parts))
    return {name: pd.concat([part[name] for part in parts if name in part], ignore_index=True) for name in names}


def _arm_key(
    arm: str, tokens: Int64[Tensor, "n seq_len"], key: Mapping[str, object], *, otherwise_read: bool
) -> dict[str, object]:
    """What the frames of an arm depend on."""
    drawn = hash_tensors({"input_ids": tokens}) if needs_draws(parse_arm(arm)) else None
    return {**key, "arm": arm, "texts only": otherwise_read, "calibration": drawn}


def _read_arm(
    model: PreTrainedModel, arm: str, tokens: Int64[Tensor, "n seq_len"], read: Read
) -> dict[str, pd.DataFrame]:
    """The frames of one arm; the model is what it was at the end."""
    with undone(model):
        _apply(model, tokens, parse_arm(arm))
        return add_arm(read(model), arm=arm, zeros=share_of_zeros(model))


def check_arms(model: PreTrainedModel, plans: Mapping[str, Sequence[Step]]) -> None:
    """ValueError, naming the arm, where one cannot be carried out on a model: before an hour of others was.

    >>> check_arms(model, {"blocks@9": parse_arm("blocks@9")})
    """
    n_blocks = len(find_blocks(model)[1])
    for arm, steps in plans.items():
        for step in steps:
            try:
                if step.name == BLOCKS:
                    _check_blocks(step.amount, n_blocks)
                elif not step.prunes:
                    check_fits(model, step.name)
            except ValueError as error:
                raise ValueError(f"arm {arm!r}: {error}") from error


def needs_draws(steps: Sequence[Step]) -> bool:
    """Whether the calibration matters to an arm.

    >>> needs_draws(parse_arm("magnitude@0.5"))
    False
    """
    return any(step.prunes and step.name != "magnitude" for step in steps)


def _apply(model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], steps: Sequence[Step]) -> None:
    if len(steps) == 2:
        first, second = steps
        order = "prune first" if first.prunes else "quantise first"
        pruning, kind = (first, second) if first.prunes else (second, first)
        prune_and_quantise(
            model, tokens, order=order, method=pruning.name, sparsity=pruning.amount, kind=kind.name,
            pattern=pruning.pattern,
        )  # fmt: skip
        return
    for step in steps:
        if step.name == BLOCKS:
            silence_deepest(model, tokens[:1], int(step.amount))
        elif step.prunes:
            prune(model, tokens, method=step.name, sparsity=step.amount, pattern=step.pattern)
        else:
            quantise(model, step.name)


def silence_deepest(model: PreTrainedModel, tokens: Int64[Tensor, "1 seq_len"], n: int) -> None:
    """Let the deepest `n` blocks but the last add nothing, in place: the rule of 'The Unreasonable Ineffectiveness …'.

    >>> silence_deepest(model, tokens[:1], 2)

    Source: Gromov et al. 2024 (2403.17887), the simple rule: the last block stays. How: `structured.silencing`.

    Raises:
        ValueError: a number of blocks that there are not, or blocks that do not pass on what they get. The model is as
            it was.
    """
    n_blocks = len(find_blocks(model)[1])
    _check_blocks(n, n_blocks)
    silence_blocks(model, range(n_blocks - 1 - n, n_blocks - 1), tokens)


def _check_blocks(n: int | float, n_blocks: int) -> None:
    if not 0 <= n < n_blocks or n != int(n):
        most = n_blocks - 1
        raise ValueError(f"{n:g} of {n_blocks} blocks cannot be left out while the last stays; give 0 to {most}")


@contextmanager
def undone(model: PreTrainedModel) -> Iterator[None]:
    """Within it the blocks of a model may be changed in place; at the end all their parameters are what they were.

    >>> with undone(model):
    ...     lab.prune(model, tokens, method="wanda", sparsity=0.5)
    """
    parameters = list(find_blocks(model)[1].parameters())
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, before in zip(parameters, kept, strict=True):
                parameter.copy_(before)


def share_of_zeros(model: PreTrainedModel) -> float:
    """Share of zeros among the weights that `prune` would prune.

    >>> share_of_zeros(model)
    """
    weights = [weight_matrix(layer) for block in find_blocks(model)[1] for layer in prunable_layers(block).values()]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
