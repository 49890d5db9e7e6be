"""The controlled language: a seeded world whose truth is known, in four registers and three languages, with 24 tasks.

>>> from labutils import world
>>> world.write_documents("encyclopedic", 1)
>>> world.write_items("qa/birthplaces", 100)

Imports `core` only. A new register is a function from draws to clauses, listed in `documents`; a new language is a
set of `Rules` in `languages`; a new task is a `TaskSpec` in the file of its family (`tasks_qa`, …). Words are in
`data/world/lexicon.yaml`, read by `lexicon`. Whoever changes the order of draws changes every text: the lab models were
trained on these.
"""

from labutils.world.biomedical import Knobs
from labutils.world.dependencies import write_trees
from labutils.world.documents import REGISTERS, write_documents
from labutils.world.items import FAMILIES, TaskSpec
from labutils.world.languages import LANGUAGES
from labutils.world.lexicon import concepts
from labutils.world.tasks import TASKS, write_items

CONCEPTS = concepts()

__all__ = [
    "CONCEPTS",
    "FAMILIES",
    "LANGUAGES",
    "REGISTERS",
    "TASKS",
    "Knobs",
    "TaskSpec",
    "write_documents",
    "write_items",
    "write_trees",
]
