"""What one loaded model takes on this machine: shapes of its prunings, and short passes that are timed."""

import dataclasses
from collections.abc import Callable
from functools import cache, cached_property

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.evaluation.batching import rows_at_once
from labutils.evaluation.losses import sequence_losses
from labutils.foresight.readings import AlongPaths, PlantedTexts, Reading, Written
from labutils.foresight.steps import MASKED, STATE, StepRates, measure_steps, optimizer_seconds
from labutils.foresight.work import Pass, Shape, Training
from labutils.models.experts import holds_experts
from labutils.models.modes import eval_mode
from labutils.models.structure import find_blocks
from labutils.pruning.forecast.memory import Memory, stage_memory
from labutils.pruning.forecast.plan import Plan
from labutils.pruning.forecast.probe import clocked, measure_pruning, measure_speed
from labutils.pruning.forecast.request import plan_request
from labutils.pruning.forecast.seconds import beginning_seconds, stage_seconds
from labutils.pruning.methods import Request
from labutils.smaller.mixtures import count_experts
from labutils.training.parts_of_batches import KEPT_AT_ONCE
from labutils.yardsticks.divergence import TOP

PROBE_TOKENS, PROBE_LENGTH = 256, 128  # of a timed pass


class Meter:
    """Costs of one model; each is measured or worked out when first asked for, and remembered.

    >>> Meter(*lab.load_model("lab-llama")).read_seconds(Windows(("lab:review",), 64, 128, 0))

    Attributes:
        load_seconds, load_peak: that loading the model took, and bytes that the process had held by then.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, load_seconds: float = 0.0, load_peak: int = 0
    ):
        self.model, self.tokenizer = model, tokenizer
        self.load_seconds, self.load_peak = load_seconds, load_peak
        self.blocks = find_blocks(model)[1]
        self.has_experts = any(map(holds_experts, self.blocks))
        self.weight_bytes = sum(parameter.nbytes for parameter in model.parameters())
        self.count, self.step_rates, self._plans = cache(self._count), cache(self._step_rates), {}

    def plan(self, shape: Shape, request: Request) -> Plan:
        """What a pruning comes to: what a block does is read off once for all requests of a shape."""
        key = shape, request.options.batch_size
        if key not in self._plans:
            self._plans[key] = plan_request(self.model, shape, request, self.model.dtype)
        return dataclasses.replace(self._plans[key], request=request)

    def _count(self, reading: Reading) -> int:
        return reading.count_tokens(self.tokenizer)

    def pruning_stages(self, request: Request, shape: Shape, *, errors: bool) -> dict[str, float]:
        """Seconds of every stage of a pruning.

        Raises:
            LookupError: a model whose cost cannot be told from shapes.
        """
        plan, device = self.plan(shape, request), self.model.device
        pruning = measure_pruning(plan.method, device, plan.options.group)
        return stage_seconds(plan, self._speed, pruning, errors=errors)

    def beginning(self, request: Request, shape: Shape) -> float:
        """Seconds before the first block of a pruning, or of a grid of them."""
        return beginning_seconds(self.plan(shape, request), self._speed, self.memory(request, shape).copied)

    def memory(self, request: Request, shape: Shape) -> Memory:
        return stage_memory(self.plan(shape, request), on_cpu=self.model.device.type == "cpu")

    def reading_memory(self) -> int:
        """Bytes that reading takes at most beside the weights: the logits of a batch, and a copy in float32."""
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        return rows_at_once(self.model, 32, PROBE_LENGTH) * PROBE_LENGTH * vocabulary * (self.model.dtype.itemsize + 4)

    def read_seconds(self, reading: Reading) -> float:
        """Seconds of one pass over a reading."""
        if isinstance(reading, Written):
            return reading.n * reading.prompt_len * self._without_head + reading.steps * self._writing
        if isinstance(reading, AlongPaths):
            one_block, n_run = self._without_head / len(self.blocks), reading.count_blocks(len(self.blocks))
            head = max(0.0, self._with_head - self._without_head) * reading.count_predicted(self.tokenizer)
            return self.count(reading) * n_run * one_block + reading.n_read * head
        return self.count(reading) * (self._with_head if reading.head else self._without_head)

    def pass_seconds(self, asked: Pass) -> float:
        """Seconds of all that a pass asks for."""
        times = asked.times * (len(self.blocks) if asked.each_block else 1)
        one = self.count(asked.reading) * self._there_and_back if asked.gradients else self.read_seconds(asked.reading)
        return times * one

    def count_steps(self, asked: Training) -> int:
        """Of one training."""
        if isinstance(asked.steps, PlantedTexts):
            return asked.steps.count_batches(self.tokenizer)
        return asked.steps

    def training_seconds(self, asked: Training) -> float:
        """Seconds of all steps of one training."""
        rates, tokens = self.step_rates(asked.part), asked.rows * asked.length
        one = tokens * (rates.seconds + asked.taught * self._with_head)
        one += rates.parameters * optimizer_seconds(self.model.device)
        return self.count_steps(asked) * one

    def training_memory(self, asked: Training) -> int:
        """Bytes beside the model: what a batch keeps for the way back, gradients, the optimizer's state, a copy.

        On a CPU what is kept counts twice: between tensors that stay, the C library cannot give back what others leave.
        """
        rates = self.step_rates(asked.part)
        row, rows = asked.length * rates.kept, asked.rows
        if asked.in_parts:
            rows = max(1, min(rows, int((KEPT_AT_ONCE - rates.fixed) // max(1.0, row))))
        gaps = 2 if self.model.device.type == "cpu" else 1
        state = STATE + MASKED * asked.masked
        return round(gaps * (rates.fixed + rows * row) + rates.parameters * state + self.weight_bytes)

    @cached_property
    def n_experts(self) -> int:
        """Of each mixture; asked for only where a notebook drops some, since not every model's parts can be told."""
        return count_experts(self.model)

    @property
    def walk_rate(self) -> float:
        """Seconds per token without the head."""
        return self._without_head

    @property
    def reading_rate(self) -> float:
        """Seconds per token with the loss."""
        return max(self._with_head, self._without_head)

    def likeliest_bytes(self, places: int) -> int:
        """Of the likeliest words at some places, with their numbers where they are not all words."""
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        return places * (TOP * 8 if vocabulary > TOP else vocabulary * 4)

    def _step_rates(self, part: str) -> StepRates:
        return measure_steps(self.model, self._probe[:1], part)

    @cached_property
    def _writing(self) -> float:
        """Seconds of one token more for a batch of rows."""
        ids = self._probe[:1, :1].expand(Written.BATCH, 1).to(self.model.device)

        def run() -> None:
            with eval_mode(self.model):
                self.model(input_ids=ids, use_cache=True)

        return min(map(min, clocked(run, self.model.device, repeats=3)))

    @cached_property
    def _speed(self):
        return measure_speed(self.model.device, self.model.dtype)

    @cached_property
    def _probe(self) -> Tensor:
        length = min(PROBE_LENGTH, getattr(self.model.config, "max_position_embeddings", None) or PROBE_LENGTH)
        shape = (max(1, PROBE_TOKENS // length), length)
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(0))

    @cached_property
    def _with_head(self) -> float:
        return self._per_token(lambda: sequence_losses(self.model, self._probe))

    @cached_property
    def _without_head(self) -> float:
        def run() -> None:
            with eval_mode(self.model):
                self.model.base_model(input_ids=self._probe.to(self.model.device))

        return self._per_token(run)

    @cached_property
    def _there_and_back(self) -> float:
        """Forward and back to the embeddings, as attributions and, nearly, adapters go."""

        def run() -> None:
            ids = self._probe.to(self.model.device)
            with eval_mode(self.model, gradients=True):
                embeddings = self.model.get_input_embeddings()(ids).detach().requires_grad_()
                logits = self.model(inputs_embeds=embeddings, use_cache=False).logits
                torch.autograd.grad(logits.float().logsumexp(-1).sum(), embeddings)

        return self._per_token(run)

    def _per_token(self, run: Callable[[], object]) -> float:
        """The faster of two passes after a first one."""
        return min(map(min, clocked(run, self.model.device, repeats=3))) / self._probe.numel()
