"""Where sweeps run: in the kernel itself, in processes of this machine, on a Dask cluster, or as jobs of Slurm.

All sweeps go through joblib, so an engine is a setting of joblib's, made once where a notebook's kernel starts:

- `processes:4`: four processes of this machine;
- `dask://host:port`: the workers of a Dask scheduler, see `labutils.runner.engines.dask`;
- `slurm://PARTITION:8`: at most eight jobs at once in a partition, see `labutils.runner.engines.slurm`.
"""

from labutils.runner.engines.choice import FORMS, VARIABLE, check_engine, parse_engine, start_kernel, use_engine
from labutils.runner.engines.dask import worker_version

__all__ = ["FORMS", "VARIABLE", "check_engine", "parse_engine", "start_kernel", "use_engine", "worker_version"]
