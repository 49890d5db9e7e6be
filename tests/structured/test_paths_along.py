"""Paths with blocks skipped and run again: what each computes, and that common beginnings are run once."""

import copy

import pytest
import torch
from architectures import ARCHITECTURES

from labutils.models.structure import find_blocks
from labutils.pruning.calibration import BlockWalk
from labutils.structured.anatomy import read_anatomies
from labutils.structured.paths import Paths

PATHS = [(0, 1), (1,), (0, 0, 1), (1, 0), (0, 0, 1, 1), (0,)]


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "mixtral"])
def test_a_path_runs_its_blocks_in_order(name) -> None:
    model = ARCHITECTURES[name].build()
    tokens = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    walk = BlockWalk(model, tokens)
    paths = Paths(walk, read_anatomies(model))
    logits = {path: walk.predict(hidden, 0).logits for path, hidden in paths.along(0, PATHS)}
    assert logits.keys() == set(PATHS)
    with torch.no_grad():
        assert torch.allclose(logits[0, 1], model(input_ids=tokens).logits, atol=1e-5)
    # 0 | 0 0 | 0 0 1 | 0 0 1 1 | 0 1 | 1 | 1 0: seven blocks, where all paths on their own run thirteen
    assert paths.block_runs == 7 and sum(map(len, PATHS)) == 13
    blocks = find_blocks(model)[1]
    blocks[1] = copy.deepcopy(blocks[0])  # a path through the second then runs the first again
    again = Paths(BlockWalk(model, tokens), read_anatomies(model))
    through_the_copy, looped = (dict(again.along(0, [path]))[path] for path in ((0, 1, 1), (0, 0, 0)))
    assert torch.allclose(through_the_copy, looped, atol=1e-5)
    assert not torch.allclose(looped, dict(again.along(0, [(0,)]))[0,], atol=1e-3)
