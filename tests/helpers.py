"""What several tests share: a tokenizer of whole words, small files, slow log-probabilities, broken embeddings."""

import json
import math
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from labutils.core.profiling import CLEAR

WORDS = [f"w{number}" for number in range(500)]
TINY_WORDS = WORDS[:40]  # with the special tokens they fit the tiny models' vocabulary
CAUSAL = ["tiny_llama", "tiny_gpt2", "tiny_opt"]  # fixtures of the causal tiny models


def can_reset_peak() -> bool:
    """Whether this system lets the peak memory of a process be measured anew."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def word_tokenizer(words: list[str] = WORDS, **special: str) -> PreTrainedTokenizerFast:
    """One token per word; special tokens come first in the vocabulary. Newlines are no tokens.

    It puts its bos token before a text, or its cls and sep token around it, as tokenizers of such models do.
    """
    vocabulary = {token: index for index, token in enumerate([*dict.fromkeys(special.values()), "<unk>", *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", **special)
    frame_with(tokenizer, special.get("cls_token", special.get("bos_token")), special.get("sep_token"))
    return tokenizer


def frame_with(tokenizer: PreTrainedTokenizerFast, first: str | None, last: str | None) -> None:
    """Let a tokenizer put these tokens before and after every text."""
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (first, last) if token]
    template = [*([first] if first else []), "$A", *([last] if last else [])]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)


def write_jsonl(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"file:{path}"


def words(generator: np.random.Generator, count: int) -> str:
    """A sentence of `count` random words."""
    return " ".join(generator.choice(TINY_WORDS, count))


def log_probability(model: PreTrainedModel, ids: list[int], position: int) -> float:
    """log p(ids[position] | ids before it), from float64 logits, one sequence at a time."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids[:position]])).logits[0, -1].tolist()
    return logits[ids[position]] - math.log(sum(math.exp(logit) for logit in logits))


def poison(model: PreTrainedModel, token: int, value: float) -> None:
    """Make the embedding of one token NaN or infinite, without touching the (tied) output matrix."""

    def spoil(module, arguments, output):
        return output.masked_fill((arguments[0] == token).unsqueeze(-1), value)

    model.get_input_embeddings().register_forward_hook(spoil)


def stop_training_at(monkeypatch, step: int) -> None:
    """Interrupt a training instead of its optimizer's step of that number (from 0), as a kill would."""
    whole = torch.optim.AdamW.step

    def interrupted(self, closure=None):
        done = max((int(state["step"]) for state in self.state.values()), default=0)
        if done == step:
            raise KeyboardInterrupt
        return whole(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
