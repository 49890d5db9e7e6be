"""The stages of a pruning, and what each takes: arithmetic on shapes, and on the rates of a machine."""

from dataclasses import dataclass

import pandas as pd
import torch
from transformers import PreTrainedModel

from labutils.forecasting.probe import Speed, measure_pruning, measure_speed, update_operations
from labutils.forecasting.trace import BlockCosts
from labutils.progress import clock
from labutils.pruning.matrices import MatrixMethod, matrix_method
from labutils.pruning.options import PruneOptions
from labutils.pruning.report import Request
from labutils.pruning.selection import METHOD, PROBE_COST, READ_TOKENS
from labutils.pruning.statistics import SAMPLE_TOKENS
from labutils.pruning.symmetric import strip_width

FLOAT = 4  # bytes of the float32 in which statistics are kept
FACTOR_COPIES = 4  # of a Hessian while it is factorised: damped, its factor, the inverse, the inverse's factor
UPDATE_COPIES = 3.25  # of a matrix in float32 while it is updated: columns, result, what leaves a block, and masks
SCORE_COPIES = 3  # of a matrix in float32 while it is scored and cut


@dataclass(frozen=True)
class Forecast:
    """What a call of `prune` will take.

    Attributes:
        seconds: of the whole pruning.
        memory: peak bytes, the model included.
        stages: one row per stage: how many seconds all of it takes, and the bytes alive at its peak.
        parts: bytes of what is alive throughout or at the peak, by name.
        streamed: what `prune_checkpoint` would take: one block, its statistics, and the hidden states once.
    """

    seconds: float
    memory: int
    stages: pd.DataFrame
    parts: dict[str, int]
    streamed: int

    def __str__(self) -> str:
        model = gigabytes(self.parts["model"])
        return f"about {clock(self.seconds)} and {gigabytes(self.memory)}, of which {model} for the model"


@dataclass(frozen=True)
class Plan:
    """The stages of one pruning, with all that their costs depend on."""

    costs: BlockCosts
    n_blocks: int
    n_batches: float
    n_tokens: int
    request: Request
    dtype: torch.dtype

    @property
    def options(self) -> PruneOptions:
        return self.request.options

    @property
    def method(self) -> MatrixMethod:
        """What prunes the matrices."""
        name = self.request.method
        if name == "optiprune":
            name = self.options.below if self.request.sparsity < self.options.threshold else self.options.above
        return matrix_method(METHOD if name == "optiprune-auto" else name)

    @property
    def reads_dense_model(self) -> bool:
        """Whether the allocation needs a pass over the dense model."""
        if self.request.pattern != "unstructured":
            return False
        name = self.request.allocation
        if name is None and self.request.method in ("optiprune", "optiprune-auto"):
            name = "optiprune" if self.request.method == "optiprune" else "owl"
        if name == "optiprune":
            return self.request.sparsity > self.options.deviation_low
        return name in ("owl", "dlp", "global")

    @property
    def n_walks(self) -> int:
        """How often all blocks are pruned: `optiprune-auto` carries out two finalists, or one without a choice."""
        return 2 if self.measures else 1

    @property
    def measures(self) -> bool:
        request = self.request
        free = request.pattern == "unstructured" and request.allocation is None and request.sparsity > 0
        return request.method == "optiprune-auto" and free

    def forecast(self, model: PreTrainedModel, device: torch.device) -> Forecast:
        weights = sum(parameter.nbytes for parameter in model.parameters())
        n_copies = 4 if self.measures else 1  # before, before the finalists, and the present and the best of these
        copies = self.costs.weights * self.n_blocks * self.dtype.itemsize * n_copies
        inputs = self.costs.hidden * self.n_batches
        calls = int(self.costs.captured * self.n_batches)
        speed = measure_speed(device, self.dtype)
        passed = int(self.costs.hidden * self.n_batches * min(2, self.n_blocks - 1))  # present, and first ones
        statistics, factors = self._statistics(), self._factors()
        rows = [
            ("allocate", self._allocate_seconds(speed), passed + self.costs.peak + self._norms() + int(inputs)),
            ("collect", self._collect_seconds(speed), passed + max(self.costs.peak + statistics, self._closing())),
            ("factorise", self._factor_seconds(speed), passed + statistics + factors + self._largest() * FACTOR_COPIES),
            ("prune", self._prune_seconds(speed, device), passed + statistics + factors + self._largest_matrix()),
            ("advance", self._run_seconds(speed) * (self.n_blocks - 1) * self.n_walks,
             passed + int(inputs) + self.costs.peak),
        ]  # fmt: skip
        if not self.reads_dense_model:
            rows = rows[1:]
        if self.measures:
            rows.append(("measure", *self._measure(model, speed, passed)))
        stages = pd.DataFrame(rows, columns=["stage", "seconds", "bytes"])
        kept = self.costs.peak if device.type == "cpu" else 0
        stages["bytes"] += weights + copies + calls + kept
        begin = self._begin_seconds(model, speed, weights, copies)
        parts = {"model": weights, "weights put back after a failure": copies, "hidden states": passed + int(inputs),
                 "statistics": statistics + factors, "one batch in a block": self.costs.peak,
                 "gaps": kept}  # fmt: skip
        block = self.costs.weights * self.dtype.itemsize
        outside = weights - block * self.n_blocks
        working = max(self.costs.peak + statistics, self._closing(), statistics + factors + self._largest_matrix())
        streamed = kept + int(inputs) + calls + max(block + working, outside)
        seconds = float(stages["seconds"].sum() + begin)
        return Forecast(seconds, int(stages["bytes"].max()), stages, parts, streamed)

    # ---- time, in seconds over all blocks -----------------------------------------------------------------------

    def _begin_seconds(self, model: PreTrainedModel, speed: Speed, weights: int, copies: int) -> float:
        """Weights are checked and copied; the first block runs on the first batch, and sequences are embedded."""
        embedded = 2 * self.costs.hidden * self.n_batches
        return speed.traffic * (2 * weights + 2 * copies + embedded) + self._run_seconds(speed) / self.n_batches

    def _run_seconds(self, speed: Speed) -> float:
        """One block over all batches."""
        costs = self.costs
        once = speed.product * costs.products + speed.attention * costs.attention + speed.traffic * costs.traffic
        return self.n_batches * (once + speed.operation * costs.operations)

    def _statistics_seconds(self, speed: Speed, hessian: bool) -> float:
        """Sums over the inputs of one block."""
        seconds = 0.0
        for width, share in self.costs.inputs.values():
            tokens = self.n_tokens * share
            if hessian:
                seconds += speed.product * tokens * symmetric_operations(width)
            else:
                seconds += speed.norms * tokens * width
        return seconds

    def _collect_seconds(self, speed: Speed) -> float:
        """A block runs up to its last matrix, which most often need not be multiplied by."""
        last = self.costs.matrices[-1]
        spared = 0 if last.share < 1 else speed.product * 2 * self.n_tokens * last.rows * last.columns
        once = self._run_seconds(speed) - spared + self._statistics_seconds(speed, self.method.needs_hessian)
        return once * self.n_blocks * self.n_walks

    def _allocate_seconds(self, speed: Speed) -> float:
        """One pass over the dense model, and its scores."""
        if not self.reads_dense_model:
            return 0.0
        hessian = self.request.allocation == "global" and self.method.needs_hessian
        scores = speed.traffic * 6 * FLOAT * self.costs.weights
        factors = self._factor_seconds(speed) / self.n_walks if hessian else 0.0
        return self.n_blocks * (self._run_seconds(speed) + self._statistics_seconds(speed, hessian) + scores) + factors

    def _factor_seconds(self, speed: Speed) -> float:
        if not self.method.needs_hessian:
            return 0.0
        return speed.factor * sum(width**3 for width, _ in self.costs.inputs.values()) * self.n_blocks * self.n_walks

    def _prune_seconds(self, speed: Speed, device: torch.device) -> float:
        own, seconds = measure_pruning(self.method.name, device, self.options.group), 0.0
        for rows, columns in ((matrix.rows, matrix.columns) for matrix in self.costs.matrices):
            seconds += own.column * columns + own.weight * rows * columns
            seconds += speed.product * self._matrix_operations(rows, columns)
        return seconds * self.n_blocks * self.n_walks

    def _matrix_operations(self, rows: int, columns: int) -> int:
        """Products in the update of a matrix and in its output error."""
        sampled = 2 * columns * min(SAMPLE_TOKENS, self.n_tokens)
        error = 2 * rows * (symmetric_operations(columns) if self.method.needs_hessian else sampled)
        return update_operations(self.method, rows, columns) + error

    def _measure(self, model: PreTrainedModel, speed: Speed, passed: int) -> tuple[float, int]:
        """Of `optiprune-auto`: seconds and bytes of reading the model's output, on probes and after each finalist."""
        head = model.get_output_embeddings()
        width = self.costs.hidden * self.n_batches / self.n_tokens / self.dtype.itemsize
        read, vocabulary = min(READ_TOKENS, self.n_tokens), 0 if head is None else head.weight.shape[0]
        length = self.n_tokens / self.n_batches / self.options.batch_size
        probed = 2 * max(PROBE_COST * self.n_tokens, self.n_blocks * length)
        outputs = probed + (1 + self.n_walks) * read
        per_output = speed.product * 2 * width * vocabulary + speed.traffic * 10 * FLOAT * max(vocabulary, width)
        blocks = self._run_seconds(speed) * self.n_blocks * (probed / 2 + read) / self.n_tokens
        return blocks + outputs * per_output, passed + int(4 * FLOAT * read * max(vocabulary, width)) + self.costs.peak

    # ---- memory, in bytes ------------------------------------------------------------------------------------------

    def _widths(self) -> list[int]:
        return [width for width, _ in self.costs.inputs.values()]

    def _largest(self) -> int:
        """Of the block's Hessians; 0 without."""
        return max(self._widths()) ** 2 * FLOAT if self.method.needs_hessian else 0

    def _statistics(self) -> int:
        samples = sum(self._widths()) * min(SAMPLE_TOKENS, self.n_tokens) * FLOAT
        return samples + (sum(width**2 for width in self._widths()) * FLOAT if self.method.needs_hessian else 0)

    def _closing(self) -> int:
        """When a block's sums become its statistics: both, and copies of the largest."""
        return 2 * self._statistics() + 2 * self._largest() if self.method.needs_hessian else self._statistics()

    def _factors(self) -> int:
        return sum(width**2 for width in self._widths()) * FLOAT if self.method.needs_hessian else 0

    def _norms(self) -> int:
        return sum(self._widths()) * self.n_blocks * FLOAT

    def _largest_matrix(self) -> int:
        copies = UPDATE_COPIES if self.method.update else SCORE_COPIES
        return int(max(matrix.rows * matrix.columns for matrix in self.costs.matrices) * FLOAT * copies)


def symmetric_operations(width: int) -> int:
    """Of one row with a symmetric matrix of this width, on and below the diagonal, strip by strip."""
    return width * (width + min(strip_width(width), width))


def gigabytes(count: int) -> str:
    """A number of bytes for reading, in decimal units."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
