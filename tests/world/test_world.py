"""The controlled language: determinism, disjoint splits, parallel meanings, effective knobs."""

import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from labutils import world
from labutils.core.seeding import generator
from labutils.world import facts, languages, lexicon, preferences
from labutils.world.biomedical import MAX_DEPTH
from labutils.world.grammar import Clause, english, name, negate, the
from labutils.world.seeding import Draws, belongs


def count_words(text: str) -> int:
    return len(text.split())


def sentences(documents: list[str]) -> list[str]:
    return [part for document in documents for part in re.split(r"(?<=\.) ", document)]


def share(documents: list[str], listed: set[str]) -> float:
    """Occurrences of the listed terms per word."""
    text = " ".join(documents).lower()
    return sum(len(re.findall(rf"\b{re.escape(term)}\b", text)) for term in listed) / count_words(text)


# --- documents -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("register", world.REGISTERS)
def test_documents_repeat_with_their_seed_and_differ_with_another(register):
    first = world.write_documents(register, 30, seed=3)
    assert first == world.write_documents(register, 30, seed=3)
    assert first != world.write_documents(register, 30, seed=4)
    assert world.write_documents(register, 10, seed=3) == first[:10]


def test_documents_are_the_same_in_another_process():
    code = "from labutils import world; print(world.write_documents('review', 3, seed=1, language='olenya'))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert texts == {f"{world.write_documents('review', 3, seed=1, language='olenya')}\n"}


@pytest.mark.parametrize("register", world.REGISTERS)
def test_no_document_is_in_both_splits(register):
    train = set(world.write_documents(register, 200, seed=0, split="train"))
    test = set(world.write_documents(register, 30, seed=0, split="test"))
    test |= set(world.write_documents(register, 30, seed=1, split="test"))
    assert len(test) > 55
    assert not train & test


def test_registers_and_languages_give_distinct_non_empty_texts():
    texts = {
        (register, language): world.write_documents(register, 20, language=language)
        for register in world.REGISTERS
        for language in world.LANGUAGES
    }
    everything = [text for documents in texts.values() for text in documents]
    assert all(len(text) > 20 for text in everything)
    assert len(set(everything)) == len(everything)
    vocabularies = {key: set(" ".join(documents).lower().split()) for key, documents in texts.items()}
    for register in world.REGISTERS:
        english_words, tarvic_words = vocabularies[register, "english"], vocabularies[register, "tarvic"]
        shared = {word.strip(".,") for word in english_words & tarvic_words}
        names = " ".join(entity.name for entity in (*facts.people(), *facts.drugs())).lower().split()
        given = [each.lower() for pronoun in ("she", "he") for each in lexicon.words("given_names", pronoun)]
        cities = [city.lower() for city in lexicon.words("cities")]
        assert all(word.isdigit() or word == "mg" for word in shared - {*names, *given, *cities})


@pytest.mark.parametrize("register", world.REGISTERS)
def test_languages_are_parallel(register):
    english_documents = world.write_documents(register, 40, seed=2)
    labels = re.compile(r"\b(?:\d+|[A-Z][a-z]+(?:arin|ivex|olol|umab|idone|axil|etine|osta|avir|oxan))\b")
    for language in world.LANGUAGES[1:]:
        for original, translation in zip(
            english_documents, world.write_documents(register, 40, seed=2, language=language), strict=True
        ):
            assert len(sentences([original])) == len(sentences([translation]))
            assert Counter(labels.findall(original)) == Counter(labels.findall(translation))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"register": "narative"}, LookupError, "Did you mean 'narrative'"),
        ({"register": "review", "language": "tarvik"}, LookupError, "Did you mean 'tarvic'"),
        ({"register": "review", "split": "dev"}, ValueError, "train, test"),
        ({"register": "review", "n": -1}, ValueError, "negative"),
        ({"register": "review", "knobs": world.Knobs()}, ValueError, "biomedical"),
    ],
)
def test_bad_requests_for_documents_are_explained(arguments, error, message):
    with pytest.raises(error, match=message):
        world.write_documents(**{"n": 1} | arguments)


def test_english_takes_the_right_forms():
    documents = " ".join(text for register in world.REGISTERS for text in world.write_documents(register, 120))
    assert set(re.findall(r"\b[Aa] ([aeiou]\w*)", documents)) <= {"useful"}
    assert not re.search(r"\b[Aa]n [^aeiouAEIOUh]", documents)
    assert "  " not in documents and ".." not in documents
    assert (lexicon.past("carry"), lexicon.past("stop"), lexicon.past("eat"), lexicon.past("bake")) == (
        "carried", "stopped", "ate", "baked",
    )  # fmt: skip
    assert (lexicon.plural("cherry"), lexicon.plural("box"), lexicon.plural("wolf")) == ("cherries", "boxes", "wolves")


def test_clauses_are_denied_and_worded_in_three_orders():
    clause = Clause(the("baker"), "eat", the("pear", "ripe"), places=(("in", the("garden")),), time="yesterday")
    assert english(clause) == "yesterday the baker ate the ripe pear in the garden"
    assert english(negate(clause)) == "yesterday the baker did not eat the ripe pear in the garden"
    assert (
        english(Clause(name("Ada"), "be", complement=("born",), places=(("in", name("Rome")),)))
        == "Ada was born in Rome"
    )
    words = {
        lemma: languages.translate_word(lemma, "tarvic")
        for lemma in ("baker", "eat", "pear", "ripe", "in", "garden", "yesterday")
    }
    expected = [words[each] for each in ("yesterday", "baker", "garden", "in", "ripe", "pear")] + [words["eat"] + "or"]
    assert languages.word_sentence(clause, "tarvic").lower() == " ".join(expected) + "."
    words = {lemma: languages.translate_word(lemma, "olenya") for lemma in words}
    expected = ["sa", *(words[each] for each in ("eat", "baker", "pear", "ripe", "in", "garden", "yesterday"))]
    assert languages.word_sentence(clause, "olenya").lower() == " ".join(expected) + "."


def test_few_words_of_the_built_languages_are_homonyms():
    for language in world.LANGUAGES[1:]:
        words = [languages.translate_word(word, language) for word in lexicon.inventory()]
        assert len(set(words)) > 0.98 * len(words)


# --- lexicon, facts, preferences, concepts ---------------------------------------------------------------------------


def test_the_lexicon_has_about_two_thousand_words():
    assert 1800 <= len(lexicon.inventory()) <= 2600


def test_the_fact_files_are_what_their_builders_make():
    assert tuple(facts.build_people().itertuples(index=False, name=None)) == tuple(
        (p.name, p.pronoun, p.birthplace, p.occupation, p.instrument, p.split) for p in facts.people()
    )
    assert tuple(facts.build_drugs()["name"]) == tuple(drug.name for drug in facts.drugs())
    assert len(facts.people()) + len(facts.drugs()) == 900
    assert len({person.name for person in facts.people()}) == len(facts.people())


def test_preferences_are_long_tailed_and_show_in_the_text():
    draws = Draws(0, "test")
    counts = Counter(preferences.adjectives_of("apple").draw(draws) for _ in range(3000))
    ranked = sorted(counts.values(), reverse=True)
    assert ranked[0] > 0.2 * 3000  # one favourite
    assert sum(ranked[10:]) > 0.1 * 3000  # and a tail
    slope = np.polyfit(np.log(np.arange(1, 16)), np.log(ranked[:15]), 1)[0]
    assert slope == pytest.approx(-preferences.EXPONENT, abs=0.2)
    favourites = {noun: preferences.adjectives_of(noun).items[0] for noun in lexicon.noun_classes()["fruit"].nouns}
    assert len(set(favourites.values())) > len(favourites) / 2  # every noun has an order of its own
    text = re.sub(r"[.,]", "", " ".join(world.write_documents("narrative", 250)).lower()).split()
    nouns = {noun for entry in lexicon.noun_classes().values() for noun in entry.nouns}
    adjectives = {noun: preferences.adjectives_of(noun).items for noun in nouns}
    told = [
        (noun, word) for word, noun in zip(text, text[1:], strict=False) if noun in nouns and word in adjectives[noun]
    ]
    ranks = Counter(adjectives[noun].index(word) // 5 for noun, word in told)
    assert len(told) > 400 and ranks[0] > 3 * ranks[1] > 3 * ranks[2]
    assert sum(ranks.values()) - ranks[0] > 0.1 * len(told)


def test_verbs_take_objects_of_their_classes_only():
    for topic in lexicon.topics():
        for verb in preferences.verbs_of_topic(topic):
            for noun in preferences.objects_of(verb, topic).items:
                assert verb in preferences.class_of(noun).verbs
    with pytest.raises(LookupError, match="takes the verb 'sing'"):
        preferences.objects_of("sing", "food")


def test_concepts_are_planted_in_the_text():
    text = set(
        " ".join(d for r in world.REGISTERS for d in world.write_documents(r, 250))
        .lower()
        .replace(".", "")
        .replace(",", "")
        .split()
    )
    for concept, words in world.CONCEPTS.items():
        heads = {word.lower().split()[-1] for word in words}
        assert len(words) > 1
        assert len(heads & text) > 0.5 * len(heads), concept


# --- knobs -----------------------------------------------------------------------------------------------------------


def abstracts(**knobs) -> list[str]:
    return world.write_documents("biomedical", 40, knobs=world.Knobs(**knobs))


def test_sentence_length_moves_words_per_sentence():
    low, high = (np.mean([count_words(s) for s in sentences(abstracts(sentence_length=value))]) for value in (0.0, 1.0))
    assert high > low + 1.5


def test_clause_depth_moves_subordinate_clauses():
    counts = [share(abstracts(clause_depth=depth), {"who", "that"}) for depth in range(MAX_DEPTH + 1)]
    assert counts[0] == 0
    assert all(deeper > 1.2 * shallower for shallower, deeper in zip(counts[1:], counts[2:], strict=False))


def test_word_rarity_moves_rare_synonyms():
    keys = ("increase_verbs", "decrease_verbs", "finding_adverbs", "treatment_adjectives")
    rare = {lexicon.past(second) if "verbs" in key else second for key in keys for _, second in lexicon.pairs(key)}
    low, high = (share(abstracts(word_rarity=value), rare) for value in (0.0, 1.0))
    assert low < 0.01 < 0.05 < high


def test_findings_per_sentence_moves_findings():
    per_sentence = [
        np.mean([text.count(" and it ") for text in sentences(abstracts(findings_per_sentence=n, clause_depth=0))])
        for n in (1, 2, 4)
    ]
    assert per_sentence[0] == 0 and per_sentence[1] < per_sentence[2]


def test_term_density_moves_technical_terms():
    fields = lexicon.medical_fields().values()
    technical = {first for field in fields for first, _ in field.conditions + field.measures}
    low, high = (share(abstracts(term_density=value), technical) for value in (0.0, 1.0))
    assert low < 0.02 < 0.08 < high


def test_knobs_outside_their_range_are_refused():
    with pytest.raises(ValueError, match=r"clause_depth=4 is outside \[0, 3\]"):
        world.Knobs(clause_depth=4)
    with pytest.raises(ValueError, match="term_density=1.5"):
        world.Knobs(term_density=1.5)


# --- randomness ------------------------------------------------------------------------------------------------------


def test_draws_follow_their_name_and_their_weights():
    assert generator(1, "a", "b").random() == generator(1, "a", "b").random() != generator(1, "a", "c").random()
    draws = Draws(0, "test")
    assert sorted(draws.sample(range(5), 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="6 different items out of 5"):
        draws.sample(range(5), 6)
    tally = Counter(draws.weighted(("a", "b"), (0.25, 1.0)) for _ in range(4000))
    assert tally["a"] / 4000 == pytest.approx(0.25, abs=0.03)
    assert {draws.integer(2, 4) for _ in range(200)} == {2, 3, 4}


def test_a_text_is_in_exactly_one_split():
    texts = [str(number) for number in range(5000)]
    in_test = [belongs(text, "test") for text in texts]
    assert all(belongs(text, "train") != is_test for text, is_test in zip(texts, in_test, strict=True))
    assert np.mean(in_test) == pytest.approx(0.2, abs=0.02)
