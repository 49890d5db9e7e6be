"""`shrink_by_curvature`: neurons taken out in several shots, with updates of the weights that stay (LLM Surgeon)."""

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.core.options import suggest
from labutils.core.progress import progress
from labutils.models.structure import check_finite, find_blocks, prunable_layers, weight_matrix
from labutils.models.wrappers import bare_model
from labutils.pruning.inputs import Calibration
from labutils.structured.anatomy import Anatomy, read_anatomies
from labutils.structured.curvature import Factors, layer_factors
from labutils.structured.kronecker import UPDATES, damped, remove_rows, row_costs
from labutils.structured.report import Smaller, count_blocks
from labutils.structured.surgery import carve, plan_surgery
from labutils.structured.unit_allocation import Key, Removed, overall
from labutils.structured.views import unit_rows
from labutils.structured.width import as_removal, check_any, check_budget, check_parts, check_request, report_units

MATRICES = ("all", "columns")


def shrink_by_curvature(
    model: nn.Module,
    calibration: Calibration,
    *,
    share: float,
    shots: int = 4,
    update: str = "correlated",
    matrices: str = "all",
    batch_size: int = 8,
) -> Smaller:
    """A narrower model, without the neurons whose absence a Kronecker-factored curvature says costs least.

    >>> smaller, report = lab.structured.shrink_by_curvature(model, tokens, share=0.2)

    A neuron is a row of each matrix that makes it and a column of the one that reads it; its cost is the sum of theirs.
    The lowest of all blocks go, a `shots`-th of the share in each shot; then the rows and columns that stay are changed
    to make up for them, and the curvature is read anew on the changed model. Each matrix has a curvature of its own, so
    that what goes is made up for in each (`kronecker`). The paper takes 40 shots, and rows and columns one by one,
    which leaves zeros and no smaller model. One float32 copy of both factors of each matrix is held at a time.

    Args:
        calibration, share: as in `shrink`.
        update: "correlated" (what goes together is made up for together), "independent" (each by itself), "none".
        matrices: "all", or "columns" for updates of the matrix that reads the neurons alone.

    Raises:
        ValueError: as `shrink`; no causal model; shots, update or matrices that cannot be; a curvature that is not
            finite.
        LookupError: as `shrink`.

    Returns:
        the model; the report's table has the cost that each neuron had in the last shot in which it was there.
    """
    started, model = time.perf_counter(), bare_model(model)
    check_request(share, ("neurons",))
    _check_options(shots, update, matrices)
    check_finite(model)
    anatomies = read_anatomies(model)
    check_parts(model, anatomies, ["neurons"])
    surgeon = _Surgeon(copy.deepcopy(model), anatomies, update, matrices)
    counts, budget = {key: anatomies[key[0]].mlp.width for key in surgeon.unit_costs}, share * count_blocks(model)
    check_budget(counts, surgeon.unit_costs, budget, share)
    removed: Removed = {key: [] for key in counts}
    for shot in progress(range(1, shots + 1), description="remove by curvature", unit="shot"):
        removed = surgeon.shoot(calibration, removed, budget * shot / shots, batch_size)
    check_any(removed, share, ["neurons"])
    removal = as_removal(removed)
    smaller = carve(surgeon.model, removal, anatomies)
    asked = {"method": "curvature", "share": share, "shots": shots, "update": update, "matrices": matrices}
    report = report_units(model, smaller, removed, surgeon.unit_costs, surgeon.scores, asked)
    widths = plan_surgery(model, removal, anatomies).widths
    return Smaller(smaller, replace(report, widths=widths, seconds=time.perf_counter() - started))


def _check_options(shots: object, update: object, matrices: object) -> None:
    if isinstance(shots, bool) or not isinstance(shots, Integral) or shots < 1:
        raise ValueError(f"shots={shots!r} must be a whole number of at least 1.")
    for name, value, known in (("update", update, UPDATES), ("matrices", matrices, MATRICES)):
        if value not in known:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(known)}.{suggest(str(value), known)}")


class _Part(NamedTuple):
    """A matrix, or its transpose, such that what belongs to neurons are rows; those that are left, and a reader's bias.

    Attributes:
        rows: their places in the whole; `units` tells which of them belong to each neuron that is left.
        other: the damped factor of the other side; `inverse` of the rows' own.
    """

    whole: Float[Tensor, "all other"]
    rows: Int64[Tensor, " rows"]
    units: Int64[Tensor, "alive k"]
    other: Float[Tensor, "other other"]
    inverse: Float[Tensor, "rows rows"]


class _Surgeon:
    """A copy of the model, on which neurons are zero from the shot on in which they go.

    Attributes:
        unit_costs: parameters of one neuron, by block; `scores` of each neuron, in the last shot that read it.
    """

    def __init__(self, model: PreTrainedModel, anatomies: Sequence[Anatomy], update: str, matrices: str):
        self.model, self.update, self.matrices = model, update, matrices
        self._layers: list[dict[str, nn.Module]] = []
        self._rows: list[dict[str, Tensor]] = []
        self.unit_costs: dict[Key, int] = {}
        self.scores: dict[Key, Tensor] = {}
        for index, (block, anatomy) in enumerate(zip(find_blocks(model)[1], anatomies, strict=True)):
            layers = prunable_layers(block)
            rows = dict(unit_rows(anatomy, "neurons", layers))
            self._rows.append(rows)
            self._layers.append({name: layers[name] for name in (*rows, anatomy.mlp.out)})
            made = sum(own.shape[1] * _with_bias(layers[name]).shape[1] for name, own in rows.items())
            self.unit_costs[index, "neurons"] = made + weight_matrix(layers[anatomy.mlp.out]).shape[0]
            self.scores[index, "neurons"] = torch.empty(anatomy.mlp.width, dtype=torch.float64)

    def shoot(self, calibration: Calibration, removed: Removed, budget: float, batch_size: int) -> Removed:
        """Read the curvature, choose what else goes until so many parameters are gone, and change what stays."""
        factors = layer_factors(self.model, calibration, self._layers, batch_size=batch_size)
        ranks = {}
        for key, own in progress(self.scores.items(), description="costs", unit="block"):
            alive = self._alive(key, removed)
            own[alive] = sum(_costs(self._part(key[0], name, alive, each)) for name, each in factors[key[0]].items())
            ranks[key] = own.clone()
            ranks[key][torch.tensor(removed[key], dtype=torch.int64)] = float("-inf")
        chosen = overall(ranks, self.unit_costs, budget)
        for key in progress(self.scores, description="updates", unit="block"):
            alive = self._alive(key, removed)
            going = torch.isin(alive, torch.tensor(chosen[key], dtype=torch.int64))
            for name, each in factors[key[0]].items() if going.any() else ():
                part = self._part(key[0], name, alive, each)  # anew: all inverses at once would not fit into memory
                self._operate(key[0], name, part, part.units[going])
        return chosen

    def _alive(self, key: Key, removed: Removed) -> Int64[Tensor, " alive"]:
        units = torch.arange(len(self.scores[key]))
        return units[~torch.isin(units, torch.tensor(removed[key], dtype=torch.int64))]

    def _part(self, index: int, name: str, alive: Int64[Tensor, " alive"], factors: Factors) -> _Part:
        whole, of_makers = _with_bias(self._layers[index][name]), self._rows[index]
        makes, sides = name in of_makers, (factors.gradients, factors.inputs)
        own, other = sides if makes else sides[::-1]
        places = of_makers[name][alive] if makes else alive[:, None]
        units = torch.arange(places.numel()).reshape(places.shape)
        rows = places.flatten()
        if not makes and len(whole.T) > len(self.scores[index, "neurons"]):
            rows = torch.cat([rows, torch.tensor([len(whole.T) - 1])])  # the bias
        inverse = torch.linalg.inv(damped(own[rows][:, rows]))
        return _Part(whole if makes else whole.T, rows, units, damped(other), inverse)

    @torch.no_grad()
    def _operate(self, index: int, name: str, part: _Part, going: Int64[Tensor, "going k"]) -> None:
        makes = name in self._rows[index]
        update = "none" if makes and self.matrices == "columns" else self.update
        whole = part.whole.double().clone()
        whole[part.rows] = remove_rows(whole[part.rows], part.inverse, going, update)
        layer, found = self._layers[index][name], whole if makes else whole.T
        weight = weight_matrix(layer)
        weight.copy_(found[:, : weight.shape[1]])
        if layer.bias is not None:
            layer.bias.copy_(found[:, -1])


def _costs(part: _Part) -> Float[Tensor, " alive"]:
    return row_costs(part.whole[part.rows], part.other, part.inverse, part.units)


def _with_bias(layer: nn.Module) -> Float[Tensor, "out in"]:
    """The weight as (out × in), with the bias as one more column where there is one; float32 on the CPU."""
    weight = weight_matrix(layer).detach().float().cpu()
    return weight if layer.bias is None else torch.cat([weight, layer.bias.detach().float().cpu()[:, None]], dim=1)
