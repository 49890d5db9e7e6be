"""The strict runner of the studies: typed parameters, a kernel each, records that can be trusted, resumption.

A notebook needs `conclude` alone, and not the runner that runs it. From a command to a page the files are, in this
order: `parameters`, `planning`, `runner`, `kernels`, `study_kernel`, `conclusion`, `records`; `stored_outputs` brings a
run back into the notebooks, `real_runs` makes pages of a run on a real model (`real_manifest` reads them);
`long_study`, `finished_runs` and `stored_rows` serve studies that take hours.

Imports `core` and `claims`. A new engine for sweeps is a file in `engines` and a line in `engines/choice.py`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "conclusion": ["conclude"],
        "runner": ["run_studies"],
        "stored_rows": ["describe_origin"],
        "real_rows": ["load_real_rows"],
        "real_runs": ["keep_pages"],
        "stored_outputs": ["find_stale", "readme_table", "stale_notebooks", "store_outputs"],
    },
)
