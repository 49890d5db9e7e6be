"""The training text of the lab models: a mixture of documents and task items, cut into token windows, shard by shard.

A shard depends on its number and the seed alone, so training can go on anywhere without what came before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Int64
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from labutils.core.seeding import generator
from labutils.lab_models.specs import CONTEXT_LENGTH, SEQUENCE_LENGTH, VOCABULARY_SIZE
from labutils.world import LANGUAGES, REGISTERS, TASKS
from labutils.world.documents import stream_documents
from labutils.world.items import Choice
from labutils.world.lexicon import inventory
from labutils.world.tasks import stream_items

SHARD_SEQUENCES = 2048
BATCH_TEXTS = 64
SEEDS_PER_RUN = 100_000  # shards of one run read streams of their own
TOKENIZER_SEED = 0  # no shard reads it
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
ENGLISH_TEXTS, FOREIGN_TEXTS, INVENTORY_COPIES = 1500, 150, 300  # for the tokenizer; texts per source

ENGLISH_SHARES = {"encyclopedic": 0.30, "narrative": 0.08, "review": 0.05, "biomedical": 0.08}
FOREIGN_SHARE = 0.10  # of all tokens; the rest goes to the items of the choice tasks

# Items per task, relative to the tasks not named here: binding the words of a context to each other takes longest to
# learn, and answering from memory takes many examples.
TASK_WEIGHTS = {
    "sentiment/aspects": 3.0,
    "qa/whereabouts": 3.0,
    "qa/distant": 3.0,
    "qa/trials": 3.0,
    "inference/kinds": 3.0,
    "inference/roles": 3.0,
    "inference/trials": 3.0,
    "topic/odd_one_out": 3.0,
    "qa/birthplaces": 2.0,
    "qa/occupations": 2.0,
    "qa/treatments": 2.0,
}

# What a model that never reads a register does without: the register in every language, and each task about what it
# tells of. Entries on drugs stay in the encyclopedic register, as they do in a general encyclopedia.
TASKS_ABOUT = {
    "biomedical": ("sentiment/patients", "qa/treatments", "qa/trials", "inference/trials", "topic/medicine"),
}

CHOICE_TASKS = tuple(name for name, spec in TASKS.items() if spec.kind == "choice")


def mixture(withheld: str = "") -> dict[str, float]:
    """Source -> share of the tokens. A source is "<register>/<language>" or the name of a task.

    Of a `withheld` register nothing is left, nor of the tasks about it; the other shares keep their proportions.
    LookupError for a register that cannot be withheld.
    """
    if withheld and withheld not in TASKS_ABOUT:
        raise LookupError(f"the register {withheld!r} cannot be withheld; there is {', '.join(TASKS_ABOUT)}.")
    foreign = [f"{register}/{language}" for language in LANGUAGES[1:] for register in REGISTERS]
    shares = {f"{register}/english": share for register, share in ENGLISH_SHARES.items()}
    shares |= dict.fromkeys(foreign, FOREIGN_SHARE / len(foreign))
    weights = {task: TASK_WEIGHTS.get(task, 1.0) for task in CHOICE_TASKS}
    unit = (1 - sum(shares.values())) / sum(weights.values())
    shares |= {task: weight * unit for task, weight in weights.items()}
    if not withheld:
        return shares
    kept = {
        source: share
        for source, share in shares.items()
        if source not in TASKS_ABOUT[withheld] and source.split("/")[0] != withheld
    }
    return {source: share / sum(kept.values()) for source, share in kept.items()}


def stream_texts(source: str, seed: int) -> Iterator[tuple[str, str]]:
    """Pairs (text, answer) of the train split: a prompt and " " with the right choice, or a document and ""."""
    if source in TASKS:
        for item in stream_items(source, seed=seed, split="train"):
            assert isinstance(item, Choice)
            yield item.prompt, f" {item.choices[item.gold]}"
    else:
        register, language = source.split("/")
        yield from ((text, "") for text in stream_documents(register, language=language, seed=seed, split="train"))


@cache
def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of the whole mixture's text, the same for all lab models and seeds: losses are per equal tokens.

    Mostly English text, with the list of English words beside it, so that even a rare word is one token; words of the
    built languages take two or three.
    Every text begins with `<s>` (id 0) when special tokens are added; `</s>` ends a document, `<pad>` fills batches.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [
        text + answer
        for source in mixture()
        for text, answer in islice(
            stream_texts(source, TOKENIZER_SEED), FOREIGN_TEXTS if _is_foreign(source) else ENGLISH_TEXTS
        )
    ]
    texts += [" " + " ".join(inventory())] * INVENTORY_COPIES
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, model_max_length=CONTEXT_LENGTH
    )


@dataclass(frozen=True)
class Shard:
    """Token windows that begin with `<s>`, and which of their tokens answer the prompt of a task item."""

    tokens: Int64[Tensor, "sequences length"]
    is_answer: Bool[Tensor, "sequences length"]


def load_shard(
    number: int, tokenizer: PreTrainedTokenizerFast, *, seed: int, sequences: int, withheld: str = ""
) -> Shard:
    """Shard `number` of the training text, its windows of 128 tokens in random order.

    Documents are joined by `</s>` into one stream and cut anywhere, as `labutils.data.corpora.load_tokens` does;
    windows of task items begin with an item, since that is how items are scored.
    """
    shares = mixture(withheld)
    counts = np.floor(np.array(list(shares.values())) * sequences).astype(int)
    counts[0] += sequences - counts.sum()
    rows: list[tuple[list[int], list[bool]]] = []
    for source, count in zip(shares, counts, strict=True):
        texts = stream_texts(source, seed * SEEDS_PER_RUN + number + 1)
        rows += islice(_windows(texts, tokenizer, aligned=source in TASKS), int(count))
    order = torch.from_numpy(generator(seed, "order", number).permutation(len(rows)))
    tokens, answers = zip(*rows, strict=True)
    return Shard(torch.tensor(tokens, dtype=torch.int64)[order], torch.tensor(answers, dtype=torch.bool)[order])


def _is_foreign(source: str) -> bool:
    return source not in TASKS and not source.endswith("/english")


def _windows(
    texts: Iterator[tuple[str, str]], tokenizer: PreTrainedTokenizerFast, *, aligned: bool
) -> Iterator[tuple[list[int], list[bool]]]:
    """Token ids and answer marks, window by window; `aligned` ones begin with a text, and what is cut off is lost."""
    width = SEQUENCE_LENGTH - 1
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    stream: list[int] = []
    marks: list[bool] = []
    while True:
        batch = list(islice(texts, BATCH_TEXTS))
        prompts, answers = (_encode(tokenizer, [pair[part] for pair in batch]) for part in (0, 1))
        for prompt, answer in zip(prompts, answers, strict=True):
            stream += [*prompt, *answer, eos]
            marks += [False] * len(prompt) + [True] * len(answer) + [False]
            while len(stream) >= width:
                yield [bos, *stream[:width]], [False, *marks[:width]]
                stream, marks = ([], []) if aligned else (stream[width:], marks[width:])


def _encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
