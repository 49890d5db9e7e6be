"""Whatever stands in a damaged file: a ValueError, LookupError or OSError with a message, and an end."""

import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoint_models import TOKENS, store, untied_llama

from labutils.checkpoints.compact import COMPACT, read_compact
from labutils.checkpoints.journal import BlockRecord, Journal, Plan
from labutils.checkpoints.records import LAYERS, ORDERS, RECORD, read_identity, read_report
from labutils.checkpoints.saving import load_pruned, save_pruned
from labutils.checkpoints.shards import INDEX, SINGLE, open_shards
from labutils.pruning import prune

TRIES = int(os.environ.get("LABUTILS_FUZZ", "150"))  # of each reader
VALUES = [
    None, True, -1, 0, 2**40, 2**63, 1.5, "", "F32", "I8", "F4", "nonsense", [], [0], [-1, 3], [2**40, 2**40], [[1], 2],
    {}, {"a": 1}, ["model.norm.weight"], "../elsewhere.safetensors", "\ud800",
]  # fmt: skip


def replace_somewhere(content: object, chance: random.Random) -> object:
    """The same JSON with one value, key or length changed, at any depth."""
    if isinstance(content, dict) and content and chance.random() < 0.9:
        key = chance.choice(list(content))
        if chance.random() < 0.15:
            return {name: value for name, value in content.items() if name != key}
        return content | {key: replace_somewhere(content[key], chance)}
    if isinstance(content, list) and content and chance.random() < 0.7:
        place = chance.randrange(len(content))
        return [*content[:place], replace_somewhere(content[place], chance), *content[place + 1 :]]
    return chance.choice(VALUES)


def damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return content[: chance.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 8])):
        changed[chance.randrange(min(len(changed), chance.choice([8, 300, len(changed)])))] = chance.randrange(256)
    return bytes(changed)


def damaged_json(content: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.2:
        return damaged_bytes(content, chance)
    return json.dumps(replace_somewhere(json.loads(content), chance)).encode()


def damaged_safetensors(content: bytes, chance: random.Random) -> bytes:
    """Bytes, or the header: types, shapes, offsets that overlap, what the file says about itself."""
    if chance.random() < 0.3:
        return damaged_bytes(content, chance)
    length = struct.unpack("<Q", content[:8])[0]
    header = json.dumps(replace_somewhere(json.loads(content[8 : 8 + length]), chance)).encode()
    claimed = len(header) if chance.random() < 0.9 else chance.choice([0, 1, 2**20, 2**63])
    return struct.pack("<Q", claimed) + header + content[8 + length :]


def try_damage(path: Path, damage: Callable[[bytes, random.Random], bytes], read: Callable[[], object]) -> None:
    """Read after each of many kinds of damage; another error than our own would come through."""
    whole, refused = path.read_bytes(), 0
    for seed in range(TRIES):
        path.write_bytes(damage(whole, random.Random(f"{path.name} {seed}")))
        try:
            read()
        except (ValueError, LookupError, OSError) as error:
            assert str(error).strip("'\" ") and not isinstance(error, KeyError | UnicodeError), (seed, error)
            refused += 1
    assert refused > TRIES / 10  # the damage does reach the reader
    path.write_bytes(whole)
    read()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, model = tmp_path_factory.mktemp("saved"), untied_llama()
    dense = store(model, folder / "dense")
    shards = store(model, folder / "shards", in_shards=True)
    report = prune(model, TOKENS, method="ria", sparsity=0.5, pattern="2:4", permute=True)
    compact = save_pruned(model, folder / "compact", report, compact=True)
    return {"dense": dense, "shards": shards, "compact": compact, "plain": save_pruned(model, folder / "plain", report)}


def test_weights(saved: dict[str, Path]) -> None:
    def read() -> None:
        shards = open_shards(saved["dense"])
        for key in shards.files:
            shards.read(key)

    try_damage(saved["dense"] / SINGLE, damaged_safetensors, read)


def test_the_index(saved: dict[str, Path]) -> None:
    try_damage(saved["shards"] / INDEX, damaged_json, lambda: open_shards(saved["shards"]))


def test_the_compact_form(saved: dict[str, Path]) -> None:
    try_damage(saved["compact"] / COMPACT, damaged_safetensors, lambda: read_compact(saved["compact"]))


@pytest.mark.parametrize(
    ("name", "damage"), [(RECORD, damaged_json), (LAYERS, damaged_bytes), (ORDERS, damaged_safetensors)]
)
def test_the_report(name: str, damage: Callable, saved: dict[str, Path]) -> None:
    def read() -> None:
        read_report(saved["plain"])
        read_identity(saved["plain"])

    try_damage(saved["plain"] / name, damage, read)


def test_a_whole_folder(saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that is built from it; the configuration is transformers' to read."""
    monkeypatch.setattr("test_damage.TRIES", 40)
    for form, name in (("plain", SINGLE), ("compact", COMPACT)):
        try_damage(saved[form] / name, damaged_safetensors, lambda form=form: load_pruned(saved[form]))


@pytest.mark.parametrize("name", ["identity", "plan", "block-00000"])
def test_the_journal(name: str, tmp_path: Path) -> None:
    shard = tmp_path / "shard"
    shard.write_bytes(b"weights")
    identity = {"source": "ab", "method": "wanda", "options": [0.5, {"a": 1}]}
    with Journal(tmp_path / "target", identity) as journal:
        journal.write_plan(Plan({(0, "q"): 3, (1, "k"): 4}, 0.5))
        journal.write_block(0, shard, BlockRecord([{"name": "q", "zeros": 3}], {"q": torch.tensor([1, 0])}, 0.25))

    def read() -> None:
        with Journal(tmp_path / "target", identity) as journal:
            journal.plan()
            journal.block(0, shard)

    try_damage(tmp_path / "target" / ".pruning" / f"{name}.json", damaged_json, read)
