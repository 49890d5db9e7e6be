"""A model whose weights stay on disk: one block in memory at a time."""

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from labutils.checkpoints.naming import Group, match_all
from labutils.checkpoints.shards import Shards, check_finite_tensor, read_tensor
from labutils.checkpoints.skeleton import build_without_weights
from labutils.core.profiling import trim_malloc
from labutils.models.loading import parse_dtype
from labutils.models.structure import find_blocks


class StreamedModel:
    """A model without weights, and the checkpoint that its parts are read from when they are needed.

    Attributes:
        model: its parameters are on torch's meta device, but for the parts in memory at the moment.
        prefix, blocks: where its blocks are.
        groups: what the checkpoint's tensors make up in the model's state.
    """

    def __init__(self, shards: Shards, *, device: str, dtype: str):
        """Build the model that `labutils.load_model` would load.

        Args:
            dtype: the name of a floating-point dtype of torch, or "auto" for the checkpoint's own.

        Raises:
            ValueError: no such dtype; or the checkpoint is quantised.
            LookupError: the checkpoint lacks a weight of a block.
        """
        self.shards, self.device = shards, torch.device(device)
        wanted = parse_dtype(dtype, device=device)
        self.keeps_dtypes = wanted is None
        self.model = build_without_weights(shards.folder, wanted, stored=shards.first_dtype())
        self.prefix, self.blocks = find_blocks(self.model)
        inside = [name for name, _ in self.blocks.named_parameters(prefix=self.prefix)]
        self.groups = match_all(shards.shapes, self.model, set(inside))
        found = {name for group in self.groups for name in group.names}
        if missing := [name for name in inside if name not in found]:
            raise LookupError(f"{shards.folder} holds no tensor for {missing[0]}; it is not a complete checkpoint.")
        self._files, self._aliases = dict(shards.files), _tied_names(self.model)
        self._resident: int | None = None
        for module in self.model.modules():
            for name, buffer in module._buffers.items():
                module._buffers[name] = buffer if buffer is None else buffer.to(self.device)

    def block_groups(self, index: int) -> list[Group]:
        """What makes up the state of a block."""
        return [group for group in self.groups if group.names[0].startswith(f"{self.prefix}.{index}.")]

    def block_keys(self, index: int) -> list[str]:
        """The checkpoint's names of a block's tensors."""
        return [key for group in self.block_groups(index) for key in group.keys]

    def other_keys(self) -> list[str]:
        """Everything in the checkpoint that belongs to no block, in the order of the names."""
        inside = {key for index in range(len(self.blocks)) for key in self.block_keys(index)}
        return sorted(set(self.shards.files) - inside)

    def visit(self, index: int) -> nn.Module:
        """Bring a block into memory, in place of the one that was there.

        Raises:
            LookupError, ValueError: its file is missing or damaged, or a weight is not finite or of the wrong shape.
        """
        if self._resident != index:
            self.leave()
            self._fill(self.block_groups(index))
            self._resident = index
        return self.blocks[index]

    def leave(self) -> None:
        """Let go of the block in memory."""
        if self._resident is not None:
            self._empty(self.block_groups(self._resident))
            self._resident = None
            trim_malloc()

    def replace_file(self, index: int, path: Path) -> None:
        """From now on read a block from another file, as its pruned version."""
        self._files |= dict.fromkeys(self.block_keys(index), path)
        self.leave()

    def block_state(self, index: int) -> dict[str, Tensor]:
        """The state of the block in memory, under the checkpoint's names and, if dtypes are kept, in its dtypes."""
        start = f"{self.prefix}.{index}."
        state = {start + name: tensor.detach() for name, tensor in self.blocks[index].state_dict().items()}
        tensors: dict[str, Tensor] = {}
        for group in self.block_groups(index):
            tensors |= group.to_checkpoint(state, self.model)
        tensors = {key: tensor.cpu().contiguous() for key, tensor in tensors.items()}
        if not self.keeps_dtypes:
            return tensors
        return {key: self._in_stored_dtype(key, tensor) for key, tensor in tensors.items()}

    def other_tensor(self, key: str) -> Tensor:
        """A tensor of the checkpoint that belongs to no block, in the dtype in which it is to be stored."""
        tensor = self.shards.read(key)
        if self.keeps_dtypes or not tensor.is_floating_point():
            return tensor
        return tensor.to(self._dtypes.get(key, self.model.dtype))

    def dtype_in_words(self) -> str:
        """In which dtype is computed, and whether others are kept as they are stored."""
        return f"{self.model.dtype}{', others as stored' if self.keeps_dtypes else ''}"

    def stored_bytes(self) -> int:
        """How much room the pruned checkpoint takes at most."""
        shards, wanted = self.shards, self.model.dtype.itemsize
        kept = self.keeps_dtypes
        sizes = {key: max(dtype.itemsize, wanted) if kept else wanted for key, dtype in shards.dtypes.items()}
        return sum(shape.numel() * sizes[key] for key, shape in shards.shapes.items())

    @functools.cached_property
    def _dtypes(self) -> dict[str, torch.dtype]:
        """Of the model's entries, by the checkpoint's names."""
        own = self.model.state_dict()
        return {key: own[group.names[0]].dtype for group in self.groups for key in group.keys}

    def _in_stored_dtype(self, key: str, tensor: Tensor) -> Tensor:
        """A tensor as it is to be stored: what pruning has left alone has the very bits of the checkpoint.

        What it has changed comes in a dtype that holds both the stored numbers and the computed ones.
        """
        if self.shards.dtypes[key] == tensor.dtype:
            return tensor
        stored = self.shards.read(key)
        kept = stored.to(tensor.dtype) == tensor
        if kept.all() and tensor.shape == stored.shape:
            return stored
        common = torch.promote_types(stored.dtype, tensor.dtype)
        return torch.where(kept & (tensor != 0), stored.to(common), tensor.to(common))

    @contextmanager
    def outside(self) -> Iterator[None]:
        """What comes before the blocks (embeddings above all), in memory while the context lasts.

        What the checkpoint has no tensor for, as BERT's pooler, which nothing reads behind the blocks, is zero.
        """
        groups = self._groups_before_blocks()
        self._fill(groups)
        own, known = self.model.state_dict(), {name for group in self.groups for name in group.names}
        absent = [name for name in own if own[name].is_meta and name not in known and not self._is_head(name)]
        for name in absent:
            self._assign(name, torch.zeros_like(own[name], device=self.device))
        try:
            yield
        finally:
            self._empty(groups)
            for name in absent:
                self._assign(name, own[name])

    def _is_head(self, name: str) -> bool:
        """Whether an entry belongs to the head over the vocabulary, which a walk through the blocks never reaches."""
        head = self.model.get_output_embeddings()
        own, _, entry = name.rpartition(".")
        return head is not None and self.model.get_submodule(own) is head and entry in head._parameters

    def _groups_before_blocks(self) -> list[Group]:
        """All of the model's state but the blocks and the head, which a walk through the blocks never reaches."""
        names = {module: name for name, module in self.model.named_modules()}
        head = names.get(self.model.get_output_embeddings())
        passed = (f"{self.prefix}.",) if head is None else (f"{self.prefix}.", f"{head}.")
        used = [group for group in self.groups if not group.names[0].startswith(passed)]
        embedding = f"{names[self.model.get_input_embeddings()]}.weight"
        if not any(embedding in group.names for group in used):  # tied, and stored under the head's name
            state = self.model.state_dict(keep_vars=True)
            tied = [group for group in self.groups if state[group.names[0]] is state[embedding]]
            if not tied:
                raise LookupError(f"{self.shards.folder} holds no tensor for {embedding}.")
            used.append(Group(tied[0].keys, (embedding,)))
        return used

    def _fill(self, groups: Iterable[Group]) -> None:
        own = self.model.state_dict()
        for group in groups:
            for name, tensor in group.to_model(self._read, self.model).items():
                if tensor.shape != own[name].shape:
                    raise ValueError(
                        f"{', '.join(group.keys)} in {self.shards.folder} is {tuple(tensor.shape)}, but the "
                        f"configuration asks for {tuple(own[name].shape)} in {name}; they do not belong together."
                    )
                self._assign(name, tensor.to(device=self.device, dtype=own[name].dtype))

    def _empty(self, groups: Iterable[Group]) -> None:
        state = self.model.state_dict()
        for name in (name for group in groups for name in group.names):
            self._assign(name, state[name].to("meta"))

    def _assign(self, name: str, tensor: Tensor) -> None:
        for alias in self._aliases.get(name, (name,)):
            owner, _, entry = alias.rpartition(".")
            self.model.get_submodule(owner).load_state_dict({entry: tensor}, strict=False, assign=True)

    def _read(self, key: str) -> Tensor:
        tensor = read_tensor(self._files[key], key)
        check_finite_tensor(tensor, key, self._files[key])
        return tensor


def _tied_names(model: nn.Module) -> dict[str, list[str]]:
    """The names of every parameter that has several, by each of them."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, entry in model.state_dict(keep_vars=True).items():
        names[id(entry)].append(name)
    return {name: found for found in names.values() if len(found) > 1 for name in found}
