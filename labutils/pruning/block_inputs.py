"""What a block's matrices read at one point of a walk, each part of it computed when first asked for."""

from collections.abc import Callable

from labutils.pruning.reconstruction import Factor, factor_hessian
from labutils.pruning.statistics import Statistics


class BlockInputs:
    """Statistics of a block's matrices by layer name, and their factorised Hessians."""

    def __init__(self, collect: Callable[..., dict[str, Statistics]]):
        """`collect(hessian=…)` gathers the statistics."""
        self._collect = collect
        self._statistics: dict[bool, dict[str, Statistics]] = {}
        self._factors: dict[float, dict[int, Factor]] = {}

    def statistics(self, *, hessian: bool) -> dict[str, Statistics]:
        """With a Hessian or with norms alone, which are summed in another way and differ in the last digit."""
        if hessian not in self._statistics:
            self._statistics[hessian] = self._collect(hessian=hessian)
        return self._statistics[hessian]

    def keep(self, statistics: dict[str, Statistics], *, hessian: bool) -> None:
        """Take statistics that were gathered elsewhere."""
        self._statistics[hessian] = statistics

    def factors(self, damping: float) -> dict[int, Factor]:
        """One factorisation per distinct input, keyed by the identity of its statistics."""
        if damping not in self._factors:
            distinct = {id(own): own for own in self.statistics(hessian=True).values()}
            self._factors[damping] = {
                key: factor_hessian(own.hessian, damping=damping) for key, own in distinct.items()
            }
        return self._factors[damping]
