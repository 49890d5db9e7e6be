"""The path that gradient-based attribution integrates along: its two ends, what is attributed, its chunks of memory.

What is attributed is log p of a passage's target tokens, along the straight path of the embeddings from a baseline to
the text: every token that is not special starts as the end-of-text token. (An all-zero baseline is a poor one here:
models with a norm before each layer hardly notice the size of an embedding, so everything would happen at its end.)
The first token stays as it is even where it is no special one: heads that have nothing to say attend to it (the
attention sink of Xiao et al. 2024, arXiv 2309.17453), and on a path that changes it they jump.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.neurons import find_mlp_layers
from labutils.attribution.passages import Passage
from labutils.core.free_memory import free_memory
from labutils.core.progress import progress
from labutils.data.tokens import special_frame
from labutils.evaluation.batching import padded_batches
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_causal, check_token_ids, find_blocks

MEMORY = 2**30  # bytes
KEPT = 24  # points of a passage's path whose states are held at once, about, where no more fit


@dataclass(frozen=True)
class Batch:
    """Passages of similar length: both ends of the path, and what the log-likelihood needs."""

    passages: list[int]
    embeddings: Float[Tensor, "rows length hidden"]
    baseline: Float[Tensor, "rows length hidden"]
    ids: Int64[Tensor, "rows length"]
    mask: Int64[Tensor, "rows length"]
    targets: Bool[Tensor, "rows length"]
    content: Bool[Tensor, "rows length"]  # neither first, special nor padding
    rows_at_once: int  # points of the path, over all passages, that are computed together
    points_at_once: int  # about so many have their states held until their part adds up

    def fixed(self, rows: Int64[Tensor, " some"] | slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments of the log-likelihood that no path leads through, of some rows or of all."""
        return self.ids[rows], self.mask[rows], self.targets[rows]


@contextmanager
def probed_module(module: nn.Module, side: str, length: int) -> Iterator[nn.Identity]:
    """An identity that sees the tensor that enters (`side` "input") or leaves ("output") a module, out of any tuple.

    It sees [rows, length, units], also where the model itself has joined rows and tokens, as OPT does.
    """
    probe = nn.Identity()

    def watch(tensor: Tensor) -> Tensor:
        return probe(tensor.reshape(-1, length, tensor.shape[-1])).reshape(tensor.shape)

    def on_input(module: nn.Module, args: tuple) -> tuple:
        return (watch(args[0]), *args[1:])

    def on_output(module: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        return (watch(output[0]), *output[1:]) if isinstance(output, tuple) else watch(output)

    with module.register_forward_pre_hook(on_input) if side == "input" else module.register_forward_hook(on_output):
        yield probe


def row_bytes(model: PreTrainedModel, length: int, n_targets: int) -> int:
    """About how much memory a row of `length` tokens, `n_targets` of them predicted, takes on the way forward and back.

    Counted per token: a dozen hidden vectors and five inner vectors of every block; per target the logits three times;
    per pair of tokens the attention weights of every head, twice.
    """
    config = model.config.get_text_config()
    hidden, n_blocks = config.hidden_size, len(find_blocks(model)[1])
    inner = sum(layer.width for layer in find_mlp_layers(model))
    per_token = 12 * hidden * n_blocks + 5 * inner + 2 * n_blocks * config.num_attention_heads * length
    return (length * per_token + 3 * n_targets * config.vocab_size) * model.dtype.itemsize


def point_bytes(model: PreTrainedModel, length: int) -> int:
    """How much a point of the path of `length` tokens holds: states and gradients of all blocks and their neurons."""
    hidden = model.config.get_text_config().hidden_size * len(find_blocks(model)[1])
    return 2 * length * (hidden + sum(layer.width for layer in find_mlp_layers(model))) * model.dtype.itemsize


def log_likelihood(model: PreTrainedModel) -> Callable[..., Float[Tensor, " rows"]]:
    """The function that is attributed: embeddings → log p of the targets, one value per row."""
    check_causal(model, "the attribution of a log-likelihood")
    chooses = "logits_to_keep" in signature(model.forward).parameters

    def score(
        embeddings: Float[Tensor, "rows length hidden"], ids: Int64[Tensor, "rows length"],
        mask: Int64[Tensor, "rows length"], targets: Bool[Tensor, "rows length"],
    ) -> Float[Tensor, " rows"]:  # fmt: skip
        before = targets[:, 1:].any(0).nonzero().squeeze(1)
        options = {"logits_to_keep": before} if chooses else {}  # the head is a fifth of the work of a small model
        logits = model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False, **options).logits
        if logits.shape[1] != len(before):
            logits = logits[:, before]
        losses = F.cross_entropy(logits.flatten(0, 1), ids[:, before + 1].flatten(), reduction="none")
        return torch.where(targets[:, before + 1], -losses.view(len(ids), -1), 0).sum(1)

    return score


@contextmanager
def frozen_weights(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, no gradients of the weights, which nobody asks for, and weights of float32 at least.

    What 16 bits round off a state is more than the state changes from one point of a path to the next. The narrow
    weights are kept meanwhile, and put back.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    tensors = [*model.parameters(), *model.buffers()]
    narrow = [(tensor, tensor.data) for tensor in tensors if tensor.is_floating_point() and tensor.itemsize < 4]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        for tensor, values in narrow:
            tensor.data = values.float()
        with eval_mode(model, gradients=True):
            yield
    finally:
        for tensor, values in narrow:
            tensor.data = values
        for parameter in trained:
            parameter.requires_grad_(True)


def path_batches(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, passages: Sequence[Passage], memory: int | None,
    description: str,
) -> Iterator[Batch]:  # fmt: skip
    """As many passages together as fit with the points of their paths into the memory, at least one."""
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end-of-text token, from which the path starts: set tokenizer.eos_token")
    for index, (ids, first) in enumerate(passages):
        if not 1 <= first < len(ids):
            raise ValueError(
                f"passage {index} has {len(ids)} tokens; its first_target={first} must be one of 1 to their last"
            )
    rows, device = [passage.ids for passage in passages], device_of(model)
    check_token_ids(model, rows)
    size, rows_at_once, points_at_once = _fitting(model, passages, memory)
    n_held = max(1, len(special_frame(tokenizer)[0]))
    embed = model.get_input_embeddings()
    neutral = embed(torch.tensor(tokenizer.eos_token_id, device=device)).detach()
    padded = padded_batches(rows, size, tokenizer, device)
    for chosen, ids, mask in progress(padded, total=-(-len(rows) // size), description=description, unit="batch"):
        embeddings = embed(ids).detach()
        positions = torch.arange(ids.shape[1], device=device)
        content = mask.bool() & (positions >= n_held)
        first = torch.tensor([passages[index].first_target for index in chosen], device=device).unsqueeze(1)
        baseline = torch.where(content.unsqueeze(-1), neutral, embeddings)
        targets = mask.bool() & (positions >= first)
        yield Batch(chosen, embeddings, baseline, ids, mask, targets, content, rows_at_once, points_at_once)


def _fitting(model: PreTrainedModel, passages: Sequence[Passage], memory: int | None) -> tuple[int, int, int]:
    """How many passages go together, how many points of their paths are computed together, and how many are held."""
    longest = max(len(passage.ids) for passage in passages)
    n_targets = max(len(passage.ids) - passage.first_target for passage in passages)
    row, point = row_bytes(model, longest, n_targets), point_bytes(model, longest)
    kept = KEPT * point
    needed, free = row + kept, free_memory(device_of(model).type) or 0
    allowed = max(MEMORY, min(needed, free)) if memory is None else memory
    if needed > allowed:
        limit = "are free" if memory is None else "memory= allows"
        raise ValueError(
            f"the path of a passage of {longest} tokens needs about {needed / 2**20:,.0f} MiB, and "
            f"{allowed / 2**20:,.0f} MiB {limit}: give shorter passages (n_tokens), or raise memory"
        )
    size = min(len(passages), max(1, allowed // (kept + 2 * row)))
    more = (allowed - size * kept - row) // (row + point)  # a point more is computed, and then held
    return size, 1 + more, size * KEPT + more
