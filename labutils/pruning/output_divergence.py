"""What pruning did to a model's output: the measure by which `measured` and `evopress` compare what they try."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from labutils.models.structure import is_causal

Inputs = Mapping[str, Tensor]
SCORES = ("logits", "prediction_logits")  # of a head, by the names that transformers gives them
SPAN = ("start_logits", "end_logits")


def read_output(model: PreTrainedModel, output: ModelOutput, batch: Inputs) -> Float[Tensor, "n ..."]:
    """What a model says, in a form in which two sayings can be compared. The first rule that fits holds:

    1. a causal language model: next-token log-probabilities [n, length, vocabulary];
    2. an encoder, whose output has `last_hidden_state`: its mean-pooled unit vectors [n, width];
    3. a head with `logits` (or `prediction_logits`): log-probabilities of the classes, [n, length, classes] where it
       speaks of tokens (labels, masked words) and [n, 1, classes] where it speaks of sequences;
    4. a head that marks a span, by `start_logits` and `end_logits`: log-probabilities of its ends, [n, 2, length].

    A head with one number, such as a regression or a reward, has no classes: the numbers stay, with a last axis of 1.

    Raises:
        LookupError: the output has none of these.
    """
    if not is_causal(model) and (states := output.get("last_hidden_state")) is not None:
        states = states.float()
        return F.normalize((states * _mask(batch, states).unsqueeze(-1)).sum(dim=1), dim=-1)
    scores = next((output[name] for name in SCORES if output.get(name) is not None), None)
    if scores is not None:
        return _log_probabilities(_by_token(model, scores.float(), batch))
    if all(output.get(name) is not None for name in SPAN):
        ends = torch.stack([output[name].float() for name in SPAN], dim=1)
        padding = _mask(batch, ends).unsqueeze(1) == 0
        return ends.masked_fill(padding, torch.finfo(ends.dtype).min / 2).log_softmax(dim=-1)
    raise LookupError(
        f"{type(model).__name__} puts out {', '.join(output)}, of which labutils does not know how to compare two; "
        f"it knows last_hidden_state, {', '.join((*SCORES, *SPAN))}. Choose another allocation "
        "than measured, which optiprune-auto has by itself, and evopress."
    )


class DenseOutput:
    """What the dense model puts out for some inputs, kept to tell how far a pruned model's output is from it."""

    def __init__(self, output: Float[Tensor, "n ..."], inputs: Inputs):
        """`output` as `read_output` gives it."""
        self.dense, self.numbers = output, output.shape[-1] == 1
        per_token = output.dim() == 3 and output.shape[1] == inputs["input_ids"].shape[1]
        self.weights = _mask(inputs, output) if per_token else output.new_ones(output.shape[:-1])
        self.target = output.exp() if output.dim() == 3 else output
        self.own = torch.linalg.vecdot(self.target, output)

    def divergence(self, output: Float[Tensor, "n ..."]) -> float:
        """How far another output is from the dense one, in the mean over what is said: tokens, sequences, or ends.

        Of log-probabilities the Kullback–Leibler divergence (nats), of an encoder's vectors 1 − cosine; both are
        ⟨target, dense⟩ − ⟨target, pruned⟩. Of plain numbers half the squared difference, which is the divergence of
        normal distributions of unit variance around them.
        """
        if self.numbers:
            moved = (self.dense - output).squeeze(-1).square() / 2
        else:
            moved = self.own - torch.linalg.vecdot(self.target, output)
        return ((moved * self.weights).sum() / self.weights.sum()).item()


def _by_token(model: PreTrainedModel, scores: Tensor, batch: Inputs) -> Float[Tensor, "n said classes"]:
    """Scores with an axis for what is said: one for each token, or a single one for the sequence."""
    if scores.dim() == 3:
        return scores
    if scores.shape == batch["input_ids"].shape and scores.shape[1] != model.config.num_labels:
        return scores.unsqueeze(-1)  # one number a token: ELECTRA's discriminator
    return scores.reshape(len(scores), 1, -1)


def _log_probabilities(scores: Tensor) -> Tensor:
    return scores if scores.shape[-1] == 1 else scores.log_softmax(dim=-1)


def _mask(inputs: Inputs, like: Tensor) -> Float[Tensor, "n length"]:
    """1 for a token, 0 for padding."""
    return inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).to(like)
