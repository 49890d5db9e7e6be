"""The checks that one class of transformers has to pass, or to be refused by clearly, with nothing changed."""

import re
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import torch
from conformance.attempts import Wrong, attempt, attempt_only, one_line, require
from conformance.plain_passes import plain_output, plain_reads
from conformance.tiny_configs import FIRST_SPECIAL, NotBuilt, reads_token_ids, tiny_model
from torch import Tensor, nn
from transformers import PreTrainedModel

import labutils as lab
from labutils.checkpoints import save_dense
from labutils.models import find_blocks, prunable_layers, weight_matrix
from labutils.models.experts import find_routers
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.report import PruneReport

BATCH = 2
IDS = torch.randint(3, FIRST_SPECIAL, (4, 12), generator=torch.Generator().manual_seed(1))


@dataclass
class Row:
    """What was found of one class.

    Attributes:
        outcome: right, refused, wrong, or not built.
        reason: of a refusal, of a failure, or why it could not be built.
        reads_tokens: whether its forward pass names `input_ids`; `forward` is the error of a pass of token ids alone.
        matrices: how many are pruned; `layers_checked` of them were compared with what hooks see.
        experts: how many slices of fused experts were compared, of how many there are; empty without any.
        dense: linear layers inside the stacks that read tokens and stay dense, numbers as `*`.
        disk: equal, or why pruning from disk to disk was refused.
        origin: which transformers and which labutils it was found with.
    """

    name: str
    mappings: str
    outcome: str = "right"
    reason: str = ""
    reads_tokens: bool = True
    forward: str = ""
    matrices: int = 0
    share: float = 0.0
    experts: str = ""
    dense: list[str] = field(default_factory=list)
    disk: str = ""
    seconds: float = 0.0
    origin: str = ""


def check_class(name: str, model_class: type, config_classes: list[type], mappings: str, folder: Path) -> Row:
    """Build a tiny model of a class and try everything on it."""
    started, row = time.perf_counter(), Row(name, mappings)
    try:
        built = tiny_model(model_class, config_classes, IDS)
    except NotBuilt as error:
        row.outcome, row.reason = "not built", one_line(error)
        return row
    row.reads_tokens, row.forward = reads_token_ids(built.model), one_line(built.failure or "")
    try:
        _check_model(built.model, row, folder)
    except Wrong as error:
        row.outcome, row.reason = "wrong", one_line(error)
    except Exception as error:  # of a forward pass, or of a check itself
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        row.outcome, row.reason = "wrong", one_line(f"{type(error).__name__} at {where}: {error}")
    row.seconds = round(time.perf_counter() - started, 2)
    return row


def _check_model(model: PreTrainedModel, row: Row, folder: Path) -> None:
    dense = snapshot(model)
    report = attempt("prune", lambda: lab.prune(model, IDS, method="wanda", sparsity=0.5, batch_size=BATCH))
    if isinstance(report, str):
        row.outcome, row.reason = "refused", report
        require_same(dense, model, "refused, and yet changed")
        check_refused_on_disk(model, row, folder)
        return
    if row.forward:
        raise Wrong(f"pruned, although a plain forward pass fails: {row.forward}")
    pruned = snapshot(model)
    row.matrices = len(report.layers)
    check_zeros(model, report)
    check_nothing_else_changed(model, dense)
    restore(model, dense)
    check_statistics(model, row)
    restore(model, dense)
    check_reconstruction(model, folder)
    restore(model, dense)
    check_disk(model, pruned, row, folder)


def check_zeros(model: PreTrainedModel, report: PruneReport) -> None:
    """Half of the entries of every block matrix are zero, and the report says so.

    A reconstruction may set more to zero, in columns whose input is zero on all tokens.
    """
    found, told = matrices(model), report.layers.set_index("name")
    require(found.keys() == set(told.index), "the report does not name the model's matrices")
    counts = {name: (int((matrix == 0).sum()), matrix.numel()) for name, matrix in found.items()}
    for name, (zeros, size) in counts.items():
        dead = told.loc[name, "dead_columns"] * told.loc[name, "rows"]
        require(-1 <= zeros - 0.5 * size <= 1 + dead, f"{zeros} of {size} entries of {name} are zero")
    share = sum(zeros for zeros, _ in counts.values()) / sum(size for _, size in counts.values())
    require(abs(share - report.sparsity) < 1e-6, f"the report says {report.sparsity:.4f} zeros, there are {share:.4f}")


def check_nothing_else_changed(model: PreTrainedModel, dense: dict[str, Tensor]) -> None:
    inside = {matrix.untyped_storage().data_ptr() for matrix in matrices(model).values()}
    for name, tensor in model.state_dict().items():
        if tensor.untyped_storage().data_ptr() not in inside:
            require(torch.equal(tensor, dense[name]), f"{name} is no matrix of a block, and yet it has changed")


def check_statistics(model: PreTrainedModel, row: Row) -> None:
    """The walk's statistics are those of plain passes, of the dense model and behind blocks that have changed."""
    batches = list(IDS.split(BATCH))
    walk = BlockWalk(model, IDS, batch_size=BATCH)
    slices = {name: matrix for name, matrix in stored_matrices(model).items() if "[" in name}
    reads = plain_reads(model, batches, slices)
    row.dense, row.share = what_stays_dense(model, reads)
    row.experts = f"{len(slices.keys() & reads.keys())} of {len(slices)}" if slices else ""
    for index in range(len(walk.blocks)):
        compare(walk, index, walk.collect_and_advance(index, hessian=True), reads, "dense")
    walk.rewind()
    for index, block in enumerate(walk.blocks):
        if index:
            reads = plain_reads(model, batches, slices)
        compare(walk, index, walk.collect(index, hessian=True), reads, "behind changed blocks")
        generator = torch.Generator().manual_seed(index)
        for layer in prunable_layers(block).values():
            weight = weight_matrix(layer)
            weight.mul_(torch.rand(weight.shape, generator=generator) < 0.7)
        if index + 1 < len(walk.blocks):
            walk.advance(index)


def compare(walk: BlockWalk, index: int, found: dict, reads: dict, what: str) -> None:
    for name, own in found.items():
        full = f"{walk.prefix}.{index}.{name}"
        if full not in reads:
            require("[" in name, f"{full}: no plain pass reads it")
            continue
        expected = reads[full]
        require(
            own.n_tokens == expected.n_tokens,
            f"{full} ({what}): {own.n_tokens} tokens, in a plain pass {expected.n_tokens} in {expected.n_calls} calls",
        )
        if expected.n_tokens:
            hessian = expected.gram * 2 / len(IDS)
            off = float((own.hessian.double() - hessian).abs().max() / hessian.abs().max().clamp_min(1e-12))
            require(off < 2e-3, f"{full} ({what}): the Hessian is off by {off:.1%}")


def what_stays_dense(model: PreTrainedModel, reads: dict) -> tuple[list[str], float]:
    """Linear layers in stacks that read tokens and are not pruned, and the share of such weights that are."""
    pruned = matrices(model)
    prefix, blocks = find_blocks(model)
    routers = {id(router) for block in blocks for router in find_routers(block)}
    left: dict[str, int] = {}
    for name, module in model.named_modules():
        stacked = any(part.isdigit() for part in name.split("."))
        if stacked and name in reads and reads[name].n_tokens and name not in pruned and id(module) not in routers:
            left[name] = module.weight.numel()
    size = sum(matrix.numel() for matrix in pruned.values())
    return sorted({re.sub(r"\.\d+", ".*", name) for name in left}), round(size / (size + sum(left.values())), 3)


def check_reconstruction(model: PreTrainedModel, folder: Path) -> None:
    """SparseGPT gives finite weights, and both forms of the saved model load back as they were."""
    report = lab.prune(model, IDS, method="sparsegpt", sparsity=0.5, batch_size=BATCH)
    require(all(tensor.isfinite().all() for tensor in matrices(model).values()), "sparsegpt: weights are not finite")
    check_zeros(model, report)
    expected, state = plain_output(model, IDS), snapshot(model)
    for compact in (False, True):
        form = "compact" if compact else "dense"
        saved = folder / form
        attempt_only(f"save {form}", lambda: lab.save_pruned(model, saved, report, compact=compact))  # noqa: B023
        loaded = attempt_only(f"load {form}", lambda: lab.load_pruned(saved)).model  # noqa: B023
        require(type(loaded) is type(model), f"{form}: loaded as {type(loaded).__name__}")
        require_same(state, loaded, form)
        off = float((plain_output(loaded, IDS) - expected).abs().max() / expected.abs().max())
        require(off < 1e-5, f"{form}: the loaded model's output is off by {off:.1%}")


def check_disk(model: PreTrainedModel, pruned: dict[str, Tensor], row: Row, folder: Path) -> None:
    """Pruning from disk to disk gives the weights that pruning in memory gave, or is refused before it begins."""
    source, target = save_dense(model, folder / "source"), folder / "target"
    done = attempt(
        "prune_checkpoint",
        lambda: lab.prune_checkpoint(source, target, IDS, method="wanda", sparsity=0.5, batch_size=BATCH),
    )
    if isinstance(done, str):
        row.disk = done
        require(not target.exists(), "disk to disk: refused, and something is left")
        return
    loaded = attempt_only("load from disk to disk", lambda: lab.load_pruned(target)).model
    require(type(loaded) is type(model), f"disk to disk: loaded as {type(loaded).__name__}")
    require_same(pruned, loaded, "disk to disk")
    row.disk = "equal"


def check_refused_on_disk(model: PreTrainedModel, row: Row, folder: Path) -> None:
    """What is refused in memory is refused from disk to disk, and nothing of it is left."""
    if not row.reads_tokens or not isinstance(attempt("save", lambda: save_dense(model, folder / "source")), Path):
        return
    done = attempt(
        "prune_checkpoint",
        lambda: lab.prune_checkpoint(folder / "source", folder / "target", IDS, method="wanda", sparsity=0.5),
    )
    if not isinstance(done, str):
        loaded = type(attempt_only("load from disk to disk", lambda: lab.load_pruned(folder / "target")).model)
        told = f"refused in memory ({row.reason[:80]}), and yet pruned from disk to disk"
        require(loaded is not type(model) and "encoder and a decoder" in row.reason, told)
        row.disk = f"{loaded.__name__}, which `load_model` makes of it, is pruned"
        return
    require(not (folder / "target").exists(), "disk to disk: refused, and something is left")
    row.disk = done


def matrices(model: PreTrainedModel) -> dict[str, Tensor]:
    """Every prunable matrix (out × in), by its name in the model."""
    return {name: weight_matrix(layer) for name, layer in named_layers(model).items()}


def stored_matrices(model: PreTrainedModel) -> dict[str, Tensor]:
    """As `matrices`, the way they are stored."""
    return {name: layer.weight.data for name, layer in named_layers(model).items()}


def named_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    prefix, blocks = find_blocks(model)
    return {
        f"{prefix}.{index}.{name}": layer
        for index, block in enumerate(blocks)
        for name, layer in prunable_layers(block).items()
    }


def snapshot(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def restore(model: PreTrainedModel, state: dict[str, Tensor]) -> None:
    model.load_state_dict(state)


def require_same(state: dict[str, Tensor], model: PreTrainedModel, what: str) -> None:
    """The model's state is the given one, to the last bit."""
    other = model.state_dict()
    odd = sorted(state.keys() ^ other.keys())
    require(not odd, f"{what}: {len(odd)} names differ, such as {odd[:1]}")
    found = [name for name, tensor in state.items() if not torch.equal(tensor, other[name])]
    require(not found, f"{what}: {len(found)} tensors differ, such as {found[:1]}")
