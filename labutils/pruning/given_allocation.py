"""An allocation that a call of `prune` gives itself: one number per block."""

from collections.abc import Sequence

import torch
from torch import Tensor

from labutils.pruning import allocation_rules as rules
from labutils.pruning.allocations import Allocation, DenseModel


class Given(Allocation):
    """One number per block, as a call of `prune` gave them; moved to the target exactly."""

    name = "given"

    def __init__(self, values: Sequence[float]):
        try:
            self.values = tuple(float(value) for value in values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"allocation={values!r} must be a name, or one number per block.") from error

    def sparsities(self, dense: DenseModel) -> Tensor:
        """Raises a ValueError: not one per block, outside [0, 0.99], or a mean that is not the target."""
        given, sizes = torch.tensor(self.values, dtype=torch.float64), dense.sizes
        inside = (given >= 0) & (given <= rules.UPPER_SPARSITY)  # False for NaN
        if len(given) != len(sizes) or not inside.all():
            raise ValueError(
                f"The allocation must be {len(sizes)} numbers, one per block, within [0, {rules.UPPER_SPARSITY}]; "
                f"got {given.tolist()}."
            )
        mean = ((given * sizes).sum() / sizes.sum()).item()
        if abs(mean - dense.sparsity) > 1e-3:
            raise ValueError(
                f"The allocation's parameter-weighted mean is {mean:.4f}, not the target sparsity {dense.sparsity}."
            )
        return rules.project_to_budget(given, sizes, dense.sparsity)
