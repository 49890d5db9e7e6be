"""The path that gradient-based attribution integrates along: its two ends, its chunks of memory, its sums.

What is attributed is log p of a passage's target tokens, along the straight path of the embeddings from a baseline to
the text: every token that is not special starts as the end-of-text token. (An all-zero baseline is a poor one here:
models with a norm before each layer hardly notice the size of an embedding, so everything would happen at its end.)
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.neurons import find_mlp_layers
from labutils.attribution.passages import Passage
from labutils.core.progress import progress
from labutils.data.tokens import special_frame
from labutils.evaluation.batching import padded_batches
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_causal, check_token_ids, find_blocks

TOLERANCE = 0.1  # of F(text) − F(baseline)
FLOOR = 0.1  # nats; errors are not measured against smaller differences


@dataclass(frozen=True)
class Batch:
    """Passages of similar length: both ends of the path, and what the log-likelihood needs."""

    passages: list[int]
    embeddings: Float[Tensor, "rows length hidden"]
    baseline: Float[Tensor, "rows length hidden"]
    ids: Int64[Tensor, "rows length"]
    mask: Int64[Tensor, "rows length"]
    targets: Bool[Tensor, "rows length"]
    content: Bool[Tensor, "rows length"]  # neither special nor padding
    rows_at_once: int  # points of the path, over all passages, that fit into the memory together

    @property
    def fixed(self) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments of the log-likelihood that no path leads through."""
        return self.ids, self.mask, self.targets


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


def row_bytes(model: PreTrainedModel, length: int) -> int:
    """About how much memory a row of `length` tokens takes on the way forward and back.

    Counted per token: a dozen hidden vectors and five inner vectors of every block, and the logits three times; per
    pair of tokens the attention weights of every head, twice.
    """
    config = model.config.get_text_config()
    hidden, n_blocks = config.hidden_size, len(find_blocks(model)[1])
    inner = sum(layer.width for layer in find_mlp_layers(model))
    per_token = (12 * hidden * n_blocks + 5 * inner) * model.dtype.itemsize + 3 * config.vocab_size * 4
    pairs = 2 * n_blocks * config.num_attention_heads * length * model.dtype.itemsize
    return length * (per_token + pairs)


def log_likelihood(model: PreTrainedModel) -> Callable[..., Float[Tensor, " rows"]]:
    """The function that is attributed: embeddings → log p of the targets, one value per row."""
    check_causal(model, "the attribution of a log-likelihood")

    def score(
        embeddings: Float[Tensor, "rows length hidden"], ids: Int64[Tensor, "rows length"],
        mask: Int64[Tensor, "rows length"], targets: Bool[Tensor, "rows length"],
    ) -> Float[Tensor, " rows"]:  # fmt: skip
        logits = model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).logits
        rows, positions = targets[:, 1:].nonzero(as_tuple=True)
        losses = F.cross_entropy(logits[rows, positions].float(), ids[rows, positions + 1], reduction="none")
        return torch.zeros(len(ids), device=ids.device).index_add(0, rows, -losses)

    return score


def layer_conductance(
    score: Callable[..., Float[Tensor, " rows"]], batch: Batch, modules: Sequence[tuple[nn.Module, str]], n_steps: int
) -> list[Float64[Tensor, "rows units"]]:
    """Conductance of the units that enter or leave each module, summed over the tokens, one row per passage.

    With h_k the module's tensor at point k of the path, Σ_k ∂F/∂h_k · (h_{k+1} − h_k), k = 0 … n_steps − 1: captum's
    `LayerConductance` by the trapezoidal rule's points, which reach both ends of the path, but one way forward and one
    back for all modules together instead of one for each.
    """
    n_rows, length = batch.ids.shape
    points = torch.linspace(0, 1, n_steps + 1).tolist()
    step = max(1, batch.rows_at_once // n_rows)
    totals: list[Tensor | float] = [0.0] * len(modules)
    last: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(points), step):
        shares = torch.tensor(points[start : start + step], device=batch.ids.device).to(batch.baseline.dtype)
        path = batch.baseline + shares.view(-1, 1, 1, 1) * (batch.embeddings - batch.baseline)
        seen = _states_and_gradients(score, path, batch, modules)
        for index, (states, gradients) in enumerate(seen):
            if last:
                states, gradients = (
                    torch.cat([old, new]) for old, new in zip(last[index], (states, gradients), strict=True)
                )
            steps = gradients[:-1] * (states[1:] - states[:-1])
            totals[index] = totals[index] + steps.double().sum((0, 2))
            seen[index] = (states[-1:], gradients[-1:])
        last = seen
    return totals


def _states_and_gradients(
    score: Callable, path: Float[Tensor, "points rows length hidden"], batch: Batch,
    modules: Sequence[tuple[nn.Module, str]],
) -> list[tuple[Tensor, Tensor]]:  # fmt: skip
    """Each module's tensor at every point, [points, rows, length, units], and the gradient of the score there."""
    seen: dict[nn.Module, Tensor] = {}
    n_points, n_rows, length, _ = path.shape
    with ExitStack() as hooks:
        probes = [hooks.enter_context(probed_module(module, side, length)) for module, side in modules]
        for probe in probes:
            probe.register_forward_hook(lambda probe, args, output: seen.update({probe: output}))
        values = score(path.flatten(0, 1).requires_grad_(), *(fixed.repeat(n_points, 1) for fixed in batch.fixed))
    states = [seen[probe] for probe in probes]
    gradients = torch.autograd.grad(values.sum(), states)
    return [
        (state.detach().unflatten(0, (n_points, n_rows)), gradient.unflatten(0, (n_points, n_rows)))
        for state, gradient in zip(states, gradients, strict=True)
    ]


@contextmanager
def frozen_weights(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, and no gradients of the weights, which nobody asks for."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with eval_mode(model, gradients=True):
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def path_batches(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, passages: Sequence[Passage], n_steps: int,
    memory: int, description: str,
) -> Iterator[Batch]:  # fmt: skip
    """As many passages together as fit with all their steps into the memory, at least one."""
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end-of-text token, from which the path starts: set tokenizer.eos_token")
    rows = [passage.ids for passage in passages]
    check_token_ids(model, rows)
    longest = max(map(len, rows))
    needed = row_bytes(model, longest)
    fitting = memory // needed
    if fitting < 2:
        raise ValueError(
            f"two rows of {longest} tokens need about {2 * needed / 2**20:,.0f} MiB, more than "
            f"memory={memory / 2**20:,.0f} MiB: raise memory, or give shorter passages"
        )
    size = max(1, min(len(rows), fitting // (n_steps + 1)))
    n_special = len(special_frame(tokenizer)[0])
    embed = model.get_input_embeddings()
    neutral = embed(torch.tensor(tokenizer.eos_token_id, device=device_of(model))).detach()
    padded = padded_batches(rows, size, tokenizer, device_of(model))
    for chosen, ids, mask in progress(padded, total=-(-len(rows) // size), description=description, unit="batch"):
        embeddings = embed(ids).detach()
        positions = torch.arange(ids.shape[1], device=ids.device)
        content = mask.bool() & (positions >= n_special)
        first = torch.tensor([passages[index].first_target for index in chosen], device=ids.device).unsqueeze(1)
        baseline = torch.where(content.unsqueeze(-1), neutral, embeddings)
        targets = mask.bool() & (positions >= first)
        # Two points of every passage at least, since conductance looks at neighbouring points.
        yield Batch(chosen, embeddings, baseline, ids, mask, targets, content, max(2 * len(chosen), fitting))


def check_sums(sums: Float[Tensor, " rows"], score: Callable, batch: Batch, tolerance: float, what: str) -> float:
    """Largest relative error of the sums; ValueError where one is beyond the tolerance."""
    with torch.no_grad():
        wanted = (score(batch.embeddings, *batch.fixed) - score(batch.baseline, *batch.fixed)).double()
    errors = (sums.detach() - wanted).abs() / wanted.abs().clamp_min(FLOOR)
    worst = int(errors.argmax())
    if not errors[worst] <= tolerance:
        raise ValueError(
            f"the attributions of the {what} of passage {batch.passages[worst]} add up to {float(sums[worst]):.3g} "
            f"nats instead of {float(wanted[worst]):.3g}: raise n_steps, or allow more with tolerance"
        )
    return float(errors[worst])
