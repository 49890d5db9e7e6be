"""Texts as unit vectors: how diverse a set of them is, and how near to the texts of a task."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.evaluation.similarity import embed_sentences

Encoder = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def embed_texts(
    texts: Sequence[str], *, encoder: Encoder | None = None, known: Sequence[str] = ()
) -> Float[np.ndarray, "texts features"]:
    """Unit vectors of texts: mean-pooled states of an encoder, or TF-IDF of words where none is at hand.

    Args:
        known: the texts that TF-IDF learns its words and their weights from, so that several calls are comparable;
            none: the given texts.

    A text without a known word has the zero vector.
    """
    if encoder is not None:
        vectors = embed_sentences(*encoder, list(texts))[0].double().numpy()
    else:
        vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b").fit(known or texts)
        vectors = vectorizer.transform(texts).toarray()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


def diversity(vectors: Float[np.ndarray, "texts features"]) -> float:
    """1 − mean cosine of all pairs of different texts; unit vectors in, 0 for one text many times over.

    The sum over pairs is (‖Σ v‖² − Σ ‖v‖²) / 2. ValueError for fewer than two texts.
    """
    n = len(vectors)
    if n < 2:
        raise ValueError(f"diversity compares texts with one another: at least two are needed, not {n}")
    pairs = (np.square(vectors.sum(0)).sum() - np.square(vectors).sum()) / (n * (n - 1))
    return float(1 - pairs)


def task_similarity(
    calibration: Float[np.ndarray, "texts features"], task: Float[np.ndarray, "items features"]
) -> float:
    """Mean over the task's items of the largest cosine with any calibration text; unit vectors in."""
    if len(calibration) == 0 or len(task) == 0:
        raise ValueError("similarity needs at least one calibration text and one item")
    return float((task @ calibration.T).max(axis=1).mean())
