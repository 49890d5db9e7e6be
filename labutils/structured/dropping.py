"""`drop_blocks` and `drop_sublayers`: depth pruning by a name."""

import dataclasses
import time
from collections.abc import Sequence
from numbers import Integral

from torch import nn
from transformers import PreTrainedModel

from labutils.models.structure import check_causal, find_blocks
from labutils.models.wrappers import bare_model
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.inputs import Calibration
from labutils.pruning.registry import check_values, option_names
from labutils.structured.anatomy import count_weights, read_anatomies
from labutils.structured.depth import DEPTH, Choice, DepthOptions
from labutils.structured.paths import Paths, Unit
from labutils.structured.removal import PARTS, Removal, check_numbers
from labutils.structured.report import ShrinkReport, Smaller, count_all, count_blocks
from labutils.structured.search import check_race, greedy_search
from labutils.structured.surgery import carve

GIVEN_ALONE = "blocks=[…] says which go; leave out the calibration, the method and its options."


def drop_blocks(
    model: nn.Module,
    calibration: Calibration | None = None,
    *,
    n_blocks: int | None = None,
    blocks: Sequence[int] | None = None,
    method: str | None = None,
    batch_size: int = 8,
    **options: object,
) -> Smaller:
    """A smaller model with some blocks left out; the dense one stays as it is.

    >>> smaller, report = lab.drop_blocks(model, tokens, n_blocks=4, method="greedy")
    >>> smaller.save_pretrained("smaller")  # a plain folder: AutoModelForCausalLM.from_pretrained("smaller")

    What it will weigh and how fast it will be can be told beforehand: `lab.forecast_smaller(model, n_blocks=4)`.

    Args:
        calibration: as in `prune`; what the choice is made on. "deepest" and "shallowest" heed none.
        n_blocks: how many go.
        blocks: which go, by their numbers from 0 on, in place of a choice: without calibration, method and options.
        method: "angular" (the default: the run of blocks that turns the last token's state least), "influence"
            (ShortGPT), "greedy" (SLEB: one by one by the loss), "evopress" (searched from the choice by angle on, by
            the divergence of the output), "deepest" (but the last), "shallowest", or one that was registered.
        **options: of "greedy": `spare_ends` (True: the first and the last block that are left stay, as in SLEB) and
            `race` (5.0: candidates that trail by so many standard errors are not read on; 0 reads all); of "evopress"
            `generations` (20), `offspring` (16) in each, and `seed` (0).

    Raises:
        ValueError: neither or both of `n_blocks` and `blocks`, too many, no such block, no calibration; or an option
            that the method does not heed.
        LookupError: an unknown method; or an architecture that cannot express it.
    """
    started, model = time.perf_counter(), bare_model(model)
    total = len(find_blocks(model)[1])
    if blocks is not None and calibration is not None:
        raise ValueError(GIVEN_ALONE)
    method, heeded = check_blocks(total, n_blocks, blocks, method, options)
    if blocks is not None:
        chosen = Choice(tuple(sorted(blocks)))
    else:
        depth = DEPTH[method]
        reads = BlockWalk(model, _needed(calibration, method), batch_size=batch_size) if depth.reads_texts else total
        chosen = depth.chooser(reads, n_blocks, DepthOptions(**options))
        check_numbers(chosen.blocks, total, "block")
    asked = {"method": method, "n_blocks": len(chosen.blocks), **heeded}
    return _finish(model, Removal(blocks=chosen.blocks), chosen, asked, started)


def drop_sublayers(
    model: nn.Module,
    calibration: Calibration,
    *,
    share: float,
    parts: Sequence[str] = PARTS,
    batch_size: int = 8,
    race: float | int = 5.0,
) -> Smaller:
    """A model in which attention and feed-forward sublayers are silent, chosen one by one by the loss (BlockPruner).

    No configuration of transformers can leave out one sublayer of a block, so their last matrices are set to zero: the
    folder loads everywhere, computes what the paper's model computes, and is not smaller. The report tells both shares.

    >>> silenced, report = lab.structured.drop_sublayers(model, tokens, share=0.25)

    Args:
        share: of the blocks' parameters, at most; the search ends when no further sublayer fits.
        parts: ("attention",), ("mlp",) or both.

    Raises:
        ValueError: a share outside (0, 1) or below one sublayer's, no such part, or an encoder.
        LookupError: a block whose parts cannot be told.
    """
    started, model = time.perf_counter(), bare_model(model)
    if not 0 < share < 1:
        raise ValueError(f"share={share!r} must lie between 0 and 1: 0.25 silences a quarter of the blocks.")
    if not parts or set(parts) - set(PARTS):
        raise ValueError(f"parts={tuple(parts)} must be one or both of {', '.join(PARTS)}.")
    check_race(race)
    check_causal(model, "a search by the loss")
    anatomies, blocks = read_anatomies(model), find_blocks(model)[1]
    whole = count_blocks(model)
    sizes = {
        (index, part): count_weights(blocks[index], anatomies[index], part)
        for index in range(len(blocks))
        for part in PARTS
        if part in parts
    }
    paths = Paths(BlockWalk(model, calibration, batch_size=batch_size), anatomies)

    def fits(removed: tuple[Unit, ...], unit: Unit) -> bool:
        return sum(sizes[one] for one in (*removed, unit)) <= share * whole

    search = greedy_search(paths, list(sizes), fits, race=race)
    if not search.removed:
        raise ValueError(f"share={share} is less than any one sublayer has ({min(sizes.values()) / whole:.3f}).")
    removal = Removal(sublayers=tuple(sorted(search.removed)))
    choice = Choice((), search.history, search)
    asked = {"method": "greedy sublayers", "share": share, "parts": tuple(parts), "race": race}
    smaller, report = _finish(model, removal, choice, asked, started)
    silent = sum(sizes[unit] for unit in search.removed) / whole
    return Smaller(smaller, dataclasses.replace(report, removed_share=silent))


def check_blocks(
    total: int, n_blocks: int | None, blocks: Sequence[int] | None, method: str | None, options: dict[str, object]
) -> tuple[str, dict[str, object]]:
    """What may be asked of `drop_blocks`, calibration apart: the method's name and the options that it heeds.

    Raises:
        ValueError, LookupError: as `drop_blocks`.
    """
    if (n_blocks is None) == (blocks is None):
        raise ValueError("give either n_blocks (how many go) or blocks (which go).")
    if blocks is not None:
        if method is not None or options:
            raise ValueError(GIVEN_ALONE)
        check_numbers(blocks, total, "block")
        return "given", {}
    depth = DEPTH[method := method or "angular"]
    check_count(n_blocks, total)
    made = _depth_options(options, method)
    return method, {name: getattr(made, name) for name in depth.options}


def check_count(n_blocks: object, total: int) -> None:
    """ValueError unless so many blocks can go."""
    if not isinstance(n_blocks, Integral) or isinstance(n_blocks, bool) or not 0 < n_blocks < total:
        raise ValueError(f"n_blocks={n_blocks!r} must be a whole number from 1 to {total - 1}; the model has {total}.")


def _needed(calibration: Calibration | None, method: str) -> Calibration:
    if calibration is None:
        raise ValueError(f"method={method!r} chooses by what blocks do to texts; give a calibration, or blocks=[…].")
    return calibration


def _depth_options(options: dict[str, object], method: str) -> DepthOptions:
    known, heeded = option_names(DepthOptions), DEPTH[method].options
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"drop_blocks has no option {unknown[0]!r}; options are {', '.join(known)}.")
    if idle := [name for name in options if name not in heeded]:
        raise ValueError(f"method={method!r} does not heed {idle[0]}; it has {', '.join(heeded) or 'no options'}.")
    check_values(DepthOptions, options)
    made = DepthOptions(**options)
    check_race(made.race)
    return made


def _finish(
    model: PreTrainedModel, removal: Removal, choice: Choice, asked: dict[str, object], started: float
) -> Smaller:
    smaller = carve(model, removal)
    before, after, whole = count_all(model), count_all(smaller), count_blocks(model)
    share = (before - after) / whole
    report = ShrinkReport(
        removal, choice.table, before, after, share, share, dict.fromkeys(("neurons", "groups", "experts")), asked,
        time.perf_counter() - started, choice.search,
    )  # fmt: skip
    return Smaller(smaller, report)
