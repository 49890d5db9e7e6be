"""What every exchange of a kept and a dropped weight does to the error left after exact least squares.

With v the solution on a row's mask, A = (H_SS)⁻¹, G = A H_SD, c = H (w − v) and s_q = H_qq − H_qS G_q, dropping a kept
p and restoring a dropped q changes the smallest error that the mask can have by

    Δ(p, q) = v_p² / A_pp − (c_q + G_pq v_p / A_pp)² / (s_q + G_pq² / A_pp)
            = (x_p² − y_q² − 2 x_p y_q z_pq) / (1 + z_pq²),

with x_p = v_p / √A_pp, y_q = c_q / √s_q and z_pq = G_pq / √(A_pp s_q). So x² is what dropping alone costs (Hassibi &
Stork 1993), y² what restoring alone brings, and z how much the one makes up for the other. All of it stands in the
table of `solved_rows`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.pruning.solved_rows import SolvedRows
from labutils.pruning.swap_pairs import Costs

LEAST_PIVOT = 1e-12  # s_q, of H_qq, below which an input is a sum of kept ones, and restoring it brings nothing


def best_exchanges(rows: SolvedRows, pattern: tuple[int, int] | None) -> Costs:
    """The lowest Δ that every kept and every dropped weight takes part in, by place; infinite where there is none."""
    table, (most, least) = rows.table, (int(rows.n_kept.max()), int(rows.n_kept.min()))
    root, ratio = error_units(table)
    best = Costs(torch.full_like(root, torch.inf), torch.full_like(root, torch.inf))
    crossed = table[:, :most, least:-2]
    if pattern:  # as many kept in every row, and places of a group stand together
        kept, dropped = (-1, pattern[0]), (-1, pattern[1] - pattern[0])
        crossed = crossed.unflatten(1, kept).unflatten(3, dropped).diagonal(dim1=1, dim2=3).movedim(-1, 1)
        own = [side[:, :most].unflatten(1, kept) for side in (root, ratio)]
        other = [side[:, most:].unflatten(1, dropped) for side in (root, ratio)]
    else:
        own, other = [root[:, :most], ratio[:, :most]], [root[:, least:], ratio[:, least:]]
    change = changes(crossed, *own, *other)
    if most > least:
        change.masked_fill_(~(rows.is_kept[:, :most, None] & ~rows.is_kept[:, None, least:]), torch.inf)
    best.drop[:, :most], best.restore[:, least:] = change.amin(dim=-1).flatten(1), change.amin(dim=-2).flatten(1)
    return best


def changes(
    crossed: Float[Tensor, "*rows kept dropped"], kept_root: Float[Tensor, "*rows kept"],
    kept_ratio: Float[Tensor, "*rows kept"], dropped_root: Float[Tensor, "*rows dropped"],
    dropped_ratio: Float[Tensor, "*rows dropped"],
) -> Float[Tensor, "*rows kept dropped"]:  # fmt: skip
    """Δ of all pairs: (x² − y² − 2 x y z) / (1 + z²)."""
    shared = crossed / kept_root[..., :, None]
    shared /= dropped_root[..., None, :]
    change = shared * (-2 * kept_ratio[..., :, None])
    change *= dropped_ratio[..., None, :]
    change += kept_ratio.square()[..., :, None]
    change -= dropped_ratio.square()[..., None, :]
    return change.div_(shared.square_().add_(1))


def error_units(table: Float[Tensor, "rows side side"]) -> tuple[Float[Tensor, "rows in"], Float[Tensor, "rows in"]]:
    """√A_pp of the kept and √s_q of the dropped; and x and y.

    A root is infinite, and y zero, of an input that is a sum of kept ones: no exchange for it helps.
    """
    own = table.diagonal(dim1=1, dim2=2)[:, :-2].abs()
    root = own.sqrt().masked_fill_(own < LEAST_PIVOT, torch.inf)
    return root, table[:, :-2, -2] / root
