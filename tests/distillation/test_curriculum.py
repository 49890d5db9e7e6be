"""The weights of the loss, epoch by epoch, as the paper's code sets them."""

import pytest

from labutils.distillation.curriculum import LAYERS, OUTPUTS, loss_weights


def weights(epoch: int, curriculum: str, *, start: int = 2, epochs: int = 6) -> tuple[float, ...]:
    return loss_weights(epoch, epochs=epochs, ild_start=start, curriculum=curriculum)


def test_the_sharp_curriculum_switches_at_once() -> None:
    assert [weights(epoch, "sharp") for epoch in range(6)] == [OUTPUTS] * 2 + [LAYERS] * 4
    assert [weights(epoch, "sharp", start=0) for epoch in range(6)] == [LAYERS] * 6


def test_the_smooth_curriculum_arrives_with_the_last_epoch() -> None:
    found = [weights(epoch, "smooth") for epoch in range(6)]
    assert found[:2] == [OUTPUTS] * 2
    for epoch, share in zip(range(2, 6), (0.25, 0.5, 0.75, 1.0), strict=True):
        assert found[epoch] == pytest.approx((0.5 - share / 6, 0.5 - share / 6, share / 3))
    assert all(sum(each) == pytest.approx(1) for each in found)
