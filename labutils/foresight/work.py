"""What a notebook will do with a model, before it does it: prunings, readings, copies. Pure data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from labutils.foresight.readings import Reading
from labutils.pruning.grid import expand_requests
from labutils.pruning.methods import Request
from labutils.sweeps.losses import split_arm

Shape = tuple[int, int]


class ModelId(NamedTuple):
    """What is given to `load_model`."""

    source: str
    revision: str | None
    dtype: str


class Draw(NamedTuple):
    """One draw of a calibration set, by what is given to `load_calibration`: equal ones are the same tokens."""

    calibration: str
    n_sequences: int
    seq_len: int
    seed: int

    @property
    def shape(self) -> Shape:
        return self.n_sequences, self.seq_len


@dataclass(frozen=True)
class Sweep:
    """Prunings over calibration draws, each evaluated on one reading, and the dense model too.

    Attributes:
        requests: of every draw.
        kept: whether their rows stay in the run's folder, where later sweeps find them.
    """

    requests: tuple[Request, ...]
    draws: tuple[Draw, ...]
    reading: Reading
    kept: bool = True


@dataclass(frozen=True)
class Single:
    """A pruning by `prune` or `prune_checkpoint`, so many times."""

    request: Request
    shape: Shape
    times: int = 1


@dataclass(frozen=True)
class Pass:
    """A reading, so many times; with `gradients` there and back, with `each_block` as often as the model has blocks.

    Attributes:
        evaluates: whether each time counts as an evaluation of a model.
    """

    reading: Reading
    times: int = 1
    gradients: bool = False
    each_block: bool = False
    evaluates: bool = False


@dataclass(frozen=True)
class Made:
    """A smaller model, made so many times, and read where a reading is given.

    Attributes:
        arm: of `labutils.smaller.ARMS`, a way to drop blocks or a choice of experts of notebook 13b, or a stage of
            `labutils.recovery`: "choose neurons", "choose blocks".
        n_blocks: whose parameters go, None: every number up to half of the model's; a share is of its blocks. Of
            experts how many of each mixture.
        shape: of the calibration.
        without: numbers of blocks whose rows are kept already.
        searched: to which number of blocks each arm has searched before on the same calibration.
    """

    arm: str
    n_blocks: int | float | None
    shape: Shape
    times: int = 1
    reading: Reading | None = None
    without: tuple[int, ...] = ()
    searched: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """Steps of training.

    Attributes:
        steps: how many, or what is read once, in batches of `rows`.
        rows, length: of a batch.
        part: what is trained: "all", "adapters" or "few" (biases and norms).
        taught: whether the dense model reads every batch too.
        in_parts: whether a batch is cut where it keeps too much for the way back, as `tune_lora` and `recover` do.
        masked: whether weights are trained behind a mask that is chosen by scores.
    """

    steps: "int | Reading"
    rows: int
    length: int
    part: str = "all"
    times: int = 1
    taught: bool = False
    in_parts: bool = False
    masked: bool = False


@dataclass(frozen=True)
class Work:
    """All that a notebook does with one model.

    Attributes:
        loads: how often the model is loaded.
        copies: of its weights that are in memory beside it and beside what a pruning holds.
        saved: how much is written to the folder of temporary files, in multiples of its weights.
        kept_places: places at which the likeliest words of the dense model are kept while it runs.
        files: tables that it keeps in the run's folder beside those of `sweeps`.
        n_experts: that a mixture of the model needs at least; without them nothing of it is done.
    """

    model: ModelId
    sweeps: tuple[Sweep, ...] = ()
    singles: tuple[Single, ...] = ()
    passes: tuple[Pass, ...] = ()
    loads: int = 1
    copies: int = 0
    saved: float = 0.0
    made: tuple[Made, ...] = ()
    trainings: tuple[Training, ...] = ()
    kept_places: int = 0
    files: int = 0
    n_experts: int = 0


@dataclass(frozen=True)
class StudyWork:
    """All that a notebook does.

    Attributes:
        rough: what of it is only roughly known, for the reader; empty where nothing is.
    """

    works: tuple[Work, ...]
    rough: str = ""


Parameters = Mapping[str, Any]
Planner = Callable[[Parameters], StudyWork]


def model_of(parameters: Parameters, name: str | None = None) -> ModelId:
    """The model that a notebook's parameters name, or another one loaded in the same way."""
    return ModelId(name or parameters["model"], parameters.get("revision"), parameters.get("dtype", "auto"))


def requests_of(arms: Sequence[str], sparsities: Sequence[float], **options: object) -> tuple[Request, ...]:
    """What `sweep` asks of `prune` in every draw.

    >>> requests_of(["ria/owl"], [0.5, 0.7])
    """
    return tuple(sum(expand_requests(map(split_arm, arms), sparsities, options=options), []))


def draws_of(calibration: str, n_sequences: int, seq_len: int, n_draws: int, *, first: int = 0) -> tuple[Draw, ...]:
    """Draws of a calibration set, numbered from `first` on.

    Raises:
        ValueError: no draw, or draws of nothing.
    """
    if n_draws < 1 or n_sequences < 1:
        raise ValueError(f"{n_draws} calibration draws of {n_sequences} sequences; a study needs at least one of each")
    return tuple(Draw(calibration, n_sequences, seq_len, first + draw) for draw in range(n_draws))
