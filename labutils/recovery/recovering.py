"""Train a part of a pruned model, towards text or towards the dense model, and keep every zero."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.models.positions import check_context
from labutils.models.structure import (
    check_causal,
    check_token_ids,
    find_blocks,
    layer_parameter,
    prunable_layers,
)
from labutils.recovery.clock import Spent, Stopwatch
from labutils.recovery.descent import Loss, descend, widened
from labutils.recovery.places import (
    assert_kept,
    kept_places,
    masked_gradients,
    pair_masks,
    parameters_of,
    split_parts,
)
from labutils.training.masked_lora import add_lora, drop_lora, merge_lora
from labutils.training.text_loss import text_loss

GOALS = ("text", "logits")
Pairs = list[tuple[nn.Parameter, Bool[Tensor, "..."]]]  # parameters, and which of their places are kept


@dataclass(frozen=True)
class Recovered:
    """What a recovery did.

    Attributes:
        losses: of training, at every step.
        trained_parameters: places that could move; pruned ones cannot.
        tokens: that it trained on, or read.
    """

    losses: list[float]
    spent: Spent
    trained_parameters: int
    tokens: int

    @property
    def seconds(self) -> float:
        """Of the processor."""
        return self.spent.seconds


def recover(
    model: PreTrainedModel,
    tokens: Int64[Tensor, "n seq_len"],
    *,
    trained: str = "lora",
    goal: str = "text",
    dense: PreTrainedModel | None = None,
    steps: int = 100,
    learning_rate: float = 1e-3,
    batch_size: int = 8,
    rank: int = 8,
    seed: int = 0,
) -> Recovered:
    """Train a part of a pruned causal language model in place; what was pruned stays zero.

        lab.recovery.recover(pruned, tokens, trained="biases+norms", dense=model, steps=200)

    AdamW without weight decay, gradients clipped to norm 1, learning rate as `rate_share`. Parameters of 16 bits are
    trained through copies of 32, since small steps would be rounded away. The batches depend on `seed` alone, so that
    two recoveries read the same tokens in the same order; one that would keep more than 1 GiB for the way back goes
    through the model in parts.

    Args:
        trained: parts joined by "+": "lora" (masked adapters, Hu et al. 2022), "biases", "norms", "head"; or "all".
            "biases+norms" and "biases+norms+lora" are what PERP trains (Zimmer et al. 2023, arXiv:2312.15230), whose
            head has adapters where "head" trains it whole.
        goal: "text", the next token; or "logits", the Kullback-Leibler divergence from the dense model's next-token
            distribution (temperature 1).
        dense: the model before its pruning; needed for "logits". With it `kept_places` knows what was pruned.
        rank: of adapters, whose update is scaled by 2.

    Raises:
        ValueError: no causal language model, unusable tokens, numbers below 1, a goal that is unknown or lacks `dense`.
        Diverged: a loss that is not finite, before a step or behind the last one.
        LookupError: an unknown part, or one that the model does not have. In all cases the model is as it was.
    """
    check_causal(model, "recover")
    check_training(model, tokens, steps=steps, batch_size=batch_size, learning_rate=learning_rate)
    parts, with_lora = split_parts(trained)
    if not with_lora:
        parameters_of(model, parts)  # nothing to train is told before anything changes
    loss = choose_loss(goal, dense)
    kept = kept_places(model, dense)
    pairs = pair_masks(model, kept)
    watch = Stopwatch()
    with restored_on_error(model, changed_parameters(model, parts, with_lora=with_lora)):
        with _prepared(model, parts, rank if with_lora else None, seed) as (network, parameters):
            count = count_trained(network, parameters, pairs)
            with masked_gradients(pairs):
                losses = descend(
                    network, parameters, draw_batches(tokens, steps, batch_size, seed), loss, learning_rate, steps
                )
        assert_kept(model, kept)
    return Recovered(losses, watch.spent(), count, steps * batch_size * tokens.shape[1])


def check_training(
    model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], *, steps: int, batch_size: int, learning_rate: float
) -> None:
    """ValueError for tokens or numbers that no training can use."""
    if steps < 1 or batch_size < 1 or len(tokens) == 0 or not learning_rate > 0:
        raise ValueError(
            f"steps={steps}, batch_size={batch_size} and tokens ({len(tokens)}) must be at least 1, and "
            f"learning_rate={learning_rate} above 0."
        )
    check_token_ids(model, tokens)
    if tokens.shape[1] < 2:
        raise ValueError(f"sequences of {tokens.shape[1]} token have nothing to predict; give two or more.")
    check_context(model, tokens.shape[1], "recover")


def choose_loss(goal: str, dense: PreTrainedModel | None) -> Loss:
    """The loss of a goal; ValueError where it is unknown or there is no dense model to be near to."""
    if goal not in GOALS:
        raise ValueError(f"goal={goal!r} must be one of {', '.join(GOALS)}.")
    if goal == "text":
        return text_loss
    if dense is None:
        raise ValueError('goal="logits" needs dense=…, the model before its pruning.')

    def divergence(model: nn.Module, batch: Int64[Tensor, "batch seq_len"]) -> Float[Tensor, ""]:
        with torch.no_grad():
            wanted = widened(dense(input_ids=batch, use_cache=False).logits[:, :-1])
        return logit_divergence(wanted, widened(model(input_ids=batch, use_cache=False).logits[:, :-1]))

    return divergence


def logit_divergence(
    dense: Float[Tensor, "*places vocabulary"], pruned: Float[Tensor, "*places vocabulary"]
) -> Float[Tensor, ""]:
    """KL(dense ‖ pruned) of next-token distributions in nats, averaged over places.

    >>> logit_divergence(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor(0.)
    """
    target, found = dense.log_softmax(-1), pruned.log_softmax(-1)
    return (target.exp() * (target - found)).sum(-1).mean()


def draw_batches(
    tokens: Int64[Tensor, "n seq_len"], steps: int, batch_size: int, seed: int
) -> Iterator[Int64[Tensor, "batch seq_len"]]:
    """Batches of sequences: passes over all of them, each in a random order of its own."""
    generator = torch.Generator().manual_seed(seed)
    queue: list[int] = []
    for _ in range(steps):
        while len(queue) < batch_size:
            queue += torch.randperm(len(tokens), generator=generator).tolist()
        chosen, queue = queue[:batch_size], queue[batch_size:]
        yield tokens[chosen]


def count_trained(network: nn.Module, parameters: list[nn.Parameter], pairs: Pairs) -> int:
    """How many places training can move: no pruned ones, and no adapter of a matrix that is pruned as a whole."""
    idle = {
        id(parameter)
        for module in network.modules()
        if isinstance(mask := getattr(module, "kept", None), Tensor) and not mask.any()
        for parameter in module.parameters()
    }
    pruned = {id(parameter): int((~mask).sum()) for parameter, mask in pairs}
    return sum(one.numel() - pruned.get(id(one), 0) for one in parameters if id(one) not in idle)


def changed_parameters(model: PreTrainedModel, parts: list[str], *, with_lora: bool) -> list[nn.Parameter]:
    """What training can change, each once: the parameters of the parts, and the matrices that adapters are merged into.

    >>> changed_parameters(model, ["biases", "norms"], with_lora=False)
    """
    blocks = find_blocks(model)[1] if with_lora else []
    adapted = [layer_parameter(layer) for block in blocks for layer in prunable_layers(block).values()]
    return list({id(one): one for one in (*parameters_of(model, parts), *adapted)}.values())


@contextmanager
def restored_on_error(model: PreTrainedModel, changed: Iterable[nn.Parameter]) -> Iterator[None]:
    """After an error inside the block, parameters have the values and all of them the `requires_grad` they came with.

    Args:
        changed: parameters that the block may change; these alone are copied.
    """
    own = {id(parameter) for parameter in changed}
    # by name, since adapters may put another parameter in a place
    before = {name: one.detach().clone() for name, one in model.named_parameters() if id(one) in own}
    trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in before:
                    parameter.copy_(before[name])
        raise
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trainable[name])
            parameter.grad = None


@contextmanager
def _prepared(
    model: PreTrainedModel, parts: list[str], rank: int | None, seed: int
) -> Iterator[tuple[nn.Module, list[nn.Parameter]]]:
    """The network to run and the parameters to train, in training mode without dropout; adapters are merged behind."""
    was_training = model.training
    model.eval()  # dropout off: dense and pruned models are compared without noise
    with ExitStack() as ending:
        ending.callback(model.train, was_training)
        if rank is None:
            wanted = {id(parameter) for parameter in parameters_of(model, parts)}
            for parameter in model.parameters():
                parameter.requires_grad_(id(parameter) in wanted)
            yield model, [parameter for parameter in model.parameters() if parameter.requires_grad]
            return
        own = parameters_of(model, parts) if parts else []
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # the adapters begin at random
            adapted = add_lora(model, rank=rank, alpha=2.0 * rank)
        try:
            for parameter in own:
                parameter.requires_grad_(True)
            yield adapted, [parameter for parameter in adapted.parameters() if parameter.requires_grad]
        except BaseException:
            drop_lora(adapted)
            raise
        merge_lora(adapted)
