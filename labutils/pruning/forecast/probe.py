"""How fast this machine is: a few short measurements, made once per process and device.

Nothing here is a constant of some machine. Rates are those of the kinds of work that pruning consists of: products of
matrices, fused attention, passing memory, solving with a Hessian, and choosing weights.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from labutils.pruning.matrices import MatrixMethod, prune_matrix
from labutils.pruning.patterns import count_zeros
from labutils.pruning.reconstruction import factor_hessian
from labutils.pruning.statistics import Statistics

REPEATS = 6  # the first one is not counted
WIDTH = 512
ROW_BY_ROW = 8  # operations per row and squared width, from which on a method counts as such
SLOW_ROWS = 1000  # the same, from which on a handful of rows takes long enough to be measured


@dataclass(frozen=True)
class Speed:
    """Seconds per unit of work.

    Attributes:
        product: per floating-point operation of a matrix product.
        attention: per floating-point operation of fused attention.
        traffic: per byte read or written by elementwise work.
        norms: per value of the inputs whose norms are taken over the tokens.
        operation: per call of torch, however small.
        factor: per width³ of a Hessian that is factorised.
    """

    product: float
    attention: float
    traffic: float
    norms: float
    operation: float
    factor: float


@dataclass(frozen=True)
class PruningSpeed:
    """Seconds of pruning a matrix: per column, however many rows it has, and per weight."""

    column: float
    weight: float


@cache
def measure_speed(device: torch.device, dtype: torch.dtype) -> Speed:
    """Rates of this process, with the threads it has; takes a fraction of a second on the first call."""
    tokens, weight = _tokens_and_weight(device, dtype)
    heads = torch.randn(8, 8, 256, 64, device=device, dtype=dtype)
    small, hessian = tokens[:2, :2].contiguous(), _hessian(device)
    attend = torch.nn.functional.scaled_dot_product_attention
    inner = tokens @ weight.T
    return Speed(
        product=measure_product(device, dtype),
        attention=_seconds(lambda: attend(heads, heads, heads, is_causal=True), device) / (2 * heads.numel() * 256),
        traffic=_seconds(lambda: inner * inner, device) / (3 * inner.nbytes),
        norms=_seconds(lambda: torch.linalg.vector_norm(tokens.float(), dim=0), device) / tokens.numel(),
        operation=_seconds(lambda: [small.mul(small) for _ in range(100)], device) / 100,
        factor=_seconds(lambda: factor_hessian(hessian), device) / WIDTH**3,
    )


@cache
def measure_product(device: torch.device, dtype: torch.dtype) -> float:
    """Seconds per floating-point operation of a matrix product; takes some milliseconds on the first call."""
    tokens, weight = _tokens_and_weight(device, dtype)
    return _seconds(lambda: tokens @ weight.T, device) / (2 * len(tokens) * weight.numel())


@cache
def measure_pruning(method: MatrixMethod, device: torch.device, group: str | None) -> PruningSpeed:
    """Of choosing and pruning by a method, apart from the products, which grow with the width.

    A matrix of many rows and one of few tell apart what grows with the weights and what grows with the columns.
    """
    hessian = _hessian(device)
    sums = torch.zeros(WIDTH, device=device)
    own = Statistics(hessian if method.needs_hessian else None, hessian.diagonal().sqrt(), hessian[:8], 8, sums)
    factor = factor_hessian(hessian.to(method.precision)) if method.needs_factor else None

    def prune(weight: Tensor) -> None:
        gradient = torch.stack([weight.abs()] * 3) if method.gradients == "mixture" else weight.abs()
        known = replace(own, gradient=gradient) if method.gradients else own
        result = prune_matrix(weight, known, method, n_drop=weight.numel() // 2, factor=factor, group=group)
        weight.clone().copy_(result.weight)
        count_zeros(result.weight)

    def seconds(rows: int) -> float:
        weight = torch.randn(rows, WIDTH, device=device)
        whole = _seconds(lambda: prune(weight), device)
        return whole - method.operations(rows, WIDTH) * measure_speed(device, torch.float32).product

    # Where every row is solved or searched by itself, few rows tell as much, and the probe stays short.
    operations = method.operations(1, WIDTH) / WIDTH**2
    fewest, most = (WIDTH // 64, WIDTH // 8) if operations > ROW_BY_ROW else (WIDTH // 8, 2 * WIDTH)
    if operations > SLOW_ROWS:
        fewest, most = 1, 4
    few, many = seconds(fewest), seconds(most)
    per_weight = max(many - few, 0.0) / (most - fewest) / WIDTH
    return PruningSpeed(max(few / WIDTH - per_weight * fewest, 0.0), per_weight)


def _tokens_and_weight(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    tokens = torch.randn(4 * WIDTH, WIDTH, device=device, dtype=dtype)
    return tokens, torch.randn(2 * WIDTH, WIDTH, device=device, dtype=dtype)


def _hessian(device: torch.device) -> Tensor:
    inputs = torch.randn(2 * WIDTH, WIDTH, device=device)
    return inputs.T @ inputs


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    return min(statistics.median(times) for times in clocked(work, device, repeats=REPEATS))


def clocked(work: Callable[[], object], device: torch.device, *, repeats: int) -> list[list[float]]:
    """Seconds of some runs after a first one; on a CPU by the clock of this thread, also with one thread alone.

        fastest = min(min(times) for times in clocked(work, device, repeats=3))

    That clock stands while other programs are let in. But it goes on while this thread waits for the others of its own
    process, which may be kept off their cores: on a crowded machine several threads look slower than one, which they
    are not on a machine that does nothing else. So the smaller of the two is to be believed.

    Returns:
        the seconds with the threads that torch has, and on a CPU with several of them those with one.
    """
    found = [_times(work, device, repeats)]
    threads = torch.get_num_threads()
    if device.type == "cpu" and threads > 1:
        torch.set_num_threads(1)
        try:
            found.append(_times(work, device, repeats))
        finally:
            torch.set_num_threads(threads)
    return found


def _times(work: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    clock, times = time.thread_time if device.type == "cpu" else time.perf_counter, []
    for _ in range(repeats):
        started = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - started)
    return times[1:]
