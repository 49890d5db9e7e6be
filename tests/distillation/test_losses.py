"""Every loss against numbers worked out by hand, and against literal loops in float64, with padding."""

import math

import pytest
import torch
from torch import Tensor

from labutils.distillation import losses
from labutils.evaluation.similarity import mean_pool

ONES = torch.ones(1, 2, dtype=torch.int64)


def norm(vector: list[float]) -> float:
    return math.sqrt(sum(x * x for x in vector))


def gap_by_hand(teacher: list[float], student: list[float]) -> float:
    """The squared distance of two directions, entry by entry."""
    nt, ns = norm(teacher), norm(student)
    return sum((t / nt - s / ns) ** 2 for t, s in zip(teacher, student, strict=True))


def some_states(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_cross_entropy_and_squared_error_by_hand() -> None:
    outputs = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    assert losses.task_loss(outputs, torch.tensor([0, 1])).item() == pytest.approx((math.log(4) + math.log(2)) / 2)
    scores = torch.tensor([[1.0], [-1.0]])
    assert losses.task_loss(scores, torch.tensor([0.0, 1.0])).item() == pytest.approx((1 + 4) / 2)


def test_output_loss_is_the_kl_divergence_from_teacher_to_student() -> None:
    teacher = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # (3/4, 1/4) and (1/2, 1/2)
    student = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    expected = (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2
    assert losses.output_loss(teacher, student).item() == pytest.approx(expected)
    assert losses.output_loss(student, teacher).item() == pytest.approx(
        (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2
    )
    assert losses.output_loss(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [4.0]])).item() == pytest.approx(2.5)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_output_loss_equals_a_literal_loop(n_classes: int) -> None:
    teacher, student = some_states(7, n_classes, seed=1) * 5, some_states(7, n_classes, seed=2) * 5
    total = 0.0
    for t, s in zip(teacher.tolist(), student.tolist(), strict=True):
        zt, zs = sum(map(math.exp, t)), sum(map(math.exp, s))
        for a, b in zip(t, s, strict=True):
            total += math.exp(a) / zt * (math.log(math.exp(a) / zt) - math.log(math.exp(b) / zs))
    assert losses.output_loss(teacher, student).item() == pytest.approx(total / 7, rel=1e-12)


def test_direction_gap_by_hand() -> None:
    teacher = torch.tensor([[3.0, 4.0], [2.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    student = torch.tensor([[6.0, 8.0], [-5.0, 0.0], [0.0, 7.0], [1.0, 0.0]])
    assert losses.direction_gap(teacher, student).tolist() == pytest.approx([0.0, 4.0, 2.0, 1.0], abs=1e-6)


def test_mean_pool_and_token_mean_leave_padding_out() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    states = torch.tensor([[[1.0], [3.0], [99.0]], [[5.0], [99.0], [99.0]]])
    assert mean_pool(states, mask).tolist() == [[2.0], [5.0]]
    assert mean_pool(states[None], mask).tolist() == [[[2.0], [5.0]]]
    assert losses.mean_over_tokens(states[..., 0], mask).item() == pytest.approx(3.0)  # three tokens, not two rows


def test_ild_loss_equals_a_literal_loop() -> None:
    teacher, student = some_states(2, 3, 4, 5, seed=3), some_states(2, 3, 4, 5, seed=4)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    total, count = 0.0, 0
    for row in range(3):
        for token in range(4):
            if mask[row, token]:
                for pair in range(2):
                    total += gap_by_hand(teacher[pair, row, token].tolist(), student[pair, row, token].tolist())
                    count += 1
    assert losses.ild_loss(teacher, student, mask).item() == pytest.approx(total / count, rel=1e-12)


@pytest.mark.parametrize("mask", [torch.tensor([[1, 1, 1], [1, 0, 0]]), torch.ones(2, 3, dtype=torch.int64)])
@pytest.mark.parametrize("rank", [1, 4])
def test_loraild_loss_joins_the_pairs_before_it_normalises(mask: Tensor, rank: int) -> None:
    """Three matrices of one rank at two pairs of layers; a mask of ones is the published form."""
    teacher, student = some_states(2, 2, 3, 3 * rank, seed=5), some_states(2, 2, 3, 3 * rank, seed=6)
    total, count = 0.0, 0
    for row in range(2):
        for token in range(3):
            if mask[row, token]:
                t = [x for pair in range(2) for x in teacher[pair, row, token].tolist()]
                s = [x for pair in range(2) for x in student[pair, row, token].tolist()]
                assert len(t) == 2 * 3 * rank
                total += gap_by_hand(t, s)
                count += 1
    assert losses.loraild_loss(teacher, student, mask).item() == pytest.approx(total / count, rel=1e-12)


def test_loraild_loss_by_hand() -> None:
    """One token, two pairs of one number each: (3, 4) against (4, 3), and (1, 0) against (0, 1) at padding."""
    teacher = torch.tensor([[[[3.0], [1.0]]], [[[4.0], [0.0]]]])
    student = torch.tensor([[[[4.0], [0.0]]], [[[3.0], [1.0]]]])
    assert losses.loraild_loss(teacher, student, torch.tensor([[1, 0]])).item() == pytest.approx(0.08)
    assert losses.loraild_loss(teacher, student, ONES).item() == pytest.approx((0.08 + 2) / 2)


def test_rail_losses_by_hand_and_by_loop() -> None:
    """Not squared: opposite directions are 2 apart, orthogonal ones √2."""
    teacher, student = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]), torch.tensor([[[-3.0, 0.0]], [[0.0, 2.0]]])
    assert losses.rail_l_loss(teacher, student).item() == pytest.approx((2 + math.sqrt(2)) / 2)
    teacher, student = some_states(3, 4, 5, seed=7), some_states(3, 4, 5, seed=8)
    by_loop = [
        math.sqrt(gap_by_hand(teacher[pair, row].tolist(), student[pair, row].tolist()))
        for pair in range(3)
        for row in range(4)
    ]
    assert losses.rail_l_loss(teacher, student).item() == pytest.approx(sum(by_loop) / 12, rel=1e-12)
    assert losses.rail_c_loss(teacher[0], student[0]).item() == pytest.approx(sum(by_loop[:4]) / 4, rel=1e-12)


def test_equal_layers_cost_nothing_and_have_a_gradient() -> None:
    """The distance itself has no derivative where it is zero: torch's zero there must not become NaN."""
    states = torch.randn(2, 3, 4, requires_grad=True)
    losses.rail_l_loss(states.detach(), states).backward()
    assert torch.isfinite(states.grad).all()


def test_padding_gets_no_gradient() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    for loss in (losses.ild_loss, losses.loraild_loss):
        student = torch.randn(2, 2, 3, 4, requires_grad=True)
        loss(torch.randn(2, 2, 3, 4), student, mask).backward()
        reached = student.grad.abs().sum(dim=(0, 3)) > 0
        assert torch.equal(reached, mask.bool())


def test_targets_of_another_type_are_refused() -> None:
    with pytest.raises(Exception, match="targets"):
        losses.task_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int32))


def test_a_temperature_softens_both_sides_and_keeps_the_size_of_gradients() -> None:
    teacher, student = torch.tensor([[4.0, 0.0, -2.0]]), torch.tensor([[1.0, 1.0, 0.0]], requires_grad=True)
    soft, hot = (torch.softmax(logits.detach() / 3, dim=1) for logits in (teacher, student))
    expected = 9 * (soft * (soft / hot).log()).sum()
    assert losses.output_loss(teacher, student, 3.0).item() == pytest.approx(expected.item())
    gradient = torch.autograd.grad(losses.output_loss(teacher, student, 3.0), student)[0]
    assert torch.allclose(gradient, 3 * (hot - soft), atol=1e-6)
    # far above the logits, the loss matches centred logits, as Hinton, Vinyals & Dean (2015) show
    centred = [logits - logits.mean() for logits in (teacher, student.detach())]
    limit = (centred[0] - centred[1]).square().sum() / (2 * 3)
    found = losses.output_loss(teacher.double(), student.detach().double(), 1e3)
    assert found.item() == pytest.approx(limit.item(), rel=0.01)
    pair = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    assert losses.output_loss(*pair, 5.0).item() == losses.output_loss(*pair).item()
