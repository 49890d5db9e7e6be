"""The controlled language: a seeded world whose truth is known, in four registers and three languages, with 24 tasks.

>>> from labutils import world
>>> world.write_documents("encyclopedic", 1)
>>> world.write_items("qa/birthplaces", 100)
"""

from labutils.world.biomedical import Knobs
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
]
