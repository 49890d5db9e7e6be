"""`shrink_by_losses`: units taken out by forward passes alone, with random halves of the candidates off (Bonsai)."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from numbers import Integral

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.models.modes import eval_mode
from labutils.models.structure import check_causal, find_blocks
from labutils.models.wrappers import bare_model
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.inputs import Calibration
from labutils.structured.anatomy import Anatomy, read_anatomies
from labutils.structured.mask_regression import draw_pairs, fit_importance
from labutils.structured.masking import masked
from labutils.structured.paths import next_token_losses
from labutils.structured.report import Smaller, count_blocks
from labutils.structured.surgery import carve, plan_surgery
from labutils.structured.unit_allocation import Key, Removed, lowest, uniform
from labutils.structured.unit_scores import UNIT_SCORES
from labutils.structured.views import KINDS, make_view, walk_activations
from labutils.structured.width import (
    as_removal,
    check_any,
    check_budget,
    check_parts,
    check_request,
    group_numbers,
    padded_groups,
    report_units,
)

Masks = dict[Key, Bool[Tensor, "masks units"]]  # True where a unit is on


def shrink_by_losses(
    model: nn.Module,
    calibration: Calibration,
    *,
    share: float,
    units: Sequence[str] = ("neurons",),
    rounds: int = 5,
    masks: int = 200,
    prior: str = "wanda-sp",
    batch_size: int = 8,
    seed: int = 0,
) -> Smaller:
    """A narrower model, chosen by the losses of models in which units are off: Bonsai's way, without any gradient.

    >>> smaller, report = lab.structured.shrink_by_losses(model, tokens, share=0.2)

    Every block loses equally many units, in rounds. In a round, the candidates of a block are twice as many units as
    shall go, those of lowest prior on the model so far. Masks switch off one half of all blocks' candidates or the
    other, and a ridge regression of the mean next-token loss on the masks, around the prior, says which half goes.
    `masks` passes over the calibration are run in every round. The paper takes 400 masks, and a twentieth of the units
    in each round, chosen by perplexity; a loss that is not finite counts here as the worst finite one.

    Args:
        calibration, share, units: as in `shrink`.
        masks: per round, an even number of at least four: each mask comes with its complement.
        prior: a score of units that reads no gradients, by name.
        seed: of the masks.

    Returns:
        the model; the report's table has the importance that each unit had in the round in which it was last a
        candidate (in nats per token), and infinity for one that never was.

    Raises:
        ValueError: as `shrink`; no causal model; rounds or masks that cannot be; or no mask with a finite loss.
        LookupError: as `shrink`, or a prior that reads gradients.
    """
    started, model = time.perf_counter(), bare_model(model)
    check_causal(model, "a regression on its losses")
    check_request(share, units)
    _check_numbers(rounds, masks)
    score = UNIT_SCORES[prior]
    kinds = [kind for kind in KINDS if kind in units]
    if score.gradients or set(kinds) - set(score.kinds):
        raise LookupError(f"prior={prior!r} must score {', '.join(kinds)}, and read no gradients.")
    anatomies = read_anatomies(model)
    check_parts(model, anatomies, kinds)
    groups = group_numbers(model, anatomies) if "groups" in kinds else []
    search = _Search(model, calibration, anatomies, kinds, prior, batch_size)
    priors = search.read_priors({})
    budget = share * count_blocks(model)
    check_budget({key: len(own) for key, own in priors.items()}, search.costs, budget, share)
    may_go = {"groups": [groups[-1] - left for left in groups]} if groups else None
    wanted = {key: len(own) for key, own in uniform(priors, search.costs, budget, may_go).items()}
    check_any({key: list(range(count)) for key, count in wanted.items()}, share, kinds, groups)
    removed, importance = search.run(priors, wanted, rounds, masks, seed)
    removal = as_removal(removed)
    padded = padded_groups(removal, anatomies, groups)
    smaller = carve(model, removal, anatomies, n_groups=padded)
    asked = {"method": "losses", "share": share, "units": tuple(kinds), "rounds": rounds, "masks": masks}
    report = report_units(model, smaller, removed, search.costs, importance, asked | {"prior": prior, "seed": seed})
    widths = plan_surgery(model, removal, anatomies, n_groups=padded).widths
    return Smaller(smaller, replace(report, widths=widths, seconds=time.perf_counter() - started))


def _check_numbers(rounds: object, masks: object) -> None:
    if isinstance(rounds, bool) or not isinstance(rounds, Integral) or rounds < 1:
        raise ValueError(f"rounds={rounds!r} must be a whole number of at least 1.")
    if isinstance(masks, bool) or not isinstance(masks, Integral) or masks < 4 or masks % 2:
        raise ValueError(f"masks={masks!r} must be an even number of at least 4: each comes with its complement.")


class _Search:
    """One search: the dense model, its calibration, and what units cost."""

    def __init__(
        self, model: PreTrainedModel, calibration: Calibration, anatomies: Sequence[Anatomy], kinds: Sequence[str],
        prior: str, batch_size: int,
    ):  # fmt: skip
        self.model, self.anatomies, self.kinds = model, anatomies, kinds
        self.walk = BlockWalk(model, calibration, batch_size=batch_size)
        self.score, self.costs = UNIT_SCORES[prior], {}

    def read_priors(self, removed: Removed) -> dict[Key, Float[Tensor, " units"]]:
        """The prior of all units, on the model without those that are gone."""
        blocks, found = find_blocks(self.model)[1], {}
        pairs = "unit" if self.score.moments else "none"
        with masked(self.model, as_removal(removed), self.anatomies):
            for key, own in walk_activations(self.walk, self.anatomies, self.kinds, pairs=pairs):
                view = make_view(blocks[key[0]], key[0], self.anatomies[key[0]], key[1], own)
                found[key], self.costs[key] = self.score.of_units(view), view.cost
        return found

    def run(
        self, priors: dict[Key, Tensor], wanted: Mapping[Key, int], rounds: int, masks: int, seed: int
    ) -> tuple[Removed, dict[Key, Tensor]]:
        """What goes, and the importance of each unit when it was last a candidate."""
        generator = torch.Generator().manual_seed(seed)
        removed: Removed = {key: [] for key in wanted}
        importance = {key: torch.full_like(own, float("inf")) for key, own in priors.items()}
        for step in range(1, rounds + 1):
            now = {key: round(count * step / rounds) - len(removed[key]) for key, count in wanted.items()}
            if not any(now.values()):
                continue
            priors = self.read_priors(removed) if step > 1 else priors
            candidates = _candidates(priors, removed, now)
            found = self._regress(priors, removed, candidates, now, masks, generator)
            for key, own in candidates.items():
                importance[key][own] = found[key]
                removed[key] = sorted([*removed[key], *own[lowest(found[key], now[key])].tolist()])
        return removed, importance

    def _regress(
        self, priors: Mapping[Key, Tensor], removed: Removed, candidates: Mapping[Key, Tensor],
        now: Mapping[Key, int], n_masks: int, generator: torch.Generator,
    ) -> dict[Key, Float[Tensor, " candidates"]]:  # fmt: skip
        """The importance of the candidates: one regression for all blocks, priors in units of each part's mean."""
        own = {key: priors[key][places] for key, places in candidates.items()}
        drawn = {key: draw_pairs(own[key], now[key], n_masks // 2, generator) for key in candidates}
        masks = {key: _whole(priors[key], removed[key], candidates[key], drawn[key]) for key in candidates}
        losses = worst_for_broken(mask_losses(self.walk, self.anatomies, masks))
        starts = [values / values.mean() if values.sum() > 0 else torch.ones_like(values) for values in own.values()]
        fit = fit_importance(losses, torch.cat(list(drawn.values()), dim=1), torch.cat(starts))
        parts = fit.importance.split([len(places) for places in candidates.values()])
        return dict(zip(candidates, parts, strict=True))


def _candidates(priors: Mapping[Key, Tensor], removed: Removed, now: Mapping[Key, int]) -> dict[Key, Tensor]:
    """Of every part the units of lowest prior that are left, twice as many as shall go, in order of the prior."""
    found = {}
    for key, count in now.items():
        if count:
            order = torch.sort(priors[key], stable=True).indices
            alive = order[~torch.isin(order, torch.tensor(removed[key], dtype=torch.int64))]
            found[key] = alive[: 2 * count]
    return found


def _whole(prior: Tensor, removed: Sequence[int], places: Tensor, drawn: Bool[Tensor, "masks own"]) -> Tensor:
    """Masks of all units of a part: those that are gone stay off, those that are no candidates on."""
    found = torch.ones(len(drawn), len(prior), dtype=torch.bool)
    found[:, places] = drawn
    found[:, torch.tensor(removed, dtype=torch.int64)] = False
    return found


def mask_losses(walk: BlockWalk, anatomies: Sequence[Anatomy], masks: Masks) -> Float[Tensor, " masks"]:
    """The mean next-token loss of the calibration's sequences under each mask, in nats, double.

    >>> mask_losses(walk, read_anatomies(model), {(0, "neurons"): torch.ones(4, 256, dtype=torch.bool)})
    """
    found = []
    for number in range(len(next(iter(masks.values())))):
        values = []
        with _switched(walk, anatomies, {key: own[number] for key, own in masks.items()}), eval_mode(walk.model):
            for batch in range(len(walk.hidden)):
                inputs = walk.batch_inputs(batch)
                logits = walk.forward(inputs).logits
                values.append(next_token_losses(logits, inputs["input_ids"], inputs.get("attention_mask")))
        found.append(torch.cat(values).mean())
    return torch.stack(found)


def worst_for_broken(losses: Float[Tensor, " masks"]) -> Float[Tensor, " masks"]:
    """Losses that are not finite in the place of the largest finite one.

    Raises:
        ValueError: none is finite.
    """
    finite = losses.isfinite()
    if not finite.any():
        raise ValueError(
            "no mask has a finite loss on the calibration; load the model in float32, or give other texts."
        )
    return torch.where(finite, losses, losses[finite].max())


@contextmanager
def _switched(
    walk: BlockWalk, anatomies: Sequence[Anatomy], masks: Mapping[Key, Bool[Tensor, " units"]]
) -> Iterator[None]:
    """Within it the channels of units that are off are zero where the part's last matrix reads them."""
    with ExitStack() as hooks:
        for (index, kind), on in masks.items():
            part = getattr(anatomies[index], KINDS[kind])
            channels = on if kind == "neurons" else on.repeat_interleave(part.width)
            layer = walk.block(index).get_submodule(part.out)
            hooks.enter_context(layer.register_forward_pre_hook(_silencer(channels)))
        yield


def _silencer(channels: Bool[Tensor, " channels"]):
    def silence(layer: nn.Module, args: tuple) -> tuple:
        return (args[0].masked_fill(~channels.to(args[0].device), 0), *args[1:])

    return silence
