"""The loss of text that a causal model is trained on: of the next token, whatever the model's own loss is of."""

from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers.loss.loss_utils import ForCausalLMLoss


def text_loss(model: nn.Module, ids: Int64[Tensor, "rows seq_len"]) -> Float[Tensor, ""]:
    """Mean −log p of every token but the first of each row, given those before it, in nats; read in 32 bits.

    >>> text_loss(model, tokens[:2]).backward()

    Most models give the same as their own `loss`. Decoders of BART's kind (MBart, Marian, Pegasus …) do not shift the
    labels that they are given (transformers 5.23, `BartForCausalLM`): with the text as labels, theirs is the loss of
    copying the present token.
    """
    logits = model(input_ids=ids, use_cache=False).logits
    return ForCausalLMLoss(logits=logits, labels=ids, vocab_size=logits.shape[-1])
