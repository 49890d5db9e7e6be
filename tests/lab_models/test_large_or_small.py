"""Prune a large model or train a small one, on models of a minute: shapes, tokens, and the same rows after a kill."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from helpers import stop_training_at
from test_lab_models import MINUTE
from test_lab_models import tokenizer as byte_tokenizer  # noqa: F401 (a fixture)

from labutils.core.provenance import hash_tensors
from labutils.lab_models import large_or_small as study
from labutils.lab_models import loop
from labutils.lab_models.corpus import Shard
from labutils.models.loading import load_model
from labutils.recovery import choose_blocks
from labutils.recovery.readings import Reading

SPEC = replace(MINUTE, config={**MINUTE.config, "num_hidden_layers": 4})
STEP = 16 * 128
TOKENS_OF = {"large": 4 * STEP, "healed": 2 * STEP, "equal": 2 * STEP, "total": 6 * STEP}
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
    check_chain(tmp_path / "whole" / "seed-0")
    with pytest.raises(ValueError, match="with other options"):
        study.compare_large_and_small("minute", folder=tmp_path / "whole", **{**small_world, "tokens": 5 * STEP})
    (tmp_path / "whole" / "seed-0" / "large" / "plan.json").unlink()
    with pytest.raises(ValueError, match="with other options, shape"):
        study.compare_large_and_small("minute", folder=tmp_path / "whole", **small_world)


def check_chain(folder) -> None:
    """Tokens are equal as they are called, and the healed model began as the large one without two inner blocks."""
    plans = {name: json.loads((folder / name / "plan.json").read_text()) for name in TOKENS_OF}
    assert {name: plan["options"]["tokens"] for name, plan in plans.items()} == TOKENS_OF
    trained = {name: json.loads((folder / name / "training.json").read_text()) for name in TOKENS_OF}
    assert {name: each["options"]["tokens"] for name, each in trained.items()} == TOKENS_OF
    large, tokenizer = load_model(str(folder / "large"))
    chain = study._Chain(SPEC, SPEC, 0, folder, "cpu")
    cut = chain._cut(folder / "large")
    assert plans["healed"]["start"] == hash_tensors(cut) and plans["large"]["start"] is None
    shard = random_shard(999, tokenizer, seed=study.HEALING_SEEDS, sequences=study.CHOOSING_SEQUENCES).tokens
    assert choose_blocks(large, shard, 2) == [1, 2]  # the ends stay, so of four blocks the inner ones go
    weights = large.state_dict()
    prefix = next(name for name in weights if ".3." in name).partition(".3.")[0]
    for name, tensor in cut.items():
        old = name.replace(f"{prefix}.1.", f"{prefix}.3.") if name.startswith(f"{prefix}.1.") else name
        assert torch.equal(tensor, weights[old]), name


def test_a_large_model_trained_anew_is_not_healed_from_the_old_one(small_world: dict, tmp_path) -> None:
    given = {**small_world, "tokens": STEP, "healing_tokens": STEP}
    study.compare_large_and_small("minute", folder=tmp_path, **given)
    plan = tmp_path / "seed-0" / "healed" / "plan.json"
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "start": "that of another large model"}))
    with pytest.raises(ValueError, match="with other start"):
        study.compare_large_and_small("minute", folder=tmp_path, **given)


@pytest.mark.parametrize("depth", [2, 5])
def test_depths_that_cannot_be_halved_between_the_ends_are_refused(depth, small_world, tmp_path, monkeypatch) -> None:
    odd = replace(SPEC, config={**SPEC.config, "num_hidden_layers": depth})
    monkeypatch.setattr(study, "find_spec", lambda name: odd)
    with pytest.raises(ValueError, match="even depth of 4"):
        study.compare_large_and_small("minute", folder=tmp_path, **small_world)
