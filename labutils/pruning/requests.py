"""The arguments of `prune`, checked before anything runs."""

from collections.abc import Sequence

from labutils.models import prunable_layers, weight_matrix
from labutils.options import read_options
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.matrices import matrix_method
from labutils.pruning.options import PruneOptions
from labutils.pruning.patterns import parse_pattern
from labutils.pruning.report import Request


def make_request(
    method: str,
    sparsity: float,
    allocation: str | Sequence[float] | None,
    pattern: str,
    permute: bool,
    seed: int,
    options: dict,
) -> Request:
    """Check the arguments of `prune`; raises ValueError or LookupError as documented there."""
    settings = read_options(PruneOptions, options, of="prune")
    if method not in ("optiprune", "optiprune-auto"):
        matrix_method(method)
    _check_request(sparsity, pattern, permute, allocation)
    return Request(method, sparsity, allocation, pattern, permute, seed, settings)


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


def _check_request(sparsity: float, pattern: str, permute: bool, allocation: object) -> None:
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
    if allocation not in (None, "uniform"):
        raise ValueError(
            f"A {pattern} pattern gives every block the same sparsity; leave out allocation={allocation!r}."
        )
