"""Properties of texts that a multilevel analysis can explain scores by: lengths, readability, variety, terminology."""

from collections.abc import Sequence
from functools import cache

import pandas as pd

from labutils.adaptation.readability import count_text, flesch_reading_ease, gunning_fog, smog, split_words
from labutils.core import paths

TERMS = paths.DATA / "biomedical_terms.txt"
# Higher is harder for fog and SMOG, easier for Flesch.
COMPLEXITY_SIGNS = {"flesch": -1, "fog": 1, "smog": 1}
FEATURES = (
    "word_length",
    "abstract_length",
    "sentence_length",
    "flesch",
    "fog",
    "smog",
    "type_token_ratio",
    "lexical_density",
    "term_share",
    "complexity",
)

# The closed classes of English, and the few adverbs that only grade or link. All other words carry content.
_FUNCTION_WORDS = """
    a an the this that these those each every either neither some any no none all both half such another other others
    much many more most few fewer fewest little less least several enough own same
    i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers
    herself it its itself they them their theirs themselves one ones oneself who whom whose which what whoever whatever
    whichever someone somebody something anyone anybody anything everyone everybody everything nobody nothing
    of in on at by for with without within from to into onto upon over under above below between among amongst through
    throughout during before after since until till against about around across along beside besides behind beyond near
    toward towards up down out off per via despite except than as like unlike amid due
    and or but nor so yet if then else because although though while whilst whereas whether unless lest once when
    whenever where wherever why how however therefore thus hence moreover furthermore nevertheless nonetheless instead
    be am is are was were been being have has had having do does did doing done will would shall should can could may
    might must ought need not cannot
    there here very too also only just even ever never always often again almost quite rather still already now
    """
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


def text_features(texts: Sequence[str]) -> pd.DataFrame:
    """Features of each text, one row each in the order given.

    >>> text_features(["Aspirin relieves pain.", "The treatment was, in general, well tolerated."])

    Returns:
        the columns

        - ``word_length`` (characters per word), ``abstract_length`` (words), ``sentence_length`` (words per sentence);
        - ``flesch``, ``fog``, ``smog``: the indices of `labutils.adaptation.readability`; fog and SMOG are years of
          school, and Flesch falls as they rise;
        - ``type_token_ratio``: different words / words, regardless of case (Johnson 1944, Psychol. Monographs 56(2));
          it falls with the length of a text, so compare texts of like length;
        - ``lexical_density``: share of words that are no function words (Ure 1971, Lexical density and register
          differentiation);
        - ``term_share``: share of words on the list of biomedical terms (`data/biomedical_terms.txt`);
        - ``complexity``: `composite_complexity` of the three indices, relative to the other texts given.

    Raises:
        ValueError: no texts, or one without words; its position is named.
    """
    if len(texts) == 0:
        raise ValueError("there are no texts; give at least one")
    rows = []
    for position, text in enumerate(texts):
        try:
            rows.append(_features_of(text))
        except ValueError as error:
            raise ValueError(f"text {position}: {error}") from error
    frame = pd.DataFrame(rows)
    return frame.assign(complexity=composite_complexity(frame))


def composite_complexity(indices: pd.DataFrame) -> pd.Series:
    """Mean of the readability indices of each row, each scaled to [0, 1] over the rows; 1 is hardest.

    >>> text_features(texts).assign(complexity=composite_complexity(text_features(texts)))

    Flesch enters with its sign turned. An index with one value in all rows says nothing about which row is harder and
    is left out; where all three are so, as with a single row, there is no composite (NaN).

    Args:
        indices: columns `flesch`, `fog`, `smog`, a row per text or per group of texts.
    """
    signed = indices[list(COMPLEXITY_SIGNS)] * pd.Series(COMPLEXITY_SIGNS)
    span = signed.max() - signed.min()
    return ((signed - signed.min()) / span.where(span > 0)).mean(axis="columns")


@cache
def biomedical_terms() -> frozenset[str]:
    """The words of `data/biomedical_terms.txt`, whose head tells where they come from."""
    lines = TERMS.read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def is_term(word: str) -> bool:
    """Whether a word, or the singular that a regular plural comes from, is on the list; case does not matter."""
    word = word.lower().replace("’", "'").removesuffix("'s")
    stems = {"s": word[:-1], "es": word[:-2], "ies": f"{word[:-3]}y"}
    singulars = (stem for ending, stem in stems.items() if word.endswith(ending))
    return word in biomedical_terms() or any(stem in biomedical_terms() for stem in singulars)


def _features_of(text: str) -> dict[str, float]:
    """All features of one text but the composite, which needs other texts beside it."""
    counts = count_text(text)
    words = split_words(text)
    lower = [word.lower().replace("’", "'") for word in words]
    return {
        "word_length": sum(map(len, words)) / len(words),
        "abstract_length": float(len(words)),
        "sentence_length": counts.words / counts.sentences,
        "flesch": flesch_reading_ease(counts),
        "fog": gunning_fog(counts),
        "smog": smog(counts),
        "type_token_ratio": len(set(lower)) / len(lower),
        "lexical_density": sum(word not in FUNCTION_WORDS for word in lower) / len(lower),
        "term_share": sum(map(is_term, words)) / len(words),
    }
