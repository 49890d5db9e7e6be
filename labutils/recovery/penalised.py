"""Train with a penalty on what is about to be removed, so that its work moves elsewhere: regularise, then prune.

Source: DReSS (arXiv:2501.17905), whose abstract names the order and an L1 or L2 penalty; here the penalty is the sum of
the groups' Euclidean norms (a group lasso), a group being all weights of one neuron.
"""

from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.models.structure import find_blocks
from labutils.recovery.clock import Stopwatch
from labutils.recovery.descent import descend, widened
from labutils.recovery.places import parameters_of
from labutils.recovery.recovering import (
    Recovered,
    check_training,
    choose_loss,
    draw_batches,
    restored_on_error,
)
from labutils.recovery.removal import Neurons, find_feed_forward, neuron_slices


def tune_with_penalty(
    model: PreTrainedModel,
    tokens: Int64[Tensor, "n seq_len"],
    neurons: Neurons,
    *,
    strength: float = 1e-3,
    steps: int = 100,
    learning_rate: float = 1e-3,
    batch_size: int = 8,
    seed: int = 0,
) -> Recovered:
    """Train all parameters on loss + strength · Σ ‖group‖ over the neurons that are to be removed next, in place.

        neurons = lab.recovery.choose_neurons(model, tokens, 0.5)
        lab.recovery.tune_with_penalty(model, tokens, neurons, steps=200)
        lab.recovery.silence_neurons(model, neurons)

    Raises:
        ValueError, Diverged: as `recover`, or a strength below 0; the model is then as it was.
    """
    check_training(model, tokens, steps=steps, batch_size=batch_size, learning_rate=learning_rate)
    if not strength >= 0:
        raise ValueError(f"strength={strength} must be at least 0.")
    blocks = find_blocks(model)[1]
    slices = [neuron_slices(find_feed_forward(blocks[index]), own) for index, own in neurons.items() if len(own)]
    watch, was_training = Stopwatch(), model.training

    def penalty() -> Float[Tensor, ""]:
        return strength * sum(group_norms(own).sum() for own in slices)

    with restored_on_error(model, model.parameters()):
        model.eval().requires_grad_(True)
        batches = draw_batches(tokens, steps, batch_size, seed)
        given = (model, parameters_of(model, ["all"]), batches, choose_loss("text", None), learning_rate, steps)
        losses = descend(*given, penalty=penalty if slices else None)
    model.train(was_training)
    count = sum(parameter.numel() for parameter in model.parameters())
    return Recovered(losses, watch.spent(), count, steps * batch_size * tokens.shape[1])


def group_norms(slices: list[tuple[nn.Parameter, tuple[Tensor | slice, ...]]]) -> Float[Tensor, " neurons"]:
    """The Euclidean norm of all weights of each neuron of one block, from `neuron_slices`."""
    total = 0.0
    for parameter, places in slices:
        own = widened(parameter[places])
        axis = 1 if isinstance(places[0], slice) else 0  # which dimension counts the neurons
        squares = own.square() if own.ndim == 1 else own.square().sum(1 - axis)
        fused = places[axis].numel() // _count(slices)
        total = total + squares.unflatten(0, (fused, -1)).sum(0)
    return (total + 1e-12).sqrt()  # the root has no slope at zero


def _count(slices: list[tuple[nn.Parameter, tuple[Tensor | slice, ...]]]) -> int:
    """How many neurons: those that the reading layer, the last one, names."""
    places = slices[-1][1]
    return next(place for place in places if isinstance(place, Tensor)).numel()
