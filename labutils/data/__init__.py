"""Texts, tasks and word lists, each named by one source string.

`sources` takes source strings apart, `records` reads the rows of a file, `corpora` texts, `tokens` cuts them into
windows between a model's special tokens, `tasks` reads items and `prompts` words them, `hub` and `hub_tasks` know the
hub's data sets, `words` finds words and terms.

Imports `core` and `world`. A new scheme of sources begins in `sources`; a task of another format is a template in
`prompts` or an entry of `data/hub_tasks.yaml`; how windows are cut is decided in `tokens` alone.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "corpora": ["load_texts", "load_tokens"],
        "tasks": ["load_task"],
        "sources": ["sources_of", "split_pair", "short_source"],
        "words": ["read_concepts", "texts_about"],
    },
)
