"""Fine-tuning for sentence similarity: a regression of the score on a pair, cross-validated over the pairs.

Both sentences are embedded by the mean of their last hidden states (as `labutils.evaluation.similarity` does); the
score is a linear function of the products and absolute differences of the two embeddings, coordinate by coordinate (the
features of Tai, Socher & Manning 2015, ACL). The function starts as the best line through the cosine, so that
fine-tuning starts from what the model knows without it.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from sklearn.model_selection import KFold
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.adaptation.configurations import Tuning
from labutils.data.tokens import frame_texts
from labutils.evaluation.batching import context_length, padded_batches
from labutils.evaluation.similarity import PAIR_COLUMNS, embed_sentences, mean_pool
from labutils.models.modes import device_of
from labutils.training.steps import minimise, trainable

SMALLEST_FOLD = 3  # pairs: two always correlate perfectly


@dataclass(frozen=True)
class TuningRecord:
    """Out-of-fold predictions of all pairs, and how far the regression was fitted.

    `predictions` has one row per pair: ``item, fold, gold, predicted``, on the scale of the scores, and ``cosine``, the
    cosine of the two embeddings before any fine-tuning. `training_loss` is the mean squared error of the last epoch,
    averaged over the folds, in units of the training scores' variance.
    """

    predictions: pd.DataFrame
    training_loss: float


def tune_similarity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: pd.DataFrame,
    tuning: Tuning,
    *,
    n_folds: int = 5,
    fold_seed: int = 0,
    seed: int = 0,
) -> TuningRecord:
    """Fine-tune a copy of the model for every fold on the pairs outside it, and predict those inside.

    >>> record = tune_similarity(model, tokenizer, task.items, Tuning("lora", epochs=3), n_folds=5)

    Args:
        pairs: columns ``item, sentence1, sentence2, score``, as the items of a similarity task.
        fold_seed: which pairs share a fold; give all runs that are compared the same.
        seed: order of the pairs, dropout and the first weights of a LoRA.

    Returns:
        predictions and training loss. The model itself is not changed.

    Raises:
        ValueError: a missing column, folds of fewer than three pairs, training scores that are all equal, a sentence
            without tokens, or a loss that is not finite.
    """
    if missing := [column for column in PAIR_COLUMNS if column not in pairs.columns]:
        raise ValueError(f"pairs need the columns {', '.join(PAIR_COLUMNS)}; missing: {', '.join(missing)}")
    if n_folds < 2 or len(pairs) < SMALLEST_FOLD * n_folds:
        raise ValueError(
            f"{len(pairs)} pairs in {n_folds} folds: give two folds or more, of at least {SMALLEST_FOLD} pairs each"
        )
    sentences = [*pairs["sentence1"], *pairs["sentence2"]]
    known, _ = embed_sentences(model.base_model, tokenizer, sentences)
    gold = pairs["score"].to_numpy(dtype=float)
    predicted, fold_of, losses = np.full(len(pairs), np.nan), np.zeros(len(pairs), dtype=int), []
    folds = KFold(n_folds, shuffle=True, random_state=fold_seed).split(gold)
    for fold, (outside, inside) in enumerate(folds):
        regression = _Regression(model, tokenizer, sentences, known, tuning)
        losses.append(regression.fit(outside, gold[outside], seed + fold))
        predicted[inside], fold_of[inside] = regression.predict(inside), fold
    cosines = F.cosine_similarity(known[: len(gold)].double(), known[len(gold) :].double()).cpu().numpy()
    columns = {"item": pairs["item"].to_numpy(), "fold": fold_of, "gold": gold, "predicted": predicted}
    columns["cosine"] = cosines
    return TuningRecord(pd.DataFrame(columns), float(np.mean(losses)))


def pair_features(first: Float[Tensor, "n width"], second: Float[Tensor, "n width"]) -> Float[Tensor, "n features"]:
    """Coordinate-wise products, then absolute differences, of embeddings scaled to norm √width; both over √width.

    The products of a pair sum up to √width times its cosine. There are 2 × width features.
    """
    root = math.sqrt(first.shape[1])
    first, second = (F.normalize(embeddings, dim=1) * root for embeddings in (first, second))
    return torch.cat([first * second, (first - second).abs()], dim=1) / root


def cosine_line(cosines: Float[np.ndarray, " n"], targets: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Slope and intercept of the least-squares line of the targets over the cosines; flat if the cosines are equal."""
    centred = cosines - cosines.mean()
    variation = float(centred @ centred)
    slope = float(centred @ targets) / variation if variation > 0 else 0.0
    return slope, float(targets.mean() - slope * cosines.mean())


class _Regression:
    """One fold: a copy of the language model, and the linear function on top of it."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentences: list[str],
        known: Float32[Tensor, "sentences width"], tuning: Tuning,
    ) -> None:  # fmt: skip
        self.tuning, self.tokenizer, self.sentences = tuning, tokenizer, sentences
        self.body = model.base_model if tuning.method == "head" else copy.deepcopy(model.base_model)
        self.known = known.to(device_of(model))
        self.head = nn.Linear(2 * known.shape[1], 1).to(self.known.device)
        self.mean, self.scale = 0.0, 1.0

    def fit(self, chosen: Int64[np.ndarray, " n"], scores: Float[np.ndarray, " n"], seed: int) -> float:
        """Train on the chosen pairs; returns the mean loss of the last epoch."""
        self.mean, self.scale = float(scores.mean()), float(scores.std())
        if self.scale == 0:
            raise ValueError(f"the scores of all {len(scores)} training pairs are equal: there is nothing to learn")
        targets = (scores - self.mean) / self.scale
        self._start(chosen, targets)
        size, epochs = self.tuning.batch_size, self.tuning.epochs
        per_epoch = -(-len(chosen) // size)
        torch.manual_seed(seed)  # dropout
        if self.tuning.method == "head":
            parameters, embed = list(self.head.parameters()), lambda rows: self.known[rows]
            losses = self._minimise(parameters, embed, chosen, targets, epochs * per_epoch, seed)
        else:
            with trainable(self.body, self.tuning.method, rank=self.tuning.rank, seed=seed) as weights:
                parameters = [*weights, *self.head.parameters()]
                losses = self._minimise(parameters, self._embedder(), chosen, targets, epochs * per_epoch, seed)
        return float(np.mean(losses[-per_epoch:]))

    def predict(self, chosen: Int64[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Scores of the chosen pairs, on the scale of the training scores."""
        n, rows = len(chosen), self._sentences_of(chosen)
        embeddings = self.known[rows]
        if self.tuning.method != "head":
            embeddings, _ = embed_sentences(self.body, self.tokenizer, [self.sentences[row] for row in rows])
        with torch.no_grad():
            features = pair_features(embeddings[:n], embeddings[n:]).to(self.known.device)
            standardised = self.head(features).squeeze(1).double().cpu().numpy()
        return self.mean + self.scale * standardised

    def _start(self, chosen: Int64[np.ndarray, " n"], targets: Float[np.ndarray, " n"]) -> None:
        """The linear function that is the best line through the cosines of the untuned model."""
        first, second = (self.known[rows].double() for rows in np.split(self._sentences_of(chosen), 2))
        slope, intercept = cosine_line(F.cosine_similarity(first, second).cpu().numpy(), targets)
        width = self.known.shape[1]
        with torch.no_grad():
            self.head.weight[:, :width] = slope / math.sqrt(width)
            self.head.weight[:, width:] = 0
            self.head.bias.fill_(intercept)

    def _minimise(
        self, parameters: list[nn.Parameter], embed: Callable[[list[int]], Tensor], chosen: np.ndarray,
        targets: np.ndarray, steps: int, seed: int,
    ) -> list[float]:  # fmt: skip
        wanted = torch.tensor(targets, dtype=torch.float32, device=self.known.device)

        def squared_error(positions: list[int]) -> Float[Tensor, ""]:
            embeddings = embed(self._sentences_of(chosen[positions]).tolist())
            features = pair_features(*embeddings.split(len(positions)))
            return F.mse_loss(self.head(features).squeeze(1), wanted[positions])

        batches = _epochs(len(chosen), self.tuning.batch_size, self.tuning.epochs, seed)
        return minimise(parameters, batches, squared_error, learning_rate=self.tuning.learning_rate, steps=steps)

    def _sentences_of(self, chosen: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " twice"]:
        """Positions of the first sentences of the chosen pairs, then of the second."""
        return np.concatenate([chosen, chosen + len(self.sentences) // 2])

    def _embedder(self) -> Callable[[list[int]], Tensor]:
        """Mean-pooled states of the sentences at some positions, with gradients."""
        rows, _ = frame_texts(self.tokenizer, self.sentences, context_length(self.body, self.tokenizer))

        def embed(positions: list[int]) -> Float[Tensor, "n width"]:
            texts = [rows[position] for position in positions]
            ((order, ids, mask),) = padded_batches(texts, len(texts), self.tokenizer, self.known.device)
            states = self.body(input_ids=ids, attention_mask=mask).last_hidden_state
            return mean_pool(states, mask)[np.argsort(order)]

        return embed


def _epochs(n: int, size: int, epochs: int, seed: int) -> Iterator[list[int]]:
    """Batches of positions below `n`, all of them once in every epoch."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(n, generator=generator).tolist()
        yield from (order[start : start + size] for start in range(0, n, size))
