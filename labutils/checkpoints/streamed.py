"""A model whose weights stay on disk: one block in memory at a time."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from labutils.checkpoints.naming import Group, match_conversions, match_names
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
        self.model = build_without_weights(shards.folder, parse_dtype(dtype))
        self.prefix, self.blocks = find_blocks(self.model)
        self.groups = match_names(shards.files, self.model)
        if self._missing():
            self.groups = match_conversions(shards.shapes, self.model)
        if missing := self._missing():
            raise LookupError(f"{shards.folder} holds no tensor for {missing[0]}; it is not a complete checkpoint.")
        self._files = dict(shards.files)
        self._resident: int | None = None
        for module in self.model.modules():
            for name, buffer in module._buffers.items():
                module._buffers[name] = buffer if buffer is None else buffer.to(self.device)

    def _missing(self) -> list[str]:
        """Parameters of blocks that no tensor of the checkpoint makes up."""
        found = {name for group in self.groups for name in group.names}
        inside = [name for name, _ in self.blocks.named_parameters(prefix=self.prefix)]
        return [name for name in inside if name not in found]

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
        """The state of the block in memory, under the checkpoint's names."""
        start = f"{self.prefix}.{index}."
        state = {start + name: tensor.detach() for name, tensor in self.blocks[index].state_dict().items()}
        tensors: dict[str, Tensor] = {}
        for group in self.block_groups(index):
            tensors |= group.to_checkpoint(state, self.model)
        return {key: tensor.cpu().contiguous() for key, tensor in tensors.items()}

    @contextmanager
    def outside(self) -> Iterator[None]:
        """What comes before the blocks (embeddings above all), in memory while the context lasts."""
        groups = self._groups_before_blocks()
        self._fill(groups)
        try:
            yield
        finally:
            self._empty(groups)

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
        owner, _, entry = name.rpartition(".")
        self.model.get_submodule(owner).load_state_dict({entry: tensor}, strict=False, assign=True)

    def _read(self, key: str) -> Tensor:
        tensor = read_tensor(self._files[key], key)
        check_finite_tensor(tensor, key, self._files[key])
        return tensor
