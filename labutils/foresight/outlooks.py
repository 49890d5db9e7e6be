"""What is known of a run before it starts, and how it is written. Nothing heavy is loaded: the runner needs it."""

from collections.abc import Sequence
from dataclasses import dataclass

from labutils.core.progress import clock

LONG_SECONDS = 60.0  # what takes less in all is not told
STEMS = (  # of the notebooks that there is a forecast of, see `plans`
    "00_tour",
    "01_layerwise_sparsity",
    "02_pruning_strategy",
    "03_optiprune",
    "04_calibration_and_tasks",
    "05_neuron_semantics",
    "05b_pruned_meanings",
    "09_what_perplexity_hides",
    "10_any_model",
    "12_best_possible",
    "13_smaller_for_real",
    "13b_experts_and_paths",
    "14_what_heals",
    "99_ledger",
)


@dataclass(frozen=True)
class Outlook:
    """What a notebook will take.

    Attributes:
        seconds: of the whole notebook, for a machine that does nothing else; None where it cannot be told, as well as
            `memory`, bytes at its peak, and `disk`, bytes that it leaves in the run's folder.
        free: bytes of the memory in question that are free now, where the system tells.
        device: where the model is: "cpu" or "cuda".
        temporary: bytes in the folder of temporary files while it runs.
        prunings, evaluations: how many, without those whose rows earlier notebooks of the run have left.
        steps: of training.
        note: how rough that is, or why it cannot be told.
    """

    stem: str
    seconds: float | None = None
    memory: int | None = None
    disk: int | None = None
    free: int | None = None
    device: str = "cpu"
    temporary: int = 0
    prunings: int = 0
    evaluations: int = 0
    steps: int = 0
    note: str = ""


def write_outlooks(
    outlooks: Sequence[Outlook], *, jobs: int = 1, free_disk: int, free_temporary: int, always: bool = False
) -> list[str]:
    """The lines that tell what a run will take: nothing where that is little and all of it is known.

    >>> outlook = Outlook("01_a", seconds=120.0, memory=10**9, disk=10**6)
    >>> write_outlooks([outlook], free_disk=10**9, free_temporary=10**9)

    Args:
        jobs: notebooks that run at a time.
        free_disk, free_temporary: bytes free where the run's folder and temporary files are.
        always: tell also what is short.
    """
    told = [each for each in outlooks if each.seconds is not None]
    unknown = [each for each in outlooks if each.seconds is None and each.note]
    untold = [each.stem for each in outlooks if each.seconds is None and not each.note]
    warnings = _warnings(told, jobs, free_disk, free_temporary)
    seconds = sum(each.seconds for each in told)
    if not (always or seconds > LONG_SECONDS or unknown or warnings):
        return []
    lines = [f"forecast: {_whole(told, jobs, seconds)}"] if told else ["forecast: none of these notebooks can be told"]
    lines += [f"  {_one(each)}" for each in told]
    lines += [f"  {each.stem}: {each.note}" for each in unknown]
    if untold:
        lines.append(f"  not forecast, so not in these numbers: {', '.join(untold)}")
    return lines + [f"  WARNING: {warning}" for warning in warnings]


def _whole(told: Sequence[Outlook], jobs: int, seconds: float) -> str:
    disk = sum(each.disk for each in told)
    notebooks = f"{len(told)} notebooks one after another" if len(told) > 1 else "1 notebook"
    at_once = f", at best 1/{min(jobs, len(told))} of it with {jobs} at a time" if min(jobs, len(told)) > 1 else ""
    return (
        f"about {clock(seconds)} for {notebooks}{at_once}, {_bytes(_peak(told, jobs))} of memory, "
        f"{_bytes(disk)} of disk, on a machine that does nothing else; figures and intervals come on top"
    )


def _one(each: Outlook) -> str:
    count = f"{each.prunings} prunings, {each.evaluations} evaluations" if each.prunings else "no pruning"
    count += f", {each.steps} steps of training" if each.steps else ""
    note = f" ({each.note})" if each.note else ""
    return f"{each.stem}: about {clock(each.seconds)}, {_bytes(each.memory)}; {count}{note}"


def _peak(told: Sequence[Outlook], jobs: int) -> int:
    """Of the largest notebooks that may run together."""
    return sum(sorted((each.memory for each in told), reverse=True)[:jobs])


def _warnings(told: Sequence[Outlook], jobs: int, free_disk: int, free_temporary: int) -> list[str]:
    if not told:
        return []
    found, needed = [], _peak(told, jobs)
    free = min((each.free for each in told if each.free is not None), default=needed)
    if needed > free:
        largest = max(told, key=lambda each: each.memory).stem
        fewer = "fewer --jobs, " if jobs > 1 else ""
        found.append(
            f"that is more memory than the {_bytes(free)} that are free; {largest} needs most. To need less: {fewer}"
            "fewer or shorter calibration sequences (n_calibration, seq_len), dtype=bfloat16 where the notebook takes "
            "it, or a smaller model"
        )
    disk, temporary = sum(each.disk for each in told), max(each.temporary for each in told)
    if disk > free_disk:
        found.append(f"the run leaves about {_bytes(disk)}, and --out has room for {_bytes(free_disk)}")
    if temporary > free_temporary:
        room = _bytes(free_temporary)
        found.append(f"{_bytes(temporary)} of temporary files do not fit into {room}; TMPDIR names another folder")
    return found


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
