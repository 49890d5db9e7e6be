"""What every room may use: paths, files, hashes, progress, options, provenance; knows nothing of models."""

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
