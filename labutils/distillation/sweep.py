"""The sweep of a distillation study: tasks × arms × seeds, with a learning rate for every task and method.

Runs go through joblib: a Dask backend, with a folder that all workers see, moves a sweep without a change here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
from joblib import delayed

from labutils.core.progress import progress
from labutils.core.separate_tasks import separate_tasks
from labutils.distillation.arms import Arm, DistillSetting, parse_arm
from labutils.distillation.bench import (
    FORMAT,
    Backbone,
    Bench,
    hash_items,
    load_backbone,
    make_student,
    measure_run,
    measure_untrained,
    prepare_bench,
    take_share,
)
from labutils.distillation.options import TrainingOptions
from labutils.runner.finished_runs import FinishedRuns, Frames

TUNING_SEEDS = 10_000  # seeds from here on choose learning rates, and nothing else


@dataclass(frozen=True)
class DistillSweep:
    """The rows of a sweep.

    Attributes:
        items: one row per run and test item: `model, calibration, evaluation, arm, method, seed, item, loss, unit`;
            `calibration` is the training source, one minus the mean loss the score.
        runs: one row per run: arm, rate, scores, epochs, chance, numbers of parameters, seconds.
        probes: one row per run, block and test item: the loss of a linear probe. Besides the arms there are the student
            before training ("untrained") and the teacher ("teacher"), and a column `blocks`.
        clusters: one row per run, block and measure of agreement between clusters and labels (classification only).
        teachers: one row per task: task, validation (the teacher's score), chance, admitted.
        tuning: one row per run that chose a learning rate: task, method (with "/cut" for students cut from the model),
            rate, seed, validation score.
    """

    items: pd.DataFrame
    runs: pd.DataFrame
    probes: pd.DataFrame
    clusters: pd.DataFrame
    tuning: pd.DataFrame
    teachers: pd.DataFrame = field(default_factory=pd.DataFrame)


def distill_sweep(
    source: str,
    tasks: Sequence[str],
    *,
    arms: Sequence[str] | Mapping[str, int],
    n_seeds: int | None = None,
    admitted: tuple[float, float] | None = None,
    learning_rates: Sequence[float],
    setting: DistillSetting = DistillSetting(),  # noqa: B008 (frozen)
    folder: Path | None = None,
    revision: str | None = None,
    n_jobs: int | None = None,
) -> DistillSweep:
    """Train a teacher per task and rank, and a student per task, arm and seed.

    The learning rate of each task and method (and kind of student) is the one of `learning_rates` with the best mean
    validation score over `setting.n_tuning` seeds of their own, at the setting's rank and share; its other arms take it
    over. Among equals the lower rate is taken. Seeds decide the student's first weights and all randomness of its
    training; the items and the teacher are those of the setting's seed.

    Args:
        source: the teacher's backbone, as for `load_model`.
        tasks: as for `load_task_data`.
        arms: see `labutils.distillation.arms`; a mapping gives each its own number of seeds.
        n_seeds: seeds 0 to n − 1 of every arm, where arms are no mapping.
        admitted: of what teachers students are trained: those whose validation score is at least the first number above
            chance, so that there is something to teach, and below the second, so that their outputs tell more than the
            labels do. Only the teacher decides, before any student is trained. None admits every task.
        learning_rates: the grid, the same for every method.
        folder: where finished runs are kept; a sweep that finds them there takes them, and trains the others.
        n_jobs: parallel processes; None leaves it to `joblib.parallel_config`.

    Raises:
        ValueError, LookupError: as the loaders and `distill` do; a wrong arm or setting before anything is trained.

        distill_sweep("lab-llama", ["lab:topic/stories"], arms=["kd", "ild"], n_seeds=3, learning_rates=[0.01, 0.03])
    """
    separate_tasks(n_jobs)
    seeds = dict(arms) if isinstance(arms, Mapping) else dict.fromkeys(arms, n_seeds or 0)
    chosen = [parse_arm(arm) for arm in seeds]
    rates = list(learning_rates)
    if not rates or not chosen or not tasks or min(seeds.values()) < 1 or (len(rates) > 1 and setting.n_tuning < 1):
        raise ValueError(
            f"a sweep needs tasks, arms, learning_rates and at least one seed per arm ({seeds}), and one more to "
            f"choose among learning rates (n_tuning={setting.n_tuning})"
        )
    backbone = load_backbone(source, revision=revision)
    _check_setting(backbone, setting)
    crew = _Crew(setting, FinishedRuns(folder, FORMAT), n_jobs)
    benches = _prepare(backbone, tasks, [setting.rank], chosen, crew)
    teachers = admit_tasks({task: benches[task, setting.rank] for task in tasks}, admitted)
    tasks = list(teachers.index[teachers["admitted"]])
    plain = [benches[task, setting.rank] for task in tasks]
    further = list(dict.fromkeys(arm.rank for arm in chosen if arm.rank not in (None, setting.rank)))
    if further:
        benches |= _prepare(backbone, tasks, further, chosen, crew)
    tuning = _tune(plain, chosen, rates, crew)
    best = _best_rates(tuning, plain, chosen, rates)
    jobs = [
        (benches[task, arm.rank or setting.rank], arm, seed, best[benches[task, setting.rank].data.name, arm.tuned])
        for task in tasks
        for arm in chosen
        for seed in range(seeds[arm.name])
    ]
    found = crew.measure(measure_run, jobs, "train students")
    found += crew.measure(
        measure_untrained, [(bench, s) for bench in plain for s in range(max(seeds.values()))], "untrained"
    )
    found += [bench.teacher_frames for bench in plain]
    frames = {name: _join(found, name) for name in ("items", "run", "probes", "clusters")}
    return DistillSweep(
        frames["items"], frames["run"], frames["probes"], frames["clusters"], tuning, teachers.reset_index(drop=True)
    )


def admit_tasks(benches: Mapping[str, Bench], admitted: tuple[float, float] | None) -> pd.DataFrame:
    """Which tasks' teachers have something to teach; see `distill_sweep`.

    >>> admit_tasks({task: bench}, (0.1, 0.98))

    Returns:
        one row per task, under its source: ``task`` (the name in the rows), ``validation, chance, admitted``.

    Raises:
        ValueError: no task is left.
    """
    rows = {
        task: {"task": bench.data.name, "validation": bench.teacher_score, "chance": bench.data.chance}
        for task, bench in benches.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").assign(admitted=True)
    if admitted is None:
        return table
    above, ceiling = admitted
    table["admitted"] = (table["validation"] >= table["chance"] + above) & (table["validation"] < ceiling)
    if not table["admitted"].any():
        found = ", ".join(f"{row.task} {row.validation:.3f} (chance {row.chance:.3f})" for row in table.itertuples())
        raise ValueError(
            f"no teacher scores at least {above:g} above chance and below {ceiling:g}: {found}; name other tasks, or "
            "widen the bounds"
        )
    return table


def _check_setting(backbone: Backbone, setting: DistillSetting) -> None:
    """Raise now what would otherwise be raised after the teachers were trained."""
    for given in (setting.student_options, setting.teacher_options):
        TrainingOptions(**given(setting.rank))
    make_student(backbone.model, setting, 0)


@dataclass(frozen=True)
class _Crew:
    """How jobs are done: with which sizes, where finished ones are kept, by how many processes."""

    setting: DistillSetting
    finished: FinishedRuns
    n_jobs: int | None

    def run(self, function: Callable, jobs: Sequence[tuple], description: str, unit: str) -> list:
        """`function` of every job, in their order."""
        work = separate_tasks(self.n_jobs)(delayed(function)(*job) for job in jobs)
        return list(progress(work, total=len(jobs), description=description, unit=unit))

    def measure(self, measure: Callable[..., Frames], jobs: Sequence[tuple], description: str) -> list[Frames]:
        """The frames of every job; what is kept is not measured again."""
        given = [(measure, bench, rest, self.setting, self.finished) for bench, *rest in jobs]
        return self.run(_recall_or_measure, given, description, "run")


def _prepare(
    backbone: Backbone, tasks: Sequence[str], ranks: Sequence[int], arms: list[Arm], crew: _Crew
) -> dict[tuple[str, int], Bench]:
    """A bench per task and rank: the items, enough for the largest share of the arms, and a teacher trained on them."""
    largest = max([1.0, *(arm.share for arm in arms)])
    wanted = [(task, rank) for task in tasks for rank in ranks]
    jobs = [(backbone, task, rank, largest, crew.setting, crew.finished) for task, rank in wanted]
    return dict(zip(wanted, crew.run(prepare_bench, jobs, "train teachers", "teacher"), strict=True))


def _tune(benches: list[Bench], arms: list[Arm], rates: Sequence[float], crew: _Crew) -> pd.DataFrame:
    """Validation scores of every rate; empty where there is nothing to choose."""
    columns = ["task", "method", "rate", "seed", "validation"]
    if len(rates) == 1:
        return pd.DataFrame(columns=columns)
    methods = dict.fromkeys(arm.tuned for arm in arms)
    jobs = [
        (bench, parse_arm(method), TUNING_SEEDS + seed, rate)
        for bench in benches
        for method in methods
        for rate in rates
        for seed in range(crew.setting.n_tuning)
    ]
    runs = _join(crew.measure(measure_run, jobs, "choose learning rates"), "run")
    return runs.assign(method=runs["arm"]).rename(columns={"evaluation": "task"})[columns]


def _best_rates(
    tuning: pd.DataFrame, benches: list[Bench], arms: list[Arm], rates: Sequence[float]
) -> dict[tuple[str, str], float]:
    """The rate of every task and method."""
    wanted = [(bench.data.name, arm.tuned) for bench in benches for arm in arms]
    if len(rates) == 1:
        return dict.fromkeys(wanted, rates[0])
    means = tuning.groupby(["task", "method", "rate"])["validation"].mean()
    return {pair: float(means[pair].sort_index().idxmax()) for pair in wanted}


def _recall_or_measure(
    measure: Callable[..., Frames], bench: Bench, rest: list, setting: DistillSetting, finished: FinishedRuns
) -> Frames:
    about = [asdict(part) if isinstance(part, Arm) else part for part in rest]
    share = next((part.share for part in rest if isinstance(part, Arm)), 1.0)
    items = hash_items(take_share(bench.data, share, setting))
    key = {"kind": measure.__name__, "bench": bench.key, "items": items, "setting": asdict(setting), "about": about}
    if finished.has(key):
        return finished.read_frames(key)
    frames = measure(bench, *rest, setting)
    finished.write_frames(key, frames)
    return frames


def _join(found: Iterable[Frames], name: str) -> pd.DataFrame:
    frames = [frames[name] for frames in found if name in frames]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
