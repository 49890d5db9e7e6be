"""What every room may use and none owns: paths, files and hashes, options, progress, profiling, provenance, the logger.

Imports no other room, and knows nothing of models. A helper that two rooms need and that says nothing about pruning,
models or statistics belongs here; a name that a user may mistype is answered by `options.suggest`, an optional package
is imported by `extras`, and a package's public names are attached by `lazy`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "progress": ["progress"],
        "provenance": ["provenance"],
        "paths": ["run_folder"],
        "profiling": ["measure_cost", "describe_processor"],
    },
)
