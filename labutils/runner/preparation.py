"""What must be known before the first notebook starts: everything that can be refused is refused here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labutils.core import paths
from labutils.runner.engines import check_engine
from labutils.runner.planning import Study, plan_studies
from labutils.runner.records import check_named, check_run_folder


@dataclass(frozen=True)
class Preparation:
    """A run that can begin.

    Attributes:
        skipped: notebooks that were named and that the profile does not list.
        where: on what the sweeps run, for the reader; None in the kernels.
    """

    run: Path
    studies: list[Study]
    skipped: list[str]
    where: str | None


def prepare(
    names: Iterable[str], *, profile: str | Path, out: str | Path, jobs: int, parameters: Mapping[str, Any],
    notebooks: str | Path | None, cell_timeout: int | None, engine: str | None,
) -> Preparation:  # fmt: skip
    """Check what a run was asked for; arguments and errors are those of `run_studies`, and nothing is written.

    >>> prepare(["01"], profile="lab", out="results/lab", jobs=1, parameters={}, notebooks=None, cell_timeout=None,
    ...     engine=None).studies[0].stem
    '01_layerwise_sparsity'
    """
    folder = paths.expand(notebooks) if notebooks is not None else paths.NOTEBOOKS
    if jobs < 1:
        raise ValueError(f"jobs must be 1 or more, not {jobs}")
    if cell_timeout is not None and cell_timeout < 1:
        raise ValueError(f"cell_timeout must be at least 1 second, not {cell_timeout}")
    studies, skipped = plan_studies(names, profile=profile, overrides=parameters, folder=folder)
    run = paths.expand(out).resolve()
    check_run_folder(run, [study.stem for study in studies])
    for study in studies:
        check_named(study.parameters)
    return Preparation(run, studies, skipped, check_engine(engine) if engine is not None else None)
