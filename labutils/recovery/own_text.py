"""What a model writes itself: continuations to train or calibrate on, and the loss on continuations alone."""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from transformers import PreTrainedModel

from labutils.evaluation.batching import batches_of, rows_at_once
from labutils.evaluation.readout import log_likelihoods
from labutils.models.modes import device_of, eval_mode
from labutils.models.positions import check_context
from labutils.models.structure import check_causal, check_token_ids


def own_continuations(
    model: PreTrainedModel,
    prompts: Int64[Tensor, "n prompt_len"],
    *,
    seq_len: int,
    sampled: bool = True,
    seed: int = 0,
    batch_size: int = 32,
) -> Int64[Tensor, "n seq_len"]:
    """Each prompt with what the model writes after it, up to `seq_len` tokens; ends of text do not stop it.

        lab.recovery.own_continuations(dense, tokens[:, :32], seq_len=128)

    Args:
        sampled: from the model's own distribution, at temperature 1; else always the likeliest token.

    Raises:
        ValueError: prompts that leave no room, ids outside the vocabulary, or more tokens than the model has positions.
    """
    check_causal(model, "own continuations")
    check_token_ids(model, prompts)
    if not 1 <= prompts.shape[1] < seq_len:
        raise ValueError(f"prompts of {prompts.shape[1]} tokens leave nothing to write in sequences of {seq_len}.")
    check_context(model, seq_len, "own continuations")
    written = []
    ways = {"do_sample": sampled, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {"do_sample": False}
    with eval_mode(model), torch.random.fork_rng():
        torch.manual_seed(seed)
        for batch in prompts.split(batch_size):
            batch = batch.to(device_of(model))
            extra = seq_len - prompts.shape[1]
            written.append(
                model.generate(
                    batch, attention_mask=torch.ones_like(batch), max_new_tokens=extra, min_new_tokens=extra,
                    eos_token_id=None, pad_token_id=0, repetition_penalty=1.0, **ways,
                ).cpu()
            )  # fmt: skip
    return torch.cat(written)


def join_prompts(tokens: Int64[Tensor, "n seq_len"], prompt_len: int) -> Int64[Tensor, "rows seq_len"]:
    """Only the beginnings of some windows, joined into windows of the same length: as many tokens, all of prompts.

    >>> join_prompts(torch.arange(8).reshape(2, 4), 2)
    tensor([[0, 1, 4, 5]])

    Raises:
        ValueError: the prompts do not fill whole windows.
    """
    length = tokens.shape[1]
    if not 1 <= prompt_len <= length or length % prompt_len or len(tokens) % (length // prompt_len):
        raise ValueError(f"{len(tokens)} prompts of {prompt_len} tokens do not fill whole windows of {length}.")
    return tokens[:, :prompt_len].reshape(-1, length)


def continuation_losses(
    model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], prompt_len: int, *, batch_size: int = 32
) -> Float32[Tensor, " n"]:
    """Mean next-token loss of each sequence over what comes after its prompt, in nats.

        lab.recovery.continuation_losses(model, tokens, 32)

    Raises:
        ValueError: a prompt that leaves nothing to predict, and as `sequence_losses`.
    """
    check_causal(model, "the loss of a continuation")
    check_token_ids(model, tokens)
    length = tokens.shape[1]
    if not 1 <= prompt_len < length:
        raise ValueError(f"prompt_len={prompt_len} must be from 1 to {length - 1}, with sequences of {length} tokens.")
    losses, device = torch.empty(len(tokens)), device_of(model)
    places = torch.arange(length - prompt_len, device=device)
    with eval_mode(model):
        for chosen in batches_of([length] * len(tokens), rows_at_once(model, batch_size, length), device):
            batch = tokens[chosen].to(device)
            logits = model(input_ids=batch, use_cache=False).logits[:, prompt_len - 1 : -1]
            found = [log_likelihoods(row, places, ids[prompt_len:]) for row, ids in zip(logits, batch, strict=True)]
            losses[chosen] = -torch.stack(found).double().mean(1).float().cpu()
    return losses
