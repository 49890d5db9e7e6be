"""Prune a checkpoint that is bigger than memory: block by block, from safetensors shards to safetensors shards.

The work is that of `labutils.prune`, and so is the result, bit for bit. In memory there are one block, its statistics
and the calibration's hidden states, which may go to a file instead. Every block becomes a shard of its own; after a
kill, what is done is read back to bring the hidden states to where the work goes on.
"""

import dataclasses
import logging
import time
from pathlib import Path

import pandas as pd
from torch import Tensor

from labutils.checkpoints.journal import FOLDER, BlockRecord, Journal, Plan, check_target, differences
from labutils.checkpoints.layout import Layout
from labutils.checkpoints.records import RECORD, read_identity, read_report, write_report
from labutils.checkpoints.shards import explain_failed_write, open_shards
from labutils.checkpoints.streamed import StreamedModel
from labutils.checkpoints.walk import StreamedWalk
from labutils.core import paths
from labutils.core.files import hash_json, hash_tree, without_paths
from labutils.core.progress import progress
from labutils.core.provenance import find_versions, hash_tensors, provenance
from labutils.models.gguf import find_gguf
from labutils.models.loading import choose_device
from labutils.pruning.blocks import prune_block, strategy_table
from labutils.pruning.calibration import Calibration, check_calibration
from labutils.pruning.dense_statistics import DenseStatistics, block_sizes
from labutils.pruning.matrices import MatrixMethod
from labutils.pruning.methods import Request
from labutils.pruning.report import PruneReport, make_report
from labutils.pruning.requests import AllocationName, Whole, check_widths, make_request
from labutils.pruning.scarcity import warn_if_scarce

LOGGER = logging.getLogger("labutils")


def prune_checkpoint(
    source: str | Path,
    target: str | Path,
    calibration: Calibration,
    *,
    method: str = "optiprune",
    sparsity: float,
    allocation: AllocationName = None,
    pattern: str = "unstructured",
    permute: bool = False,
    seed: Whole = 0,
    device: str = "auto",
    dtype: str = "auto",
    spill: bool = False,
    **options: object,
) -> PruneReport:
    """Prune a model from disk to disk; its weights are never in memory together.

    The model is the one that `load_model` loads, so of T5 the encoder is pruned; all else is copied as it is. Every
    file is read back and compared before it counts.

    The same call after a kill goes on with the block at which it was; on a finished target it returns the report.

    >>> lab.prune_checkpoint("downloads/Llama-3-8B", "pruned", tokens, method="sparsegpt", sparsity=0.5)
    >>> model = lab.load_pruned("pruned").model

    Args:
        source: folder in the Hugging Face format with safetensors weights, or the name of a lab model.
        target: new or empty folder; it becomes one that transformers and `load_pruned` can load.
        calibration, method, sparsity, allocation, pattern, permute, seed, **options: as for `prune`. Methods and
            allocations that look at all weights together, as `optiprune-auto` and `global`, are not supported.
        device: where blocks are computed; "auto" takes the GPU where there is one.
        dtype: in which they are computed and stored; "auto" computes in the checkpoint's, and keeps the dtype of every
            tensor as it is stored.
        spill: keep the calibration's hidden states in a file in the target folder instead of in memory.

    Raises:
        ValueError, LookupError: an argument that cannot be used; a missing, damaged or incomplete file; weights or
            activations that are not finite; a target that holds something else.
        OSError: the target cannot be written to, or is full.
            In all cases the blocks that are done are kept.
    """
    request = make_request(method, sparsity, allocation, pattern, permute, seed, options)
    _check_streamable(request)
    source, target = find_source(source), paths.expand(target)
    check_target(target)
    model = StreamedModel(open_shards(source), device=choose_device(device), dtype=dtype)
    inputs = check_calibration(calibration, model.model)
    if model.model.config.is_encoder_decoder and not hasattr(model.model, "decoder"):
        LOGGER.warning("prune_checkpoint: of %s the encoder is pruned; its decoder is copied as it is", source.name)
    identity = {
        "source": model.shards.fingerprint(), "calibration": hash_tensors(inputs), **request.record(),
        "config": hash_json(model.model.config.to_dict()), "dtype": model.dtype_in_words(), "device": model.device.type,
        **find_versions("torch", "transformers"),
        "labutils": [hash_tree(paths.PACKAGE / room, "*.py") for room in ("models", "pruning", "checkpoints")],
    }  # fmt: skip
    if (target / RECORD).exists() and not (target / FOLDER).exists():
        return _finished_report(target, identity)
    with Journal(target, identity) as journal:
        return _Run(model, inputs, request, journal, spill).complete()


class _Run:
    """One pruning from disk to disk, begun or resumed."""

    def __init__(
        self, model: StreamedModel, inputs: dict[str, Tensor], request: Request, journal: Journal, spill: bool
    ):
        self.model, self.inputs, self.request, self.journal = model, inputs, request, journal
        self.layout = Layout(model, journal.target, journal.folder)
        self.spill = journal.folder / "activations" if spill else None

    def complete(self) -> PruneReport:
        """Prune what is not pruned yet and make the target a model folder; returns the report on everything."""
        self.layout.check_room()
        plan, done = self._prune_blocks()
        self.layout.copy_others()
        report = self._report(plan, done)
        try:
            self.layout.finish()
            write_report(self.journal.target, report, self._origin(), identity=self.journal.identity)
        except OSError as error:
            raise explain_failed_write(self.journal.target / RECORD, error) from error
        self.journal.finish()
        return report

    def _prune_blocks(self) -> tuple[Plan, list[BlockRecord]]:
        plan, done, n_blocks = self.journal.plan(), self._done(), len(self.model.blocks)
        if len(done) == n_blocks:
            return plan, done
        walk = StreamedWalk(
            self.model, self.inputs, batch_size=self.request.options.batch_size, spill=self.spill, prove=plan is None
        )
        plan = plan or self._make_plan(walk)
        warn_if_scarce(walk, self._methods(plan), self.request)
        walk.rewind()
        sequential = self.request.options.sequential
        for index in progress(range(n_blocks), description=f"prune {self.request.method.name}", unit="block"):
            if index < len(done):
                if not sequential:
                    walk.advance(index)
                self.model.replace_file(index, self.layout.block_shard(index))
            else:
                done.append(self._prune_block(walk, index, plan))
            if sequential and index + 1 < n_blocks:
                walk.advance(index)
        return plan, done

    def _done(self) -> list[BlockRecord]:
        """The records of the blocks that are done, from the first on without a gap."""
        done: list[BlockRecord] = []
        for index in range(len(self.model.blocks)):
            record = self.journal.block(index, self.layout.block_shard(index))
            if record is None:
                break
            done.append(record)
        return done

    def _make_plan(self, walk: StreamedWalk) -> Plan:
        started = time.perf_counter()
        check_widths(walk, self.request.pattern)
        _, budgets = self.request.method.plan(DenseStatistics(walk), self.request)
        plan = Plan(budgets, time.perf_counter() - started)
        self.journal.write_plan(plan)
        return plan

    def _prune_block(self, walk: StreamedWalk, index: int, plan: Plan) -> BlockRecord:
        started = time.perf_counter()
        method = self._methods(plan)[index]
        rows, permutations = prune_block(walk, index, method, plan.budgets, self.request)
        self.layout.write_block(index)
        record = BlockRecord(rows, permutations, time.perf_counter() - started)
        self.journal.write_block(index, self.layout.block_shard(index), record)
        return record

    def _methods(self, plan: Plan) -> list[MatrixMethod]:
        """Of each block; the budgets tell them, so that the journal need not."""
        sizes = block_sizes(self.model.blocks)
        return self.request.method.block_methods(plan.budgets, sizes, self.request.sparsity)

    def _report(self, plan: Plan, done: list[BlockRecord]) -> PruneReport:
        rows = [row for record in done for row in record.rows]
        permutations = {name: order for record in done for name, order in record.permutations.items()}
        report = make_report(rows, strategy_table(self._methods(plan)), self.request, permutations)
        return dataclasses.replace(report, seconds=plan.seconds + sum(record.seconds for record in done))

    def _origin(self) -> pd.DataFrame:
        identity = self.journal.identity
        about = [
            ("source", without_paths(str(self.model.shards.folder))), ("source weights sha256", identity["source"]),
            ("calibration sha256", identity["calibration"]), ("computed on", identity["device"]),
        ]  # fmt: skip
        return pd.concat([provenance(), pd.DataFrame(about, columns=["item", "value"])], ignore_index=True)


def _check_streamable(request: Request) -> None:
    if request.options.output_target != "own":
        raise ValueError(
            f"output_target={request.options.output_target!r} carries the dense model's states beside the pruned "
            "one's, which a pruning from disk to disk does not. Leave it out, or prune in memory with `prune`."
        )
    for argument, asked in (("method", request.method), ("allocation", request.allocation)):
        if not asked.streamable:
            raise ValueError(
                f"{argument}={asked.name!r} looks at all weights or tokens beforehand, which a pruning from disk to "
                'disk cannot. Choose another one, for example method="optiprune", or prune the model in memory with '
                "`prune`."
            )


def find_source(source: str | Path) -> Path:
    """The folder of a model, given itself or by a lab model's name; a LookupError where there is none."""
    for candidate in (paths.expand(source), paths.MODELS / source):
        if (candidate / "config.json").exists():
            return candidate.resolve()
    if find_gguf(source) is not None:
        raise LookupError(
            f"{source} is a GGUF file, which is not pruned from disk to disk. Make a folder of it first: `load_model`, "
            'then `lab.checkpoints.save_dense(model, "dense")` and `tokenizer.save_pretrained("dense")`.'
        )
    raise LookupError(
        f"{source} is no folder with a config.json, and no lab model of that name exists. Give a local folder; a model "
        "of the hub is brought into one with `hf download <id> --local-dir <folder>`."
    )


def _finished_report(target: Path, identity: dict) -> PruneReport:
    if changed := differences(identity, read_identity(target)):
        raise ValueError(f"{target} holds another pruned model: {changed}. Choose another folder, or remove it.")
    return read_report(target)
