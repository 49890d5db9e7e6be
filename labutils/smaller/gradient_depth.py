"""Do gradients shrink with depth? The norm of the loss's gradient by all parameters of a block, block by block.

Li et al. (Mix-LN, arXiv 2412.13795) say so of models whose norms stand before the sublayers. What is read here is the
trained model, window by window.
"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import PreTrainedModel

from labutils.core.provenance import hash_tensors
from labutils.data.corpora import load_tokens
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_causal, find_blocks
from labutils.smaller.keeping import KeptRows
from labutils.smaller.study import Loaded
from labutils.structured.norm_places import is_pre_norm


def gradient_norms(
    name: str, loaded: Loaded, source: str, *, n_draws: int, n_calibration: int, seq_len: int
) -> pd.DataFrame:
    """‖∂L/∂θ_l‖ of every window and block: L the window's mean next-token loss, θ_l all parameters of block l.

    >>> gradient_norms("lab-llama", loaded, "lab:review", n_draws=2, n_calibration=8, seq_len=64)

    A model whose norms do not stand before its sublayers has no rows: the question is not asked of it. Under the
    runner, each draw is kept in the run's folder.

    Returns:
        model, draw, item (the window; other draws have others), block, norm.

    Raises:
        ValueError: a model that predicts no next token, or a gradient that is not finite or is zero.
    """
    model, tokenizer = loaded
    kept, frames = KeptRows(model, tokenizer), []
    for draw in range(n_draws):
        tokens = load_tokens(source, tokenizer, n_sequences=n_calibration, seq_len=seq_len, seed=draw)
        key = {"gradients": "norms of blocks", "tokens": hash_tensors({"ids": tokens})}

        def read(tokens: Tensor = tokens) -> pd.DataFrame:
            norms = block_gradient_norms(model, tokens) if is_pre_norm(model, tokens) else torch.empty(0, 0)
            table = pd.DataFrame(norms.numpy()).rename_axis("item").reset_index()
            return table.melt("item", var_name="block", value_name="norm").astype({"block": int, "norm": float})

        own = kept.frame(key, read)
        frames.append(own.assign(model=name, draw=draw, item=own["item"] + draw * n_calibration))
    return pd.concat(frames, ignore_index=True)


def block_gradient_norms(model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"]) -> Float[Tensor, "n blocks"]:
    """The norms, window by window, in double precision. Gradients that parameters hold are left as they are.

    Raises:
        ValueError: a model that predicts no next token, or a gradient that is not finite or is zero.
    """
    check_causal(model, "the gradient of its loss")
    blocks = [list(block.parameters()) for block in find_blocks(model)[1]]
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    chosen, found = [parameter for own in blocks for parameter in own], []
    try:
        for parameter, _ in before:
            parameter.requires_grad_(False)
        for parameter in chosen:
            parameter.requires_grad_(True)
        with eval_mode(model, gradients=True), torch.enable_grad():
            for row in tokens:
                ids = row[None].to(device_of(model))
                logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
                loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
                own = iter(torch.autograd.grad(loss, chosen, allow_unused=True, materialize_grads=True))
                squares = [sum(next(own).double().square().sum() for _ in block) for block in blocks]
                found.append(torch.stack(squares).sqrt().cpu())
    finally:
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)
    norms = torch.stack(found)
    if not norms.isfinite().all() or not (norms > 0).all():
        raise ValueError("a gradient of the loss by a block is not finite, or zero; load the model in float32.")
    return norms


def shrinking_gradients(norms: pd.DataFrame, *, first: int = 0) -> pd.DataFrame:
    """Minus the least-squares slope of the log norm over depth from 0 to 1, of every window: above zero, it shrinks.

    >>> effects_over_models(shrinking_gradients(gradient_norms("lab-llama", loaded, "lab:review", …)))

    Args:
        first: the first block that counts; block 0 reads the embeddings.

    Returns:
        a frame of contrasts: model, draw, item, sparsity, contrast, value (the log of a factor).

    Raises:
        ValueError: fewer than two blocks to compare.
    """
    frames = []
    for model, own in norms[norms["block"] >= first].groupby("model", sort=False):
        table = own.pivot(index="block", columns="item", values="norm")
        if len(table) < 2:
            raise ValueError(f"{model} has {len(table)} block from block {first} on; a slope needs two.")
        depth = table.index.to_numpy() / own["block"].max()
        slopes = pd.Series(-np.polyfit(depth, np.log(table.to_numpy()), 1)[0], index=table.columns, name="value")
        frames.append(slopes.reset_index().assign(model=model))
    empty = pd.DataFrame(columns=["model", "item", "value"])
    found = pd.concat(frames, ignore_index=True) if frames else empty
    return found.assign(draw=0, sparsity=0.0, contrast="gradients")
