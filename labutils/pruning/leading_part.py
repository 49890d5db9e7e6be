"""A preconditioner for the parts of one Hessian on many supports: what its largest eigenvalues alone make of it.

Inputs of a network share a few strong directions. With F the leading eigenvectors times √(λ − μ), and μ the mean of
the other eigenvalues, H ≈ μ I + F Fᵀ, and on the support S of a row H_SS ≈ μ I + F_S F_Sᵀ, whose inverse is

    (I − F_S K⁻¹ F_Sᵀ) / μ,    K = μ I + F_Sᵀ F_S    (Woodbury),

so that all rows share F and each has a small core K⁻¹ of its own. For conjugate gradients a multiple is as good.
"""

import torch
from jaxtyping import Float
from torch import Tensor

RANK = 48
POWERS = 3  # of the Hessian, that random directions are multiplied by; the eigenvectors need not be exact


class LeadingPart:
    """F and μ of a Hessian with a unit diagonal."""

    def __init__(self, hessian: Float[Tensor, "in in"], rank: int = RANK):
        size, rank = len(hessian), min(rank, len(hessian) // 2)
        start = torch.randn(size, rank, generator=torch.Generator().manual_seed(0), dtype=hessian.dtype)
        basis = start.to(hessian.device)
        for _ in range(POWERS):
            basis = torch.linalg.qr(hessian @ basis).Q
        values, vectors = torch.linalg.eigh(basis.T @ (hessian @ basis))
        self.others = (hessian.diagonal().sum() - values.sum()).clamp(min=1e-6 * size) / (size - rank)
        self.factor = basis @ vectors * (values - self.others).clamp(min=0).sqrt()
        self.first, self.second = torch.tril_indices(rank, rank, device=hessian.device)
        self.pairs = self.factor[:, self.first] * self.factor[:, self.second]

    def cores(self, inside: Float[Tensor, "rows in"]) -> Float[Tensor, "rows rank rank"]:
        """K⁻¹ for every row; of F_Sᵀ F_S the half that tells all of it is one product of the masks for all rows."""
        rank = self.factor.shape[1]
        whole = inside.new_zeros(len(inside), rank, rank)
        whole[:, self.first, self.second] = inside @ self.pairs
        whole.diagonal(dim1=1, dim2=2).add_(self.others)
        return torch.cholesky_inverse(torch.linalg.cholesky(whole))  # which reads the lower half

    def apply(
        self, rest: Float[Tensor, "rows in"], inside: Float[Tensor, "rows in"], cores: Float[Tensor, "rows rank rank"]
    ) -> Float[Tensor, "rows in"]:
        """μ times the approximate inverse, applied to rests that are zero outside the masks."""
        inner = torch.bmm((rest @ self.factor)[:, None], cores)[:, 0]
        return torch.addmm(rest, inner, self.factor.T, alpha=-1).mul_(inside)
