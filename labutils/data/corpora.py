"""Text for calibration and evaluation: documents and token windows named by one source string.

Sources
-------
``lab:<register>`` or ``lab:<register>/<language>``
    Documents of the controlled language (`labutils.world`), written on demand; train and test never share a document.
``file:<path>``
    ``.txt``: one unit per line, blank lines skipped. ``.jsonl``: one object per line with ``text``, or with
    ``sentence1`` and ``sentence2`` (two documents per unit); blank texts are skipped, null is refused. Files are in
    UTF-8. A relative path is looked up in the working directory, then in ``$LABUTILS_DATA``. The first 80 % of the
    units are the train split, the last 20 % the test split, whatever the file is called. ``file:<path>#all`` puts every
    unit into the split asked for (a file that *is* a split). A `#` in a file's own name is no such sign.
``hub:<owner>/<name>[/<config>]``
    A data set of the Hugging Face hub, or a local folder in its format, through `datasets`. A third part that names a
    file (``hub:allenai/c4/en/c4-train.00000-of-01024.json.gz``) loads that file only. The data set's own splits are
    used; where there is no test split, ``validation`` stands in; a data set of a single split is cut 80/20 like a file.
    ``hub:<…>#<split>`` takes the named split whole.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from labutils import world
from labutils.core import paths
from labutils.data.hub import open_dataset
from labutils.data.records import FileRecords, Records, place_of, read_lines, texts_of
from labutils.data.sources import Source, parse_source
from labutils.data.tokens import frame_windows, join_texts, text_room

SPLITS = ("train", "test")
TRAIN_SHARE = 0.8
DOCUMENTS_PER_STEP = 64


def read_units(source: str, split: str, *, revision: str | None = None) -> tuple[Records, range]:
    """All records of a ``file:`` or ``hub:`` source, and the range of those that belong to `split`.

    ValueError when the source has no records or no such split; LookupError when it cannot be found.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    parsed = parse_source(source)
    if parsed.scheme == "file":
        records, whole = read_lines(_find_file(parsed.name)), parsed.part == "all"
    else:
        records, whole = open_dataset(parsed.name, split=split, part=parsed.part, revision=revision)
    if len(records) == 0:
        raise ValueError(f"{source} is empty: it holds no units")
    border = int(len(records) * TRAIN_SHARE)
    indices = range(len(records)) if whole else range(border) if split == "train" else range(border, len(records))
    if len(indices) == 0:
        raise ValueError(f"{source} has only {len(records)} units, none in {split!r}; append '#all' to use them")
    return records, indices


def _find_file(name: str) -> Path:
    try:
        return paths.find_file(name)
    except OSError as error:  # no possible name of a file, as one that is too long
        raise LookupError(f"file:{name} cannot be looked for: {error.strerror}") from error


def draw_order(indices: range, seed: int) -> list[int]:
    """The units of a split in the random order of draw `seed`."""
    return np.random.default_rng(seed).permutation(np.asarray(indices)).tolist()


def _written_documents(parsed: Source, split: str, seed: int) -> Iterator[str]:
    """Endless documents of the controlled language: `write_documents` of twice as many begins with the same ones."""
    register, _, language = parsed.name.partition("/")
    language = language or "english"
    taken, amount = 0, DOCUMENTS_PER_STEP
    while True:
        yield from world.write_documents(register, amount, language=language, seed=seed, split=split)[taken:]
        taken, amount = amount, 2 * amount


def _iterate_texts(source: str, split: str, seed: int, revision: str | None) -> Iterator[str]:
    parsed = parse_source(source)
    if parsed.scheme == "lab":
        yield from _written_documents(parsed, split, seed)
        return
    records, indices = read_units(source, split, revision=revision)
    if isinstance(records, FileRecords):  # whichever of a file's rows are drawn, all must be text
        for index, record in enumerate(records):
            texts_of(record, place_of(records, index, source))
    for index in draw_order(indices, seed):
        yield from texts_of(records[index], place_of(records, index, source))


def load_texts(
    source: str, *, split: str = "train", seed: int = 0, n: int | None = None, revision: str | None = None
) -> list[str]:
    """The first `n` documents of a source (all with None) in the random order of `seed`.

        texts = lab.load_texts("lab:review", n=100)

    See the module's text for sources and splits. ValueError when the source holds fewer than `n`, or when `n` is
    missing for the controlled language, which never ends; LookupError when the source cannot be found.
    """
    if n is None and parse_source(source).scheme == "lab":
        raise ValueError(f"{source} is written on demand and never ends: say how many documents with n=…")
    if n is not None and n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    texts = list(islice(_iterate_texts(source, split, seed, revision), n))
    if not texts:
        raise ValueError(f"{source} holds no text in {split!r}: all its units are blank")
    if n is not None and len(texts) < n:
        raise ValueError(f"{source} holds {len(texts)} documents in {split!r}, {n} were asked for: ask for fewer")
    return texts


def load_tokens(
    source: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    n_sequences: int,
    seq_len: int,
    seed: int = 0,
    split: str = "train",
    revision: str | None = None,
) -> Int64[Tensor, "n_sequences seq_len"]:
    """Token windows that never overlap, cut from the documents of a source.

        tokens = lab.load_tokens("lab:review", tokenizer, n_sequences=64, seq_len=128)

    The documents, in the random order of `seed`, are joined by the end-of-text token (a newline where the tokenizer has
    none) into one stream; each window takes the next tokens of it, after bos for decoders, between [CLS] and [SEP] for
    encoders. ValueError when the source is too short (says how many windows it holds) or a size is not positive;
    LookupError when it cannot be found.
    """
    width = text_room(tokenizer, seq_len)
    if n_sequences < 1 or width < 1:
        raise ValueError(
            f"n_sequences={n_sequences} and seq_len={seq_len} leave no text: give at least 1 and {seq_len - width + 1}"
        )
    stream: list[int] = []
    texts = _iterate_texts(source, split, seed, revision)
    while len(stream) < n_sequences * width and (batch := list(islice(texts, DOCUMENTS_PER_STEP))):
        stream += join_texts(tokenizer, batch)
    if len(stream) < n_sequences * width:
        raise ValueError(
            f"{source} ({split}) holds {len(stream) // width} sequences of {seq_len} tokens, {n_sequences} were asked "
            "for: lower n_sequences or seq_len, or name a longer source"
        )
    body = torch.tensor(stream[: n_sequences * width], dtype=torch.int64).view(n_sequences, width)
    return frame_windows(tokenizer, body)
