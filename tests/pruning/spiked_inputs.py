"""Inputs with Gram matrices that are hard on single precision: what networks read, and worse."""

import torch

KINDS = ("correlated", "spiked", "scarce", "random")


def inputs_of(kind: str, columns: int) -> torch.Tensor:
    """Tokens of one kind.

    Args:
        kind: "correlated" (a few strong directions, falling as a power, and a mean), "spiked" (the same, and three
            inputs a hundred times as large), "scarce" (the same with fewer tokens than inputs), or "random".
    """
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tokens = columns // 2 if kind == "scarce" else 4 * columns
    own = normal(tokens, columns)
    if kind == "random":
        return own
    directions = normal(64, columns) * torch.arange(1, 65, dtype=torch.float64)[:, None] ** -0.7
    inputs = (normal(tokens, 64) @ directions + 0.5 * own + 0.4 * normal(columns)) * torch.exp(0.5 * normal(columns))
    if kind == "spiked":
        inputs[:, :: columns // 3 + 1] *= 100
    return inputs
