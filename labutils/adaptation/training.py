"""Domain adaptation: a base model goes on with its language-model training, on one sample of abstracts.

Causal models predict the next token; encoders predict masked tokens (Devlin et al. 2019, NAACL: 15 % of the tokens, of
which 80 % become the mask, 10 % another token, 10 % stay).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import (
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from labutils.adaptation.configurations import Adaptation
from labutils.data.tokens import frame_windows, join_texts, text_room
from labutils.evaluation.batching import context_length
from labutils.models.loading import load_model
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_token_ids, is_causal
from labutils.training.steps import minimise, trainable
from labutils.training.text_loss import text_loss

HELDOUT_BATCH = 8
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Base:
    """A model to adapt, with its language-model head; `fresh_head` tells that the checkpoint had none."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fresh_head: bool = False


@dataclass(frozen=True)
class AdaptationRecord:
    """What an adaptation did; losses are nats per predicted token.

    `training_loss` is the mean over the last quarter of the steps, `passes` how often the sample was read.
    """

    training_loss: float
    heldout_before: float
    heldout_after: float
    tokens: int
    passes: float
    seconds: float


def load_base(source: str, *, device: str = "auto", revision: str | None = None) -> Base:
    """Load a model to adapt, in float32: a causal LM as it is, an encoder with the masked-token head of its checkpoint.

    >>> base = load_base("lab-llama")

    An encoder that was stored without that head gets one with random weights, the same in every process.

    Raises:
        LookupError: as `load_model`, or an encoder whose tokenizer has no mask token.
    """
    model, tokenizer = load_model(source, device=device, dtype="float32", revision=revision)
    if is_causal(model):
        return Base(model, tokenizer)
    if tokenizer.mask_token_id is None:
        raise LookupError(
            f"{source}: the encoder's tokenizer has no mask token, so it cannot be trained on masked text"
        )
    place, target = model.config._name_or_path, device_of(model)
    torch.manual_seed(0)
    with _quiet_loading():
        whole, report = AutoModelForMaskedLM.from_pretrained(
            place, revision=revision, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    return Base(whole.to(target).eval(), tokenizer, fresh_head=bool(report["missing_keys"]))


def adapt_model(
    base: Base,
    texts: Sequence[str],
    adaptation: Adaptation,
    *,
    heldout: Int64[Tensor, "n_heldout heldout_length"],
    seq_len: int = 128,
    seed: int = 0,
) -> AdaptationRecord:
    """Train the base model **in place** on the texts for `adaptation.steps` steps, as many for every sample.

    >>> record = adapt_model(base, sample.texts, Adaptation("lora", steps=40), heldout=tokens)

    The texts are joined and cut into windows as by `load_tokens`, and read in random order, again and again until the
    steps are done. A fresh head of an encoder is first trained alone for as many steps on the same texts, so that its
    random weights do not spoil the encoder.

    Args:
        heldout: windows of the domain's text that no sample contains.
        seed: order of the windows, masks, and the first weights of a LoRA.

    Raises:
        ValueError: texts too short for one window, windows longer than the context, or a loss that is not finite.
    """
    started = time.monotonic()
    model = base.model
    windows = cut_windows(texts, base.tokenizer, seq_len)
    for tokens in (windows, heldout):
        check_token_ids(model, tokens)
        if tokens.shape[1] > (limit := context_length(model, base.tokenizer)):
            raise ValueError(f"windows of {tokens.shape[1]} tokens exceed the model's context of {limit}")
    steps, size, rate = adaptation.steps, adaptation.batch_size, adaptation.learning_rate
    loss_of = _loss_of(base)
    if base.fresh_head:
        body = {id(parameter) for parameter in model.base_model.parameters()}
        head = [parameter for parameter in model.parameters() if id(parameter) not in body]
        minimise(head, _random_batches(base, windows, steps, size, seed + 1), loss_of, learning_rate=rate, steps=steps)
    before = language_loss(base, heldout)
    with trainable(model, adaptation.method, rank=adaptation.rank, seed=seed) as parameters:
        losses = minimise(
            parameters, _random_batches(base, windows, steps, size, seed), loss_of, learning_rate=rate, steps=steps
        )
    tail = losses[-max(1, steps // 4) :]
    return AdaptationRecord(
        training_loss=sum(tail) / len(tail),
        heldout_before=before,
        heldout_after=language_loss(base, heldout),
        tokens=steps * size * windows.shape[1],
        passes=steps * size / len(windows),
        seconds=time.monotonic() - started,
    )


def cut_windows(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, seq_len: int
) -> Int64[Tensor, "n_windows seq_len"]:
    """The texts, joined by the end-of-text token (a newline where there is none), cut into framed windows.

    The last tokens, which fill no window, are lost. ValueError when there is not one window.
    """
    stream, width = join_texts(tokenizer, texts), text_room(tokenizer, seq_len)
    if width < 1 or len(stream) < width:
        raise ValueError(f"{len(texts)} texts of {len(stream)} tokens fill no window of {seq_len}: lower seq_len")
    whole = len(stream) // width * width
    return frame_windows(tokenizer, torch.tensor(stream[:whole], dtype=torch.int64).view(-1, width))


def language_loss(base: Base, tokens: Int64[Tensor, "n length"]) -> float:
    """Mean loss over all predicted tokens of some windows; an encoder always finds the same tokens masked."""
    collator = _collator(base, seed=0)
    total, count = 0.0, 0
    with eval_mode(base.model):
        for rows in tokens.split(HELDOUT_BATCH):
            batch = _batch(base, rows, collator)
            predicted = int((batch["labels"] != -100).sum()) - len(rows) * is_causal(base.model)
            total += _loss_of(base)(batch).item() * predicted
            count += predicted
    return total / count


def _random_batches(
    base: Base, windows: Int64[Tensor, "n length"], steps: int, size: int, seed: int
) -> Iterator[Batch]:
    """Batches of windows in random order; all are read before any is read again."""
    generator = torch.Generator().manual_seed(seed)
    collator = _collator(base, seed)
    order: list[int] = []
    for _ in range(steps):
        while len(order) < size:
            order += torch.randperm(len(windows), generator=generator).tolist()
        chosen, order = order[:size], order[size:]
        yield _batch(base, windows[chosen], collator)


def _collator(base: Base, seed: int) -> DataCollatorForLanguageModeling:
    return DataCollatorForLanguageModeling(base.tokenizer, mlm=not is_causal(base.model), seed=seed)


def _batch(base: Base, rows: Int64[Tensor, "batch length"], collator: DataCollatorForLanguageModeling) -> Batch:
    """Inputs and labels: the inputs themselves, or, of masked text, the tokens to be found (−100 elsewhere)."""
    place = device_of(base.model)
    if is_causal(base.model):
        return {"input_ids": rows.to(place), "labels": rows.to(place)}
    batch = collator([{"input_ids": row} for row in rows])
    return {name: batch[name].to(place) for name in ("input_ids", "labels")}


def _loss_of(base: Base) -> Callable[[Batch], Float[Tensor, ""]]:
    """The loss of one batch by the model's own head."""
    model = base.model
    if is_causal(model):
        return lambda batch: text_loss(model, batch["input_ids"])

    def masked_loss(batch: Batch) -> Tensor:
        chosen = batch["labels"] != -100

        def keep_masked(module: nn.Module, arguments: tuple, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state[chosen].unsqueeze(0)
            return output

        # Only the masked positions reach the head, whose product with the vocabulary is most of the work.
        with model.base_model.register_forward_hook(keep_masked):
            return model(input_ids=batch["input_ids"], labels=batch["labels"][chosen].unsqueeze(0)).loss

    return masked_loss


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Without the report of weights that a checkpoint lacks: `fresh_head` tells it."""
    verbosity, shown = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shown:
            transformers_logging.enable_progress_bar()
