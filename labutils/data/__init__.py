"""Texts, tasks and word lists, each named by one source string."""

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
