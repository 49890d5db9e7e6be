"""Fixtures for the tests of pruning."""

import pytest
import torch


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 64, (8, 24), generator=torch.Generator().manual_seed(0))
