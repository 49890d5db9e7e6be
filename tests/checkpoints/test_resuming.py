"""A pruning from disk to disk that is interrupted: killed, out of room, or its source damaged on the way."""

import errno
import json
import os
import resource
import shutil
import signal
from pathlib import Path

import pytest
from checkpoint_models import (
    TOKENS,
    assert_same_report,
    assert_same_state,
    load_plainly,
    run_in_child,
    store,
    untied_llama,
)
from filelock import FileLock

from labutils.checkpoints import load_pruned, prune_checkpoint
from labutils.checkpoints.journal import Journal
from labutils.checkpoints.layout import Layout
from labutils.pruning import prune

REQUEST = {"method": "sparsegpt", "sparsity": 0.6, "allocation": "owl", "batch_size": 4}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return store(untied_llama(), tmp_path / "dense", in_shards=True)


def check_finishes(
    source: Path, target: Path, blocks_left: int, monkeypatch: pytest.MonkeyPatch, request: dict = REQUEST
) -> None:
    """The next call does what is left, and the result is that of a pruning in memory."""
    written, write_block = [], Layout.write_block
    monkeypatch.setattr(Layout, "write_block", lambda self, index: (written.append(index), write_block(self, index)))
    report = prune_checkpoint(source, target, TOKENS, **request)
    assert written == list(range(4 - blocks_left, 4))
    model = load_plainly(source)
    assert_same_report(report, prune(model, TOKENS, **request))
    assert_same_state(load_pruned(target).model, model)
    assert {path.suffix for path in target.iterdir()} == {".json", ".parquet", ".safetensors"}
    assert not any(path.name.startswith(".") for path in target.iterdir())


def die(*given: object, **named: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_block(place: type, method: str, number: int) -> None:
    """Replace a method that is called with a block's number by one that kills the process at one of them."""
    original = getattr(place, method)

    def dying(self: object, index: int, *given: object) -> object:
        if index == number:
            die()
        return original(self, index, *given)

    setattr(place, method, dying)


@pytest.mark.parametrize(
    ("moment", "blocks_left"),
    [("planning", 4), ("first shard", 4), ("third shard", 2), ("third record", 2), ("last record", 1), ("index", 0)],
)
def test_a_killed_pruning_goes_on(
    moment: str, blocks_left: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        match moment:
            case "planning":
                Journal.write_plan = die
            case "first shard" | "third shard":
                die_at_block(Layout, "write_block", 0 if moment == "first shard" else 2)
            case "third record" | "last record":
                die_at_block(Journal, "write_block", 2 if moment == "third record" else 3)
            case "index":
                Layout.finish = die
        prune_checkpoint(source, tmp_path / "pruned", TOKENS, spill=True, **REQUEST)

    assert run_in_child(work) == -signal.SIGKILL
    with pytest.raises(LookupError, match="not complete"):
        load_pruned(tmp_path / "pruned")
    check_finishes(source, tmp_path / "pruned", blocks_left, monkeypatch)


def test_a_killed_pruning_by_the_dense_activations_goes_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the blocks that are done hand on is then not what they now hold."""
    request = {**REQUEST, "sequential": False}

    def work() -> None:
        die_at_block(Layout, "write_block", 2)
        prune_checkpoint(source, tmp_path / "pruned", TOKENS, **request)

    assert run_in_child(work) == -signal.SIGKILL
    check_finishes(source, tmp_path / "pruned", 2, monkeypatch, request)


def test_a_second_kill_and_other_arguments(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "pruned"
    for number in (1, 2):

        def work(number: int = number) -> None:
            die_at_block(Layout, "write_block", number)
            prune_checkpoint(source, target, TOKENS, **REQUEST)

        assert run_in_child(work) == -signal.SIGKILL
    with pytest.raises(ValueError, match="method was 'sparsegpt' and is now 'wanda'"):
        prune_checkpoint(source, target, TOKENS, **{**REQUEST, "method": "wanda"})
    with pytest.raises(ValueError, match="calibration was"):
        prune_checkpoint(source, target, TOKENS.flip(0), **REQUEST)
    check_finishes(source, target, 2, monkeypatch)


def test_a_shard_that_was_damaged_later_is_made_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        die_at_block(Layout, "write_block", 3)
        prune_checkpoint(source, tmp_path / "pruned", TOKENS, **REQUEST)

    assert run_in_child(work) == -signal.SIGKILL
    second = sorted((tmp_path / "pruned").glob("model-*.safetensors"))[-2]
    second.write_bytes(second.read_bytes()[:-8])
    check_finishes(source, tmp_path / "pruned", 3, monkeypatch)


def test_a_full_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system refuses to let a file grow, as it does on a full disk or over a quota."""
    said = tmp_path / "said"

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        write_block = Layout.write_block

        def cramped(self: Layout, index: int) -> None:
            if index == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            write_block(self, index)

        Layout.write_block = cramped
        try:
            prune_checkpoint(source, tmp_path / "pruned", TOKENS, **REQUEST)
        except OSError as error:
            said.write_text(f"{error.errno} {error}")

    assert run_in_child(work) == 0
    code, text = said.read_text().split(" ", 1)
    assert int(code) == errno.EFBIG and "No room left" in text and "call again" in text
    check_finishes(source, tmp_path / "pruned", 2, monkeypatch)


@pytest.mark.parametrize(
    ("place", "blocks_left"),
    [("spilled", 4), ("journal.write_atomically", 4), ("layout.shutil.copyfile", 0), ("streaming.write_report", 0)],
)
def test_a_disk_that_is_full_at_other_moments(
    place: str, blocks_left: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden states that are spilled, the journal, small files and the report at the end: the same clear word."""
    open_file = Path.open

    def full(*given: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def open_but_for_spilled(path: Path, *given: object, **named: object) -> object:
        return full() if path.name == "activations" else open_file(path, *given, **named)

    with monkeypatch.context() as patch:
        if place == "spilled":
            patch.setattr(Path, "open", open_but_for_spilled)
        else:
            patch.setattr(f"labutils.checkpoints.{place}", full)
        with pytest.raises(OSError, match="No room left.*call again") as caught:
            prune_checkpoint(source, tmp_path / "pruned", TOKENS, spill=True, **REQUEST)
    assert caught.value.errno == errno.ENOSPC
    check_finishes(source, tmp_path / "pruned", blocks_left, monkeypatch)


def test_no_room_is_noticed_before_anything_is_computed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr("labutils.checkpoints.layout.shutil.disk_usage", lambda path: usage)
        patch.setattr("labutils.checkpoints.streaming.prune_block", lambda *given: pytest.fail("computed"))
        with pytest.raises(OSError, match="No room left") as caught:
            prune_checkpoint(source, tmp_path / "pruned", TOKENS, **REQUEST)
    assert caught.value.errno == errno.ENOSPC
    check_finishes(source, tmp_path / "pruned", 4, monkeypatch)


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_source_damaged_on_the_way(
    damage: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_block, last = Layout.write_block, sorted(source.glob("*.safetensors"))[-2]
    whole = last.read_bytes()

    def damaging(self: Layout, index: int) -> None:
        write_block(self, index)
        if index == 0:
            last.write_bytes(whole[: len(whole) // 2]) if damage == "truncated" else last.unlink()

    with monkeypatch.context() as patch:
        patch.setattr(Layout, "write_block", damaging)
        with pytest.raises(ValueError if damage == "truncated" else LookupError, match=last.name) as caught:
            prune_checkpoint(source, tmp_path / "pruned", TOKENS, **REQUEST)
    assert "kept" in str(caught.value)
    last.write_bytes(whole)
    done = len(list((tmp_path / "pruned" / ".pruning").glob("block-*.json")))
    assert done >= 1
    check_finishes(source, tmp_path / "pruned", 4 - done, monkeypatch)


def test_two_processes_at_one_target(source: Path, tmp_path: Path) -> None:
    (tmp_path / "pruned" / ".pruning").mkdir(parents=True)
    with (
        FileLock(tmp_path / "pruned" / ".pruning" / "lock"),
        pytest.raises(ValueError, match="Another process"),
    ):
        prune_checkpoint(source, tmp_path / "pruned", TOKENS, **REQUEST)


def test_a_folder_with_other_files_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("words")
    with pytest.raises(ValueError, match="holds other files"):
        prune_checkpoint(source, tmp_path / "mine", TOKENS, **REQUEST)
    with pytest.raises(ValueError, match="is a file"):
        prune_checkpoint(source, tmp_path / "mine" / "thesis.tex", TOKENS, **REQUEST)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_source_with_another_configuration_is_another_source(source: Path, tmp_path: Path) -> None:
    """The same weights compute something else: what was pruned of them before is not taken for it."""
    target = tmp_path / "pruned"
    prune_checkpoint(source, target, TOKENS, **REQUEST)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    with pytest.raises(ValueError, match="config"):
        prune_checkpoint(source, target, TOKENS, **REQUEST)
