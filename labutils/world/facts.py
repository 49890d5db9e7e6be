"""The fact base: people and drugs with three attributes each, kept in `data/world/people.tsv` and `drugs.tsv`.

`build_people` and `build_drugs` make the tables from the lexicon; the files are what everything else reads.
"""

from dataclasses import dataclass
from functools import cache

import pandas as pd

from labutils.core.paths import DATA
from labutils.world import lexicon
from labutils.world.seeding import Draws

FOLDER = DATA / "world"
N_PEOPLE = 560
N_DRUGS = 340
HELD_OUT_SHARE = 0.3  # entities whose facts are told in documents, but asked about in test items only


@dataclass(frozen=True, slots=True)
class Person:
    """Someone with a birthplace, an occupation and an instrument. `pronoun` is "she" or "he"."""

    name: str
    pronoun: str
    birthplace: str
    occupation: str
    instrument: str
    split: str  # the split of the questions about this person


@dataclass(frozen=True, slots=True)
class Drug:
    """A drug: the condition it treats (everyday and technical term), its dose and its side effect."""

    name: str
    field: str
    condition: str
    technical: str
    dose: str
    side_effect: str
    split: str


def build_people(seed: int = 0) -> pd.DataFrame:
    """One row per person; every surname occurs once."""
    draws = Draws(seed, "people")
    surnames = [stem + ending for stem in lexicon.words("surname_stems") for ending in lexicon.words("surname_endings")]
    occupations = [role for topic in lexicon.topics() for role in lexicon.words("roles", topic)]
    rows = []
    for surname in draws.sample(surnames, N_PEOPLE):
        pronoun = draws.pick(("she", "he"))
        rows.append(
            {
                "name": f"{draws.pick(lexicon.words('given_names', pronoun))} {surname}",
                "pronoun": pronoun,
                "birthplace": draws.pick(lexicon.words("cities")),
                "occupation": draws.pick(occupations),
                "instrument": draws.pick(lexicon.noun_classes()["instrument"].nouns),
                "split": "test" if draws.chance(HELD_OUT_SHARE) else "train",
            }
        )
    return pd.DataFrame(rows)


def build_drugs(seed: int = 0) -> pd.DataFrame:
    draws = Draws(seed, "drugs")
    names = [stem + ending for stem in lexicon.words("drug_stems") for ending in lexicon.words("drug_endings")]
    rows = []
    for drug in draws.sample(names, N_DRUGS):
        field = draws.pick(tuple(lexicon.medical_fields().values()))
        technical, everyday = draws.pick(field.conditions)
        rows.append(
            {
                "name": drug,
                "field": field.name,
                "condition": everyday,
                "technical": technical,
                "dose": f"{draws.pick(lexicon.words('doses'))} mg",
                "side_effect": draws.pick(lexicon.words("side_effects")),
                "split": "test" if draws.chance(HELD_OUT_SHARE) else "train",
            }
        )
    return pd.DataFrame(rows)


@cache
def people(split: str | None = None) -> tuple[Person, ...]:
    """Everybody, or those whom items of `split` ask about."""
    return tuple(person for person in map(lambda row: Person(*row), _rows("people")) if split in (None, person.split))


@cache
def drugs(split: str | None = None) -> tuple[Drug, ...]:
    """All drugs, or those that items of `split` ask about."""
    return tuple(drug for drug in map(lambda row: Drug(*row), _rows("drugs")) if split in (None, drug.split))


def _rows(table: str) -> list[tuple[str, ...]]:
    frame = pd.read_csv(FOLDER / f"{table}.tsv", sep="\t", dtype=str, keep_default_na=False)
    return list(frame.itertuples(index=False, name=None))
