"""Gradients of a block's matrices over the sequences n of the calibration, for scores that read them.

Of the model, g_n is the gradient of the mean next-token loss of sequence n, of the model as it is before anything is
pruned. One backward pass a sequence serves all scores and sparsities, and takes one more copy of the blocks' weights in
float32 for each sum:

- √Σ_n g_n², and Σ_n |g_n| (both of GBLM-Pruner, arXiv 2311.04902);
- mean_n g_n² (the diagonal of the empirical Fisher information) and mean_n g_n, of a domain's and of general text
  (GAPrune, arXiv 2509.10844).

Of the block: √(mean_n G_n²), with G_n the gradient of the norm of the block's own output on sequence n, behind the
pruned blocks before it (Wanda++, arXiv 2503.04992). Only one block's gradients are alive at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labutils.models.modes import eval_mode
from labutils.models.structure import (
    Layer,
    all_finite,
    check_causal,
    layer_parameter,
    matrix_in,
    prunable_layers,
    weight_matrix,
)
from labutils.pruning.calibration import BlockWalk

Gradients = dict[str, Float[Tensor, "*kinds out in"]]  # of a block's matrices, by their name in it


def model_gradients(walk: BlockWalk) -> list[Gradients]:
    """Per block, √Σ_n g_n² of every weight: the gradient of the model's loss, over the calibration sequences.

    Padding is no target, and a sequence of one token has no loss. The model and the walk stay as they are.

    >>> model_gradients(BlockWalk(model, tokens))[0]["mlp.down_proj"]  # like its weight, (out × in)

    Raises:
        ValueError: the model predicts no next token, or a gradient is not finite; the matrix is named.
    """
    (sums,), _ = _sums(walk, walk.gradient_inputs, [torch.square])
    return [{name: total.sqrt_() for name, total in own.items()} for own in sums]


def absolute_gradients(walk: BlockWalk) -> list[Gradients]:
    """Per block, Σ_n |g_n| of every weight; else as `model_gradients`.

    >>> absolute_gradients(BlockWalk(model, tokens))[0]["mlp.down_proj"]
    """
    return _sums(walk, walk.gradient_inputs, [torch.abs])[0][0]


def gradient_moments(walk: BlockWalk, inputs: dict[str, Tensor]) -> tuple[list[Gradients], list[Gradients]]:
    """Per block, mean_n g_n² and mean_n g_n over the sequences of a checked text; else as `model_gradients`.

    >>> squares, means = gradient_moments(walk, walk.inputs)

    Raises:
        ValueError: no sequence has a token to predict.
    """
    (squares, means), n_read = _sums(walk, inputs, [torch.square, lambda gradient: gradient])
    if not n_read:
        raise ValueError("No sequence has a token to predict, so that there are no gradients. Give longer sequences.")
    for total in (total for sums in (squares, means) for own in sums for total in own.values()):
        total /= n_read
    return squares, means


def _sums(
    walk: BlockWalk, inputs: dict[str, Tensor], terms: Sequence[Callable[[Tensor], Tensor]]
) -> tuple[list[list[Gradients]], int]:
    """Of every term of a sequence's gradient its sum over the sequences, per block; and how many had a loss."""
    check_causal(walk.model, "the gradient of its loss")
    layers = [prunable_layers(block) for block in walk.blocks]
    sums = [[_zeros(own) for own in layers] for _ in terms]
    flat = [(place, name, layer) for place, own in enumerate(layers) for name, layer in own.items()]
    n_read = 0
    with eval_mode(walk.model, gradients=True), gradients_of(walk.model, [layer for *_, layer in flat]) as parameters:
        for sequence in walk.rows_of(inputs):
            loss = next_token_loss(walk.forward(sequence).logits, sequence)
            if loss is None:
                continue
            n_read += 1
            found = dict(zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))
            for term, own in zip(terms, sums, strict=True):
                for place, name, layer in flat:
                    _add(own[place][name], layer, found[layer_parameter(layer)], term)
    for own in sums:
        for place, gradients in enumerate(own):
            check_finite_gradients(gradients, f"{walk.prefix}.{place}")
    return sums, n_read


def block_gradients(walk: BlockWalk, index: int) -> Gradients:
    """√(mean_n G_n²) of every weight of a block: the gradient of its output's norm, on what the walk has come to.

    A batch goes back through the block once for each of its sequences, so batches of one sequence take least time.

    Raises:
        ValueError: the block's output does not keep sequences apart, or a gradient is not finite.
    """
    block = walk.block(index)
    layers, name = prunable_layers(block), f"{walk.prefix}.{index}"
    sums = _zeros(layers)
    with eval_mode(block, gradients=True), gradients_of(block, list(layers.values())) as parameters:
        for output, mask in walk.outputs_of(index):
            if mask is not None and output.shape[:2] != mask.shape:
                raise ValueError(f"{name} puts out {list(output.shape)}, in which sequences cannot be told apart.")
            for row in range(len(output)):
                tokens = output[row] if mask is None else output[row][mask[row]]
                norm = torch.linalg.vector_norm(tokens.float())
                if norm == 0:  # of a norm there is no derivative at zero
                    continue
                alive = row + 1 < len(output)
                grads = torch.autograd.grad(norm, parameters, retain_graph=alive, allow_unused=True)
                found = dict(zip(parameters, grads, strict=True))
                for layer_name, layer in layers.items():
                    _add(sums[layer_name], layer, found[layer_parameter(layer)], torch.square)
    check_finite_gradients(sums, name)
    return {layer_name: (total / walk.n_sequences).sqrt_() for layer_name, total in sums.items()}


@contextmanager
def gradients_of(module: nn.Module, layers: Sequence[Layer]) -> Iterator[list[nn.Parameter]]:
    """While this lasts, gradients are computed of these layers' weights and of nothing else in the module.

    Yields:
        the parameters that hold the weights, each once.
    """
    chosen = list({id(own): own for own in map(layer_parameter, layers)}.values())
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(False)
        for parameter in chosen:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield chosen
    finally:
        for parameter, needed in before:
            parameter.requires_grad_(needed)


def _zeros(layers: dict[str, Layer]) -> Gradients:
    return {name: torch.zeros_like(weight_matrix(layer), dtype=torch.float32) for name, layer in layers.items()}


def _add(total: Tensor, layer: Layer, gradient: Tensor | None, term: Callable[[Tensor], Tensor]) -> None:
    """In place; what took no part in the output (an expert that was not chosen) adds nothing."""
    if gradient is not None:
        total += term(matrix_in(layer, gradient).float())


def next_token_loss(logits: Float[Tensor, "n length words"], sequence: dict[str, Tensor]) -> Tensor | None:
    """The mean over the tokens of some sequences that are no padding; None where there is none to predict."""
    targets, mask = sequence["input_ids"][:, 1:].clone(), sequence.get("attention_mask")
    if mask is not None:
        targets[mask[:, 1:] == 0] = -100
    if not (targets >= 0).any():
        return None
    return nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), targets.flatten())


def check_finite_gradients(found: Gradients, block: str) -> None:
    """Raises a ValueError naming the first matrix of a block whose gradient is not finite."""
    for name, values in found.items():
        if not all_finite(values):
            raise ValueError(
                f"The gradient of {block}.{name} is not finite on the calibration tokens; load the model in float32 or "
                "bfloat16, or choose a score without gradients."
            )
