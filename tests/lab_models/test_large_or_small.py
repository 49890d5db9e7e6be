"""Prune a large model or train a small one, on models of a minute: shapes, tokens, and the same rows after a kill."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from helpers import stop_training_at
from test_lab_models import MINUTE
from test_lab_models import tokenizer as byte_tokenizer  # noqa: F401 (a fixture)

from labutils.lab_models import large_or_small as study
from labutils.lab_models import loop
from labutils.lab_models.corpus import Shard
from labutils.models.loading import load_model
from labutils.recovery.readings import Reading

SPEC = replace(MINUTE, config={**MINUTE.config, "num_hidden_layers": 4})
STEP = 16 * 128
TOKENS = torch.randint(3, 200, (4, 16), generator=torch.Generator().manual_seed(0))


def random_shard(number: int, tokenizer, *, seed: int, sequences: int, withheld: str = "") -> Shard:
    """Random tokens by the seed and the number, which take no time to write."""
    generator = torch.Generator().manual_seed(1000 * seed + number)
    return Shard(torch.randint(3, 60, (sequences, 128), generator=generator), torch.zeros(sequences, 128).bool())


@pytest.fixture
def small_world(byte_tokenizer, monkeypatch) -> dict:  # noqa: F811
    monkeypatch.setattr(study, "find_spec", lambda name: SPEC)
    for module in (study, loop):
        monkeypatch.setattr(module, "train_tokenizer", lambda: byte_tokenizer)
        monkeypatch.setattr(module, "load_shard", random_shard)
    monkeypatch.setattr(loop, "SHARD_SEQUENCES", 32)
    readings = [Reading("text", "nats per token", TOKENS)]
    return {"tokens": 4 * STEP, "healing_tokens": 2 * STEP, "seeds": [0], "readings": readings}


def test_chains_of_trainings(small_world: dict, tmp_path, monkeypatch) -> None:
    rows = study.compare_large_and_small("minute", folder=tmp_path / "whole", **small_world)
    assert set(rows["arm"]) == set(study.ARMS) and (rows.groupby(["arm", "draw"]).size() == 4).all()
    loaded = {name: load_model(str(tmp_path / "whole" / "seed-0" / name))[0] for name in ("large", "healed", "total")}
    depths = {name: model.config.num_hidden_layers for name, model in loaded.items()}
    assert depths == {"large": 4, "healed": 2, "total": 2}
    counts = {name: sum(p.numel() for p in model.parameters()) for name, model in loaded.items()}
    assert counts["healed"] == counts["total"] < counts["large"]
    losses = rows.groupby("arm")["loss"].mean()
    assert losses.nunique() == len(study.ARMS)
    took = rows.groupby("arm")["seconds"].mean()
    assert took[study.HEALED] > took[study.LARGE] == took[study.CUT] > 0
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_training_at(patch, 2)
        study.compare_large_and_small("minute", folder=tmp_path / "killed", **small_world)
    again = study.compare_large_and_small("minute", folder=tmp_path / "killed", **small_world)
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), rows.drop(columns="seconds"))
    with pytest.raises(ValueError, match="was trained with"):
        study.compare_large_and_small("minute", folder=tmp_path / "whole", **{**small_world, "tokens": 5 * STEP})


def test_odd_depths_are_refused(small_world: dict, tmp_path, monkeypatch) -> None:
    odd = replace(SPEC, config={**SPEC.config, "num_hidden_layers": 3})
    monkeypatch.setattr(study, "find_spec", lambda name: odd)
    with pytest.raises(ValueError, match="even depth"):
        study.compare_large_and_small("minute", folder=tmp_path, **small_world)
