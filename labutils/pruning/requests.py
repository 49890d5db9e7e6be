"""The arguments of `prune`, checked before anything runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd
from torch import Tensor

from labutils.core.options import suggest
from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning import coordination, evopress, optiprune, projection_methods, rose, selection  # noqa: F401 (they register)
from labutils.pruning.allocations import ALLOCATIONS, Allocation, Uniform
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.given_allocation import Given
from labutils.pruning.importance import SCORES, register_score  # noqa: F401 (where all names are known)
from labutils.pruning.methods import (
    METHODS,
    Method,
    PruneOptions,
    Request,
    matrix_method,  # noqa: F401 (where all names are known)
    method_kind,
)
from labutils.pruning.patterns import parse_pattern
from labutils.pruning.reconstructions import RECONSTRUCTIONS, SEARCHES
from labutils.pruning.registry import check_values, option_names

AllocationName = str | Sequence[float] | Mapping[int, float] | pd.Series | np.ndarray | Tensor | None
Whole = int | np.integer
Kinds = tuple[Callable[..., Method], Callable[..., Allocation]]
Result = TypeVar("Result")

REGISTRIES = (SCORES, METHODS, ALLOCATIONS, SEARCHES, RECONSTRUCTIONS)


def make_request(
    method: str,
    sparsity: float,
    allocation: AllocationName,
    pattern: str,
    permute: bool,
    seed: Whole,
    options: Mapping[str, object],
    *,
    beside: Iterable[Kinds] = (),
) -> Request:
    """Check the arguments of `prune`; raises ValueError or LookupError as documented there.

    Args:
        beside: methods and allocations of the same grid; their options are passed over.
    """
    allocation = _in_order(allocation)
    options = {name: _plain(value) for name, value in options.items()}
    sparsity, seed = _plain(sparsity), _plain(seed)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ValueError(f"seed={seed!r} must be a whole number.")
    kinds = request_kinds(method, allocation, pattern)
    check_options(options, [kinds, *beside], asked=f"method={method!r}, allocation={allocation!r}")
    _check_request(sparsity, pattern, permute, allocation)
    makers = (kinds[0], kinds[1], PruneOptions)
    for make in makers:
        check_values(make, options)
    made = [make(**{name: options[name] for name in option_names(make) if name in options}) for make in makers]
    asked = list(made[1].values) if isinstance(made[1], Given) else allocation  # as JSON can hold it
    request = Request(made[0], sparsity, made[1], asked, pattern, permute, seed, made[2])
    request.method.check(request)
    return request


def _plain(value: object) -> object:
    """Python's own number in place of numpy's, which JSON does not hold."""
    return value.item() if isinstance(value, np.generic) else value


def request_kinds(method: str, allocation: AllocationName, pattern: str) -> Kinds:
    """What makes the method and the allocation of a request, which an N:M pattern leaves no choice of.

    Raises:
        LookupError: an unknown name; the nearest known one is named.
    """
    kind = method_kind(method)
    if parse_pattern(pattern):
        return kind, Uniform
    if allocation is None:
        return kind, getattr(kind, "default_allocation", Uniform)  # what makes a score's method is no class
    if not isinstance(allocation, str):
        return kind, partial(Given, _in_order(allocation))
    if allocation not in ALLOCATIONS:
        raise LookupError(ALLOCATIONS.explain_unknown(allocation, ALLOCATIONS, ", or one number per block"))
    return kind, ALLOCATIONS[allocation]


def _in_order(allocation: AllocationName) -> str | list[float] | None:
    """A name as it is; numbers as a list, in the order of the blocks that a mapping or a Series gives them to."""
    if allocation is None or isinstance(allocation, str):
        return allocation
    if isinstance(allocation, Mapping | pd.Series):
        shares = dict(allocation.items())
        if set(shares) != set(range(len(shares))) or len(shares) != len(allocation):
            raise ValueError(
                f"allocation gives numbers to {list(allocation.keys())}; it must give one to each block, by its number "
                "from 0 on."
            )
        allocation = [shares[block] for block in range(len(shares))]
    try:
        return [float(value) for value in allocation]
    except (TypeError, ValueError) as error:
        raise ValueError(f"allocation={allocation!r} must be a name, or one number per block.") from error


def fits_pattern(allocation: AllocationName) -> bool:
    """Whether an allocation may be asked for together with an N:M pattern, which is uniform."""
    return allocation is None or (isinstance(allocation, str) and ALLOCATIONS.get(allocation) is Uniform)


def check_options(options: Mapping[str, object], kinds: Iterable[Kinds], *, asked: str) -> None:
    """Refuse an option that neither `prune` nor any of the given methods and allocations has.

    Raises:
        ValueError: it says to what the option, or the nearest known one, belongs.
    """
    here = {*option_names(PruneOptions)} | {name for pair in kinds for kind in pair for name in option_names(kind)}
    owners = {"prune": option_names(PruneOptions)}
    owners |= {f"score {name!r}": list(score.options) for name, score in SCORES.items() if score.options}
    owners |= {f"method {name!r}": own for name, kind in METHODS.items() if (own := option_names(kind))}
    owners |= {f"allocation {name!r}": own for name, kind in ALLOCATIONS.items() if (own := option_names(kind))}
    for name in options:
        if name in here:
            continue
        if of := [owner for owner, own in owners.items() if name in own]:
            raise ValueError(
                f"{name} is an option of {' and '.join(of)}; the call has {asked}. Leave it out, or choose what it "
                f"belongs to. Options of this call: {', '.join(sorted(here))}."
            )
        known = dict.fromkeys(known for own in owners.values() for known in own)
        table = "; ".join(f"of {owner}: {', '.join(own)}" for owner, own in owners.items())
        raise ValueError(f"prune has no option {name!r}.{suggest(name, known)} Options {table}.")


def list_methods() -> pd.DataFrame:
    """What can be asked of `prune`: one row per score, mask search, reconstruction, method and allocation.

    A score, a mask search and a reconstruction are put together by "+", in this order: `wanda+swaps+ls`.

    >>> lab.pruning.list_methods().query("kind == 'allocation'")

    Returns:
        kind ("score", "search", "reconstruction", "method" or "allocation"), name, its own options, and what it does.
    """
    rows = [("score", name, ", ".join(score.options), _first_line(score.function)) for name, score in SCORES.items()]
    kinds = {"search": SEARCHES, "reconstruction": RECONSTRUCTIONS, "method": METHODS, "allocation": ALLOCATIONS}
    for noun, registry in kinds.items():
        rows += [(noun, name, ", ".join(option_names(kind)), _first_line(kind)) for name, kind in registry.items()]
    return pd.DataFrame(rows, columns=["kind", "name", "options", "what"])


@contextmanager
def temporary_registrations() -> Iterator[None]:
    """What is registered while this lasts (scores, searches, reconstructions, methods, allocations) is forgotten after.

    >>> with lab.pruning.temporary_registrations():
    ...     lab.register_score("mine", "row")(lambda weight, norms: weight.abs() * norms**2)
    ...     lab.prune(model, tokens, method="mine", sparsity=0.5)
    """
    with ExitStack() as stack:
        for registry in REGISTRIES:
            stack.enter_context(registry.restored())
        yield


def has_own_registrations() -> bool:
    """Whether something is registered that is not part of the package.

    >>> has_own_registrations()
    False
    """
    classes = [kind for registry in REGISTRIES if registry is not SCORES for kind in registry.values()]
    own_classes = any(not kind.__module__.startswith("labutils.") for kind in classes)
    return own_classes or not all(score.of_package for score in SCORES.values())


def with_registrations(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function, which finds in every process what is registered in this one now.

    >>> Parallel()(delayed(with_registrations(prune_one))(draw) for draw in draws)
    """
    return partial(_call_registered, [dict(registry) for registry in REGISTRIES], function)


def _call_registered(
    registered: Sequence[Mapping[str, object]], function: Callable[..., Result], *args: object, **kwargs: object
) -> Result:
    for registry, items in zip(REGISTRIES, registered, strict=True):
        registry.replace(items)
    return function(*args, **kwargs)


def _first_line(described: object) -> str:
    described = described.func if isinstance(described, partial) else described
    return (described.__doc__ or "").strip().partition("\n")[0]


def check_widths(walk: BlockWalk, pattern: str) -> None:
    """Raises a ValueError naming the first matrix whose inputs an N:M pattern does not divide."""
    parsed = parse_pattern(pattern)
    for index, block in enumerate(walk.blocks if parsed else ()):
        for name, layer in prunable_layers(block).items():
            if (width := weight_matrix(layer).shape[1]) % parsed[1]:
                raise ValueError(
                    f"{walk.prefix}.{index}.{name} has {width} inputs, which a {pattern} pattern does not divide; "
                    f'choose a group size that divides it, or pattern="unstructured".'
                )


def _check_request(sparsity: float, pattern: str, permute: bool, allocation: AllocationName) -> None:
    if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0 <= sparsity < 1:
        raise ValueError(f"sparsity={sparsity!r} must be a share in [0, 1): 0.5 removes half of the weights.")
    parsed = parse_pattern(pattern)
    if parsed is None:
        if permute:
            raise ValueError('permute=True needs an N:M pattern, for example pattern="2:4".')
        return
    keep_n, group_m = parsed
    if abs(sparsity - (1 - keep_n / group_m)) > 1e-9:
        raise ValueError(f"A {pattern} pattern has the sparsity {1 - keep_n / group_m:g}; got sparsity={sparsity}.")
    if not fits_pattern(allocation):
        raise ValueError(
            f"A {pattern} pattern gives every block the same sparsity; leave out allocation={allocation!r}."
        )
