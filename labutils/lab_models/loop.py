"""The training loop: resumable after any kill, and the same to the last bit whether or not it was."""

import json
import math
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from labutils.core.paths import MODELS, expand
from labutils.core.progress import progress
from labutils.lab_models.corpus import SHARD_SEQUENCES, load_shard, train_tokenizer
from labutils.lab_models.specs import SEQUENCE_LENGTH, SPECS, ModelSpec
from labutils.models.loading import choose_device, parse_dtype
from labutils.training.checkpoints import find_state, load_checkpoint, save_checkpoint
from labutils.training.steps import decay_groups, guarded_step

CHECKPOINT_FOLDER = "checkpoint"


@dataclass(frozen=True)
class Options:
    """Hyper-parameters of a run. `tokens` is rounded down to whole steps of batch_size × 128 tokens."""

    tokens: int
    learning_rate: float = 3e-3  # the highest of the run
    batch_size: int = 16  # windows of 128 tokens
    warmup_share: float = 0.05  # of all steps
    final_rate_share: float = 0.05  # of the learning rate, at the last step
    weight_decay: float = 0.0  # AdamW's, of matrices
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0  # largest norm of the gradient
    answer_weight: float = 10.0  # of a token that answers a task, against 1 of any other
    seed: int = 0
    checkpoint_steps: int = 200
    loss_steps: int = 50  # steps averaged into one point of the loss curve
    withheld: str = ""  # the register that the model never reads
    products: str = "fast"  # dtype of matrix products: bfloat16 where the device multiplies in it, else float32

    @property
    def steps(self) -> int:
        """Number of optimiser steps; ValueError when the tokens are too few for one."""
        steps = self.tokens // (self.batch_size * SEQUENCE_LENGTH)
        if steps < 1:
            raise ValueError(
                f"tokens={self.tokens} is less than one step of {self.batch_size * SEQUENCE_LENGTH}; give more tokens."
            )
        return steps

    def rate(self, step: int) -> float:
        """Learning rate of a step (from 0): linear warm-up, then a half cosine down to `final_rate_share`."""
        warmup = max(1, round(self.warmup_share * self.steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        fraction = (step - warmup) / max(1, self.steps - warmup)
        share = self.final_rate_share + (1 - self.final_rate_share) * 0.5 * (1 + math.cos(math.pi * fraction))
        return self.learning_rate * share


@dataclass
class Progress:
    """How far a run has come. `loss_curve` holds pairs (tokens seen, mean loss since the last pair)."""

    options: dict[str, Any]
    device: str
    step: int = 0
    seconds: float = 0.0
    loss_curve: list[list[int | float]] = field(default_factory=list)
    recent_losses: list[float] = field(default_factory=list)


def train_lab_model(
    name: str | ModelSpec,
    *,
    tokens: int | None = None,
    seed: int = 0,
    device: str = "auto",
    out: Path | None = None,
    resume: bool = False,
    options: Options | None = None,
    start: dict[str, Tensor] | None = None,
) -> Path:
    """Train a lab model and write its weights, configuration and tokenizer; `card.py` measures it afterwards.

    >>> train_lab_model("lab-llama", tokens=10_000_000, out=folder)

    Args:
        name: the name of a spec in `SPECS`, or a spec of one's own.
        tokens: training tokens (default: the spec's).
        device: as for `load_model`.
        out: folder to write (default: data/models/<name>).
        resume: go on from the folder's checkpoint if it has one, with products as it began; otherwise training starts
            anew.
        options: all hyper-parameters, instead of `tokens` and `seed`.
        start: weights to begin from, instead of random ones.

    Returns:
        the folder.

    Raises:
        LookupError: an unknown name.
        ValueError: a checkpoint made with other options, a device that is not there, or a dtype of products other than
            float32 and bfloat16.
    """
    spec = name if isinstance(name, ModelSpec) else find_spec(name)
    options = options or Options(
        tokens=spec.tokens if tokens is None else tokens,
        learning_rate=spec.learning_rate,
        seed=seed,
        withheld=spec.withheld,
    )
    folder = expand(out or MODELS / spec.name)
    place = torch.device(choose_device(device))
    begun = _begun_products(folder / CHECKPOINT_FOLDER) if resume and options.products == "fast" else None
    options = replace(options, products=begun or choose_products(options.products, place))
    tokenizer = train_tokenizer()
    special = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    model = spec.build(vocabulary_size=len(tokenizer), special_ids=special, seed=options.seed).to(place).train()
    if start is not None:
        model.load_state_dict(start)
    optimizer = torch.optim.AdamW(
        decay_groups(model.parameters(), options.weight_decay),
        lr=options.learning_rate,
        betas=(options.beta1, options.beta2),
        fused=True,
    )
    record = Progress(options=asdict(options), device=place.type)
    if resume:
        record = load_checkpoint(folder / CHECKPOINT_FOLDER, model, optimizer, record)
    else:
        shutil.rmtree(folder / CHECKPOINT_FOLDER, ignore_errors=True)
    _run(model, optimizer, tokenizer, record, options, folder=folder / CHECKPOINT_FOLDER, description=spec.name)
    _save(model, tokenizer, folder, record)
    return folder


def find_spec(name: str) -> ModelSpec:
    """The spec of a lab model; LookupError naming those that exist."""
    if name not in SPECS:
        raise LookupError(f"no lab model is called {name!r}; there are {', '.join(SPECS)}.")
    return SPECS[name]


def choose_products(asked: str, device: torch.device) -> str:
    """What "fast" means on this device: where it is emulated, bfloat16 takes ten times as long as float32.

    >>> choose_products("fast", torch.device("cpu"))

    Raises:
        ValueError: a dtype other than float32 and bfloat16.
    """
    dtype = parse_dtype(asked, device=device.type)
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f'products={asked!r} must be "fast", "bfloat16" or "float32".')
    return str(dtype).removeprefix("torch.")


def _begun_products(checkpoint: Path) -> str | None:
    """The dtype of products that a training was begun with; None where there is no checkpoint."""
    state = find_state(checkpoint, {})
    return None if state is None else state["options"].get("products")


def _run(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerFast,
    record: Progress,
    options: Options,
    *,
    folder: Path,
    description: str,
) -> None:
    """The steps still to do; `record` is brought up to date, and saved every `checkpoint_steps`."""
    started = time.monotonic()
    seconds_before = record.seconds
    per_shard = SHARD_SEQUENCES // options.batch_size
    shard_number, shard = -1, None
    for step in progress(range(record.step, options.steps), description=f"train {description}", unit="step"):
        if step // per_shard != shard_number:
            shard_number = step // per_shard
            shard = load_shard(
                shard_number, tokenizer, seed=options.seed, sequences=SHARD_SEQUENCES, withheld=options.withheld
            )
        start = step % per_shard * options.batch_size
        rows = slice(start, start + options.batch_size)
        batch, is_answer = shard.tokens[rows].to(model.device), shard.is_answer[rows].to(model.device)
        record.recent_losses.append(_step(model, optimizer, batch, is_answer, options, step))
        record.step = step + 1
        if len(record.recent_losses) == options.loss_steps:
            mean = sum(record.recent_losses) / options.loss_steps
            record.loss_curve.append([record.step * options.batch_size * SEQUENCE_LENGTH, round(mean, 4)])
            record.recent_losses = []
        record.seconds = seconds_before + time.monotonic() - started
        if record.step % options.checkpoint_steps == 0:
            save_checkpoint(folder, model, optimizer, record)


def _step(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    batch: Tensor,
    is_answer: Tensor,
    options: Options,
    step: int,
) -> float:
    """One step down the weighted loss, plus the routers' in a mixture; returns the plain mean loss (nats per token)."""
    for group in optimizer.param_groups:
        group["lr"] = options.rate(step)
    balance = getattr(model.config, "router_aux_loss_coef", 0.0)  # of the loss that spreads tokens over experts
    # weights, gradients and the optimizer are float32 whatever the products are
    with torch.autocast(model.device.type, torch.bfloat16, enabled=options.products == "bfloat16"):
        output = model(input_ids=batch, use_cache=False, **({"output_router_logits": True} if balance else {}))
        logits = output.logits[:, :-1]
    losses = F.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten(), reduction="none")
    weights = torch.where(is_answer[:, 1:].flatten(), options.answer_weight, 1.0)
    weighted = (losses * weights).sum() / weights.sum()
    if balance:
        weighted = weighted + balance * output.aux_loss
    guarded_step(optimizer, weighted, step=step, clipped=model.parameters(), clip_norm=options.clip_norm)
    return losses.mean().item()


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, record: Progress) -> None:
    """`training.json` last: a folder that has it is complete, and only then does the checkpoint go."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    model.eval().save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder / CHECKPOINT_FOLDER, ignore_errors=True)
