"""Biomedical abstracts with one knob per property of style that readability studies vary."""

from dataclasses import dataclass, fields, replace

from labutils.world import facts, lexicon
from labutils.world.grammar import Clause, Phrase, a, name
from labutils.world.seeding import Draws

MAX_DEPTH = 3
MAX_FINDINGS = 4


@dataclass(frozen=True)
class Knobs:
    """The style of an abstract.

    >>> world.write_documents("biomedical", 10, knobs=Knobs(clause_depth=3, word_rarity=0.8))

    sentence_length, word_rarity and term_density are probabilities: of each optional modifier, of the rarer of two
    synonyms, and of the technical instead of the everyday term. clause_depth (0 to 3) is the number of clauses nested
    within each finding; findings_per_sentence is 1 to 4.
    """

    sentence_length: float = 0.5
    clause_depth: int = 1
    word_rarity: float = 0.3
    findings_per_sentence: int = 1
    term_density: float = 0.5

    def __post_init__(self) -> None:
        allowed = {"clause_depth": (0, MAX_DEPTH), "findings_per_sentence": (1, MAX_FINDINGS)}
        for field in fields(self):
            low, high = allowed.get(field.name, (0, 1))
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise ValueError(f"{field.name}={value} is outside [{low}, {high}].")


def draw_knobs(draws: Draws) -> Knobs:
    """Knobs of an abstract whose style nobody chose."""
    return Knobs(
        sentence_length=draws.uniform(),
        clause_depth=draws.integer(0, 2),
        word_rarity=draws.uniform(),
        findings_per_sentence=draws.integer(1, 3),
        term_density=draws.uniform(),
    )


@dataclass(frozen=True, slots=True)
class Finding:
    drug: facts.Drug
    measure: tuple[str, str]  # technical and everyday term
    rises: bool


class Writer:
    """Words the parts of one abstract in one style."""

    def __init__(self, draws: Draws, knobs: Knobs) -> None:
        self.draws = draws
        self.knobs = knobs

    def synonym(self, key: str) -> str:
        """One word of a pair (common, rare)."""
        common, rare = self.draws.pick(lexicon.pairs(key))
        return rare if self.draws.chance(self.knobs.word_rarity) else common

    def term(self, pair: tuple[str, str]) -> Phrase:
        """A condition or measure: the technical or the everyday term."""
        technical, everyday = pair
        return Phrase(technical if self.draws.chance(self.knobs.term_density) else everyday)

    def modifiers(self, key: str) -> tuple[str, ...]:
        """At most one optional adjective from a word list."""
        return (self.draws.pick(lexicon.words(key)),) if self.draws.chance(self.knobs.sentence_length) else ()

    def people(self) -> Phrase:
        return Phrase(
            self.draws.pick(lexicon.words("groups")), adjectives=self.modifiers("group_adjectives"), plural=True
        )

    def measure(self, pair: tuple[str, str]) -> Phrase:
        """A measure with its optional adjective."""
        phrase = self.term(pair)
        if self.draws.chance(self.knobs.sentence_length):
            phrase.adjectives = (self.synonym("measure_adjectives"),)
        phrase.determiner = "the"
        return phrase

    def finding(self, finding: Finding, *, depth: int) -> Clause:
        """One result: the drug raised or lowered the measure, in people described by `depth` nested clauses."""
        verb = self.synonym("increase_verbs" if finding.rises else "decrease_verbs")
        adverb = self.synonym("finding_adverbs") if self.draws.chance(self.knobs.sentence_length) else ""
        places = []
        if depth or self.draws.chance(self.knobs.sentence_length):
            people = self.people()
            people.relative = self._nested(depth)
            places.append(("in", people))
        if not depth and self.draws.chance(self.knobs.sentence_length):
            places.append(("after", Phrase("week", str(self.draws.integer(2, 12)), plural=True)))
        return Clause(name(finding.drug.name), verb, self.measure(finding.measure), adverb=adverb, places=tuple(places))

    def _nested(self, depth: int) -> Clause | None:
        """Relative clauses within each other: who had asthma that followed a rash that ..."""
        if not depth:
            return None
        field = self.draws.pick(tuple(lexicon.medical_fields().values()))
        trouble = self.term(self.draws.pick(field.conditions))
        trouble.relative = self._nested(depth - 1)
        verb = self.draws.pick(("have", "report") if depth == self.knobs.clause_depth else ("follow", "accompany"))
        return Clause(Phrase("they"), verb, trouble)

    def results(self, drug: facts.Drug, n_findings: int) -> list[Clause]:
        """All findings, `findings_per_sentence` to a sentence."""
        field = lexicon.medical_fields()[drug.field]
        measures = self.draws.sample(field.measures, n_findings)
        findings = [Finding(drug, measure, self.draws.chance(0.5)) for measure in measures]
        clauses = [self.finding(finding, depth=self.knobs.clause_depth) for finding in findings]
        size = self.knobs.findings_per_sentence
        sentences = []
        for start in range(0, n_findings, size):
            first, *others = clauses[start : start + size]
            it = [replace(clause, subject=Phrase("it")) for clause in others]
            sentences.append(replace(first, links=tuple(("and", clause) for clause in it)))
        return sentences


def biomedical(draws: Draws, knobs: Knobs | None = None) -> list[Clause]:
    """An abstract on one drug: background, aim, method, four findings, conclusion. `knobs` None draws a style."""
    writer = Writer(draws, knobs or draw_knobs(draws))
    drug = draws.pick(facts.drugs())
    field = lexicon.medical_fields()[drug.field]
    condition = next(pair for pair in field.conditions if pair[0] == drug.technical)
    study_noun = draws.pick(lexicon.words("study_nouns"))
    illness = Clause(writer.term(condition), "be", _illness(writer, field.organ), tense="present")
    aim = Clause(
        Phrase("we"), draws.pick(("study", "test", "examine")), name(drug.name), places=(("in", writer.people()),)
    )
    group = writer.people()
    group.determiner = str(10 * draws.integer(2, 40))
    method = Clause(group, "receive", Phrase(drug.dose, name=True, attached=("of", name(drug.name))))
    method.places = (("in", a(study_noun, *writer.modifiers("study_adjectives"))),)
    if writer.draws.chance(writer.knobs.sentence_length):
        method.places += (("for", Phrase("week", str(writer.draws.integer(2, 12)), plural=True)),)
    effect = Clause(Phrase(drug.side_effect), "be", a("side effect", writer.synonym("illness_adjectives")))
    conclusion = Clause(name(drug.name), "be", a("treatment", writer.synonym("treatment_adjectives")), tense="may")
    conclusion.places = (("for", writer.term(condition)),)
    return [illness, aim, method, *writer.results(drug, MAX_FINDINGS), effect, conclusion]


def _illness(writer: Writer, organ: str) -> Phrase:
    noun = writer.draws.pick(("disease", "disorder", "condition"))
    return Phrase(noun, "a", (writer.synonym("illness_adjectives"),), attached=("of", Phrase(organ, "the")))
