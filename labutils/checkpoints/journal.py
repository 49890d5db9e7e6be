"""What a streamed pruning has done so far, so that it goes on after a kill where it was.

The journal lies in the target folder until the pruning is complete. Everything in it is written as a whole: the plan
once, then a record for each block after the block's shard. A block counts as done when its record is there and its
shard is the file that the record speaks of.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from labutils.checkpoints.records import RECORD
from labutils.checkpoints.shards import explain_failed_write
from labutils.core.files import hash_file, read_json, write_atomically

FOLDER = ".pruning"


@dataclass(frozen=True)
class Plan:
    """What is to be done to each block.

    Attributes:
        budgets: how many weights each matrix drops, keyed by (block index, layer name).
        seconds: what planning took, the dense pass included.
    """

    budgets: dict[tuple[int, str], int]
    seconds: float


@dataclass(frozen=True)
class BlockRecord:
    """What was done to one block: the report's rows, channel orders by layer name, and seconds."""

    rows: list[dict]
    permutations: dict[str, Tensor]
    seconds: float


class Journal:
    """The record of one pruning in its target folder, held by one process at a time."""

    def __init__(self, target: Path, identity: dict):
        """Open the journal, or begin it.

        Args:
            identity: everything that the result depends on; a journal with another identity is refused.

        Raises:
            ValueError: the folder holds something else, or a pruning with other inputs; or another process is at it.
            OSError: the folder cannot be written to.
        """
        self.target, self.folder, self.identity = target, target / FOLDER, identity
        self.was_there = target.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(self.folder / "lock")
            self.lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(f"Another process is pruning into {target}; wait for it, or choose a folder.") from error
        except OSError as error:
            raise explain_failed_write(self.folder, error) from error
        try:
            self._identify()
        except (OSError, ValueError):
            self.lock.release()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type | None, *details: object) -> None:
        """Leave the journal for the next call; nothing stays of a pruning that was refused before its first block."""
        self.lock.release()
        if kind is not None and issubclass(kind, ValueError | LookupError) and not any(self.folder.glob("block-*")):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.was_there:
                with suppress(OSError):  # something was put there since
                    self.target.rmdir()

    def _identify(self) -> None:
        found = self._read("identity")
        if found is None:
            self._write("identity", self.identity)
        elif changed := differences(self.identity, found):
            raise ValueError(
                f"{self.target} holds the beginning of another pruning: {changed}. Call with the same inputs to go on, "
                "or choose another folder."
            )

    def plan(self) -> Plan | None:
        """The plan, if it was made."""
        with self._sound("plan"):
            if (found := self._read("plan")) is None:
                return None
            return Plan({(int(index), str(name)): int(count) for index, name, count in found["budgets"]},
                        float(found["seconds"]))  # fmt: skip

    def write_plan(self, plan: Plan) -> None:
        budgets = [[index, name, count] for (index, name), count in plan.budgets.items()]
        self._write("plan", {"budgets": budgets, "seconds": plan.seconds})

    def block(self, index: int, shard: Path) -> BlockRecord | None:
        """The record of a block that is done."""
        name = f"block-{index:05d}"
        with self._sound(name):
            found = self._read(name)
            if found is None or not shard.exists() or hash_file(shard) != found["shard"]:
                return None
            orders = {layer: torch.tensor(order) for layer, order in found["permutations"].items()}
            return BlockRecord([dict(row) for row in found["rows"]], orders, float(found["seconds"]))

    def write_block(self, index: int, shard: Path, record: BlockRecord) -> None:
        orders = {name: order.tolist() for name, order in record.permutations.items()}
        about = {"shard": hash_file(shard), "rows": record.rows, "permutations": orders, "seconds": record.seconds}
        self._write(f"block-{index:05d}", about)

    def finish(self) -> None:
        """Remove the journal: the pruning is complete."""
        self.lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, name: str) -> dict | None:
        path = self.folder / f"{name}.json"
        return read_json(path) if path.exists() else None

    @contextmanager
    def _sound(self, name: str) -> Iterator[None]:
        """A record that is not what was written is a ValueError that names it."""
        try:
            yield
        except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.folder / name}.json is damaged ({error!r}). Remove {self.folder} and the shards beside it, and "
                "begin anew."
            ) from error

    def _write(self, name: str, content: dict) -> None:
        path = self.folder / f"{name}.json"
        try:
            write_atomically(path, json.dumps(content))
        except OSError as error:
            raise explain_failed_write(path, error) from error


def check_target(target: Path) -> None:
    """Refuse a folder that is neither new, nor empty, nor the target of an earlier `prune_checkpoint`.

    Raises:
        ValueError: it holds other files, or is a file.
        OSError: it exists and cannot be written to.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"{target} is a file; give the folder that the pruned model is to be written to.")
    if not os.access(target, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise explain_failed_write(target / RECORD, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    if any(target.iterdir()) and not (target / FOLDER).exists() and not (target / RECORD).exists():
        raise ValueError(f"{target} holds other files; give a new or empty folder for the pruned model.")


def differences(asked: dict, found: dict) -> str:
    """The entries in which two identities differ, in words; empty where they are equal."""
    asked, found = json.loads(json.dumps(asked)), json.loads(json.dumps(found))
    names = [name for name in {**asked, **found} if asked.get(name) != found.get(name)]
    return ", ".join(f"{name} was {found.get(name)!r} and is now {asked.get(name)!r}" for name in names)
