"""What a loss on text of the domain is worth: beside guessing, and beside a model that was trained on such text."""

from math import log

import pandas as pd

from labutils.adaptation.training import language_loss, load_base
from labutils.data.corpora import load_tokens


def domain_loss(source: str, heldout: str, *, n_heldout: int, seq_len: int) -> float:
    """Loss of a model in nats per token on the windows of unseen text on which a study reads its adaptations.

    >>> domain_loss("lab-llama", "lab:biomedical", n_heldout=16, seq_len=128)

    Args:
        source: of the model, as for `load_base`.
        heldout, n_heldout, seq_len: as for a study.

    Raises:
        LookupError: as `load_base`.
    """
    base = load_base(source)
    tokens = load_tokens(heldout, base.tokenizer, n_sequences=n_heldout, seq_len=seq_len, split="test")
    return language_loss(base, tokens)


def describe_levels(losses: pd.DataFrame, n_tokens: int, trained: tuple[str, float] | None = None) -> str:
    """The losses before and after adaptation beside that of guessing and that of a trained model.

    >>> describe_levels(losses, 4096, ("lab-llama", 1.28))

    Args:
        losses: ``loss before, loss after`` in nats per token, a row per way to adapt, whose name is the index.
        n_tokens: of the vocabulary; guessing is a uniform choice among them.
        trained: a model that was trained on such text, and its loss; None where there is none.
    """
    guessing, before, after = log(n_tokens), float(losses["loss before"].iloc[0]), losses["loss after"]
    worse = "worse than guessing, since it expects words that such text does not have"
    ends = dict.fromkeys((after.idxmin(), after.idxmax()))
    reached = " to ".join(f"{after[name]:.3f} ({name})" for name in ends)
    told = (
        f"Guessing costs ln {n_tokens:,} = {guessing:.3f} nats per token. The model before adaptation loses "
        f"{before:.3f}, {worse if before > guessing else 'less than guessing'}; after it, {reached}."
    )
    if trained is None:
        return told
    name, known = trained
    way = f", to which adaptation goes {(before - after.min()) / (before - known):.0%} of the way at best"
    return f"{told} {name}, which was trained on such text, loses {known:.3f}{way if before > known else ''}."
