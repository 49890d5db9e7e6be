"""A backbone with a linear head for one task, and everything that distillation reads from it in one forward pass."""

import copy
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.distillation.adapters import (
    adapter_matrices,
    add_adapters,
    has_adapters,
    merge_adapters,
    recorded_adapters,
)
from labutils.distillation.data import TaskData
from labutils.evaluation.similarity import mean_pool
from labutils.models.modes import eval_mode
from labutils.models.structure import check_token_ids, find_blocks

Pooling = Literal["mean", "last"]


@dataclass(frozen=True)
class Reading:
    """One forward pass. `hidden` are the outputs of the blocks (the last one after the model's final norm); `adapters`
    those of the A matrices, None without adapters. Pairs have two rows per item, all first sentences first.
    """

    outputs: Float[Tensor, "items outputs"]
    hidden: Float[Tensor, "blocks rows tokens width"]
    adapters: Float[Tensor, "blocks rows tokens features"] | None


class TaskModel(nn.Module):
    """A copy of a backbone, without its language-model head, and a linear head on its pooled last hidden states.

    Classification reads the pooled state of one row; regression reads |a − b| and a · b of the pooled states of the
    two sentences (as InferSent, Conneau et al. 2017, without a and b themselves).
    """

    def __init__(
        self, model: PreTrainedModel, data: TaskData, *, pooling: Pooling = "mean", adapter_rank: int | None = None
    ) -> None:
        """The head, and adapters where a rank is given, are drawn from torch's generator.

        Args:
            model: a causal language model or an encoder; it is copied.
            pooling: the mean over a row's tokens, or the state of its last token.
            adapter_rank: add LoRA adapters of this rank, and freeze the backbone's own weights.

        Raises:
            ValueError: the task's token ids do not fit the model.
        """
        super().__init__()
        rows = [row for part in (data.train, data.validation, data.test) for row in part.rows]
        check_token_ids(model, rows, data.name)
        self.pooling, self.paired = pooling, data.kind == "regression"
        backbone = copy.deepcopy(model.base_model).float()
        backbone.config.use_cache = False
        width = backbone.config.get_text_config().hidden_size
        device = model.get_input_embeddings().weight.device
        self.head = nn.Linear((2 if self.paired else 1) * width, data.n_outputs, device=device)
        self.backbone = backbone if adapter_rank is None else add_adapters(backbone, rank=adapter_rank)
        self._find_parts()

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def n_blocks(self) -> int:
        return self.backbone.config.get_text_config().num_hidden_layers

    @property
    def width(self) -> int:
        return self.backbone.config.get_text_config().hidden_size

    def merge(self) -> None:
        """Add the adapters to the weights; without adapters nothing happens."""
        if has_adapters(self.backbone):
            self.backbone = merge_adapters(self.backbone)
            self._find_parts()

    def _find_parts(self) -> None:
        """Find what every pass records, once: a search costs more than a small student's pass."""
        self._blocks = tuple(find_blocks(self.backbone)[1])
        self._matrices = adapter_matrices(self.backbone) if has_adapters(self.backbone) else None

    def pool(
        self, states: Float[Tensor, "*blocks rows tokens width"], mask: Int64[Tensor, "rows tokens"]
    ) -> Float[Tensor, "*blocks rows width"]:
        """One state per row."""
        if self.pooling == "mean":
            return mean_pool(states, mask)
        return states[..., torch.arange(len(mask)), mask.sum(1) - 1, :]

    def features(self, pooled: Float[Tensor, "*blocks rows width"]) -> Float[Tensor, "*blocks items features"]:
        """What a head or a probe reads of an item: its pooled state, or |a − b| and a · b of its two."""
        if not self.paired:
            return pooled
        first, second = pooled.chunk(2, dim=-2)
        return torch.cat([(first - second).abs(), first * second], dim=-1)

    def forward(self, ids: Int64[Tensor, "rows tokens"], mask: Int64[Tensor, "rows tokens"]) -> Reading:
        """Outputs and states of all blocks."""
        if self._matrices is None:
            states, adapters = self._states(ids, mask), None
        else:
            with recorded_adapters(self._matrices) as per_block:
                states = self._states(ids, mask)
            adapters = torch.stack(per_block)
        return Reading(self.head(self.features(self.pool(states[-1], mask))), states, adapters)

    def _states(
        self, ids: Int64[Tensor, "rows tokens"], mask: Int64[Tensor, "rows tokens"]
    ) -> Float[Tensor, "blocks rows tokens width"]:
        """Recorded by hooks of our own: those of transformers are lost when a model goes to another process."""
        states: list[Tensor] = []
        with ExitStack() as hooks:
            for block in self._blocks:
                hook = block.register_forward_hook(lambda _, inputs, output: states.append(_first(output)))
                hooks.enter_context(hook)
            last = self.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
        return torch.stack([*states[:-1], last])

    def read(self, ids: Int64[Tensor, "rows tokens"], mask: Int64[Tensor, "rows tokens"]) -> Reading:
        """`forward` in evaluation mode and without gradients; the mode is restored."""
        with eval_mode(self):
            return self(ids, mask)


def _first(output: Tensor | tuple) -> Tensor:
    """The hidden states among what a block returns."""
    return output[0] if isinstance(output, tuple) else output
