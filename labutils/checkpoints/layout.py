"""How a pruned checkpoint is laid out in its folder: shards, index, and what lies beside the weights."""

import errno
import json
import shutil
from pathlib import Path

from labutils.checkpoints.records import LAYERS, RECORD
from labutils.checkpoints.shards import INDEX, read_header, write_shard
from labutils.checkpoints.streamed import StreamedModel
from labutils.core.files import write_atomically

WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf", ".ckpt"}
LEFT_OUT = {INDEX, RECORD, LAYERS, "README.md"}  # a README speaks of the dense model


class Layout:
    """The shards of a target folder: first those with everything outside the blocks, then one for each block.

    Attributes:
        others: the checkpoint's names of what lies outside the blocks, shard by shard.
        shards: all shards, in their order.
    """

    def __init__(self, model: StreamedModel, target: Path, scratch: Path):
        """Args: scratch: folder for unfinished files, on the target's disk."""
        self.model, self.target, self.scratch = model, target, scratch
        self.others = self._group_others()
        total = len(self.others) + len(model.blocks)
        self.shards = [target / f"model-{number:05d}-of-{total:05d}.safetensors" for number in range(1, total + 1)]

    def _group_others(self) -> list[list[str]]:
        """What lies outside the blocks, in groups no bigger than the biggest block unless a tensor is."""
        counts = {key: shape.numel() for key, shape in self.model.shards.shapes.items()}
        blocks = range(len(self.model.blocks))
        largest = max(sum(counts[key] for key in self.model.block_keys(index)) for index in blocks)
        groups: list[list[str]] = []
        room = 0
        for key in self.model.other_keys():
            if not groups or counts[key] > room:
                groups.append([])
                room = largest
            groups[-1].append(key)
            room -= counts[key]
        return groups

    def block_shard(self, index: int) -> Path:
        return self.shards[len(self.others) + index]

    def write_block(self, index: int) -> None:
        """Write the shard of the block that is in memory."""
        write_shard(self.block_shard(index), self.model.block_state(index), scratch=self.scratch)

    def check_room(self) -> None:
        """Raises an OSError where the pruned model cannot fit beside what is written already."""
        whole = self.model.stored_bytes()
        needed = whole - sum(path.stat().st_size for path in self.shards if path.exists())
        free = shutil.disk_usage(self.target).free
        if needed > free:
            raise OSError(
                errno.ENOSPC, f"No room left in {self.target}: the pruned model needs {needed / 1e9:.3g} GB more, and "
                f"{free / 1e9:.3g} GB are free. Free some space and call again with the same arguments",
            )  # fmt: skip

    def copy_others(self) -> None:
        """Write what lies outside the blocks, where that is not there yet."""
        for keys, path in zip(self.others, self.shards, strict=False):
            if not path.exists():
                write_shard(path, {key: self.model.other_tensor(key) for key in keys}, scratch=self.scratch)

    def finish(self) -> None:
        """Write what makes the shards a model: configuration, tokenizer and other small files, and the index."""
        source = self.model.shards.folder
        for path in sorted(source.iterdir()):
            small = path.is_file() and path.suffix not in WEIGHT_SUFFIXES and not path.name.endswith(".index.json")
            if small and path.name not in LEFT_OUT and not path.name.startswith("."):
                shutil.copyfile(path, self.target / path.name)
        if not self.model.keeps_dtypes:
            config = json.loads((source / "config.json").read_text())
            config.pop("torch_dtype", None)
            config["dtype"] = str(self.model.model.dtype).removeprefix("torch.")
            write_atomically(self.target / "config.json", json.dumps(config, indent=2) + "\n")
        places = {key: path.name for path in self.shards for key in read_header(path)}
        index = {"metadata": {"total_size": sum(path.stat().st_size for path in self.shards)}, "weight_map": places}
        write_atomically(self.target / INDEX, json.dumps(index, indent=1, sort_keys=True) + "\n")
