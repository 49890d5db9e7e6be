"""Depths in dependency trees: sentences parsed by hand, and the same words as the sentence in every register."""

import pytest

from labutils import world
from labutils.world.dependencies import word_depths, write_trees
from labutils.world.grammar import Clause, Phrase, a, name, the

CARRY = Clause(the("nurse"), "carry", a("chair", "old"), adverb="slowly", places=(("into", the("garden")),))
BY_HAND = {
    "The nurse slowly carried an old chair into the garden": (CARRY, [2, 1, 1, 0, 2, 2, 1, 2, 2, 1]),
    "The soup was not very good and cheap": (
        Clause(the("soup"), "be", complement=("good", "cheap"), degree="very", negated=True), [2, 1, 0, 1, 2, 1, 3, 2]
    ),
    "The soup may not be good": (
        Clause(the("soup"), "be", complement=("good",), tense="may", negated=True), [2, 1, 1, 1, 0, 1]
    ),
    "I did not buy the car because it was bad": (
        Clause(
            Phrase("I"), "buy", the("car"), negated=True,
            links=(("because", Clause(Phrase("it"), "be", complement=("bad",))),),
        ), [1, 1, 1, 0, 2, 1, 2, 2, 1, 2]
    ),
    "The dose of Ralin is 5 mg": (
        Clause(Phrase("dose", "the", attached=("of", name("Ralin"))), "be", name("5 mg"), tense="present"),
        [2, 1, 3, 2, 0, 2, 1],
    ),
    "The doctor was helped by patients who had fever": (
        Clause(
            the("doctor"), "help", passive=True,
            places=(("by", Phrase("patient", plural=True, relative=Clause(Phrase("they"), "have", Phrase("fever")))),),
        ), [2, 1, 1, 0, 2, 1, 3, 2, 3]
    ),
    "Last week Mary saw him": (Clause(name("Mary"), "see", Phrase("he"), time="last week"), [2, 1, 1, 0, 1]),
}  # fmt: skip


@pytest.mark.parametrize("text", BY_HAND)
def test_trees_parsed_by_hand(text: str) -> None:
    clause, depths = BY_HAND[text]
    assert word_depths(clause) == list(zip(text.split(), depths, strict=True))


@pytest.mark.parametrize("register", world.REGISTERS)
def test_trees_hold_the_words_of_their_sentences(register: str) -> None:
    trees = write_trees(register, 200, split="test")
    for text, depths in trees:
        assert " ".join(word for word, _ in depths) == text.replace(",", "").removesuffix(".")
        found = [depth for _, depth in depths]
        assert found.count(0) == 1 and set(found) == set(range(max(found) + 1))  # one root, and no step is left out
    documents = " ".join(world.write_documents(register, 40, split="test"))
    assert documents.startswith(" ".join(text for text, _ in trees[:30]))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(LookupError, match="narrative"):
        write_trees("narrativ", 1)
    with pytest.raises(ValueError, match="negative"):
        write_trees("review", -1)
    with pytest.raises(ValueError, match="split"):
        write_trees("review", 1, split="dev")
    assert write_trees("review", 0) == []
