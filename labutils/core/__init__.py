"""What every room may use: paths, files, hashes, progress, options, provenance; knows nothing of models."""

import logging

from labutils.core.lazy import attach

# What the package logs goes where its user sends it, and nowhere without being asked.
logging.getLogger("labutils").addHandler(logging.NullHandler())

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "progress": ["progress"],
        "provenance": ["provenance"],
        "paths": ["run_folder"],
        "profiling": ["measure_cost", "describe_processor"],
    },
)
