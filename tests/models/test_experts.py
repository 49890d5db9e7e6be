"""Fused experts in every form: their matrices, what each reads, and the routers beside them."""

import pytest
import torch
from torch import Tensor, nn
from transformers.integrations import use_experts_implementation

from labutils.models.experts import expert_inputs, expert_matrices, find_routers
from labutils.models.structure import weight_matrix


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("has_gate", [False, True])
def test_expert_inputs_of_every_form(has_gate: bool, is_transposed: bool) -> None:
    """Against one token and one expert at a time, in float64."""
    experts = _experts(has_gate, is_transposed).double()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    chosen = torch.tensor([[0, 2], [2, 0], [0, 4], [4, 2], [0, 2], [2, 4]])  # 4 is elsewhere; 1 and 3 get none
    first = "gate_up_proj" if has_gate else "up_proj"
    expected: dict[str, list[Tensor]] = {}
    for token, choices in zip(tokens, chosen.tolist(), strict=True):
        for index in choices:
            if index < 4:
                expected.setdefault(f"{first}[{index}]", []).append(token)
                weight = getattr(experts, first)[index]
                inner = (weight.T if is_transposed else weight) @ token
                inner = torch.tanh(inner[:3]) * inner[3:] if has_gate else torch.tanh(inner)
                expected.setdefault(f"down_proj[{index}]", []).append(inner)
    found = dict(expert_inputs(experts, tokens, chosen))
    assert found.keys() == expected.keys() == {f"{name}[{index}]" for name in (first, "down_proj") for index in (0, 2)}
    for matrix, rows in expected.items():
        torch.testing.assert_close(found[matrix], torch.stack(rows))
    shapes = {matrix.name: tuple(weight_matrix(matrix).shape) for matrix in expert_matrices(experts)}
    assert shapes[f"{first}[1]"] == (6 if has_gate else 3, 4) and shapes["down_proj[3]"] == (4, 3) and len(shapes) == 8


def test_expert_matrices_write_through() -> None:
    experts = _experts(True, True)
    weight_matrix(expert_matrices(experts)[3])[1, 2] = 7.0
    assert experts.down_proj[1, 2, 1] == 7.0


def test_routers_stand_alone_beside_experts() -> None:
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
            self.router = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3))
            self.shared_gate = nn.Linear(4, 1)
            self.shared_expert = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
            self.project = nn.Linear(4, 4)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.ModuleDict({"q": nn.Linear(4, 3), "k": nn.Linear(4, 1)})
            self.gate = nn.Linear(4, 3)
            self.mixture = Mixture()

    block = Block()
    assert find_routers(block) == {block.mixture.router[1], block.mixture.shared_gate}
    assert find_routers(block.mixture.shared_expert) == set()


def _experts(has_gate: bool, is_transposed: bool) -> nn.Module:
    """Four experts from 4 to 3 and back, in the form that transformers describes."""

    @use_experts_implementation(has_gate=has_gate, is_transposed=is_transposed)
    class Experts(nn.Module):
        def __init__(self, config: object):
            super().__init__()
            generator = torch.Generator().manual_seed(1)
            self.num_experts, self.act_fn = 4, nn.Tanh()
            for name, rows, columns in (
                ("gate_up_proj" if has_gate else "up_proj", 6 if has_gate else 3, 4),
                ("down_proj", 4, 3),
            ):
                weight = torch.randn(4, rows, columns, generator=generator)
                setattr(self, name, nn.Parameter(weight.mT.contiguous() if is_transposed else weight))

        def forward(self, hidden: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
            raise NotImplementedError

    return Experts(object())
