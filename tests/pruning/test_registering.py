"""A score, a method and an allocation from outside: pruned, swept, streamed and forecast as those of the package."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from joblib import Parallel, delayed
from torch import nn

import labutils as lab
from labutils.pruning import Allocation, MatrixMethod, Method, list_methods, matrix_method, temporary_registrations
from labutils.pruning.allocations import DenseModel
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.matrices import SparseGPT
from labutils.pruning.methods import METHODS, Request
from labutils.pruning.requests import with_registrations


class LastInputs(MatrixMethod):
    """Drops the last inputs of every row, whatever the weights."""

    name = "last-inputs"
    reads_inputs = False

    def scores(self, weight: torch.Tensor, statistics: object, factor: object) -> torch.Tensor:
        return -torch.arange(weight.numel(), dtype=torch.float32).reshape(weight.T.shape).T

    def prune(self, weight: torch.Tensor, statistics: object, *, n_drop: int, **unused: object) -> tuple:
        mask = self.scores(weight, statistics, None) > n_drop - weight.numel()
        return weight * mask, mask


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with temporary_registrations():
        lab.register_score("squares", "row")(lambda weight, norms: weight**2 * norms)

        @lab.register_method("solving-end")
        @dataclass(frozen=True)
        class SolvingEnd(Method):
            """SparseGPT in the last blocks, the given score in the others."""

            n_solved: int = 1
            score: str = "squares"

            def matrix_method(self, sparsity: float) -> MatrixMethod:
                return SparseGPT()

            def block_methods(self, budgets: dict, sizes: torch.Tensor, sparsity: float) -> list[MatrixMethod]:
                methods = super().block_methods(budgets, sizes, sparsity)
                first = len(methods) - self.n_solved
                return [matrix_method(self.score)] * first + methods[first:]

        @lab.register_method("last-inputs")
        class Last(Method):
            def matrix_method(self, sparsity: float) -> MatrixMethod:
                return LastInputs()

        @lab.register_allocation("tapered")
        @dataclass(frozen=True)
        class Tapered(Allocation):
            """The last block denser, the others alike."""

            taper: float = 0.1

            def reads_inputs(self, sparsity: float) -> bool:
                return True

            def sparsities(self, dense: DenseModel) -> torch.Tensor:
                assert all(norms for norms in dense.statistics.norms)
                raw = torch.full_like(dense.sizes, dense.sparsity)
                raw[-1] -= self.taper
                return lab.pruning.project_to_budget(raw, dense.sizes, dense.sparsity)

        yield


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 64, (4, 12), generator=torch.Generator().manual_seed(0))


ASKED = {"method": "solving-end", "allocation": "tapered", "sparsity": 0.5, "taper": 0.3, "n_solved": 2}


def test_pruned(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    report = lab.prune(tiny_llama, tokens, **ASKED)
    assert report.strategy["method"].tolist() == ["squares", "sparsegpt", "sparsegpt"]
    assert report.block_sparsity.tolist() == pytest.approx([0.6, 0.6, 0.3], abs=1e-2)
    assert {"taper": 0.3, "n_solved": 2, "score": "squares"}.items() <= report.options.items()
    with pytest.raises(ValueError, match="taper is an option of allocation 'tapered'"):
        lab.prune(tiny_llama, tokens, method="solving-end", sparsity=0.5, taper=0.1)


def test_a_matrix_method_of_ones_own(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    lab.prune(tiny_llama, tokens, method="last-inputs", sparsity=0.5)
    weight = tiny_llama.model.layers[0].self_attn.q_proj.weight
    assert (weight[:, :8] != 0).all() and (weight[:, 8:] == 0).all()


def test_in_a_grid(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    rows = list(
        lab.prune_grid(
            tiny_llama, tokens, methods=["solving-end", "squares+obs", "last-inputs"], sparsities=[0.3, 0.5],
            allocations=[None, "tapered"], taper=0.2, evaluate=lambda pruned: {},
        )
    )  # fmt: skip
    assert [row["allocation"] for row in rows] == ["uniform"] * 2 + ["tapered"] * 2 + (
        ["uniform"] * 2 + ["tapered"] * 2
    ) * 2
    assert all(row["reached"] == pytest.approx(row["sparsity"], abs=1e-3) for row in rows)


def test_swept() -> None:
    rows = lab.sweep(
        "lab-gpt2", ["lab:review"], arms=["wanda", "solving-end/tapered"], sparsities=[0.5], n_draws=1, taper=0.2,
        n_solved=2, sizes=lab.sweeps.SweepSizes(n_calibration=2, n_items=2, seq_len=16),
    )  # fmt: skip
    assert set(rows["arm"]) == {"dense", "wanda", "solving-end/tapered"}


def test_known_to_worker_processes() -> None:
    assert "squares" in Parallel(n_jobs=2)([delayed(with_registrations(list_methods))()] * 2)[1]["name"].tolist()


def test_streamed(tiny_llama: nn.Module, tokens: torch.Tensor, tmp_path: Path) -> None:
    tiny_llama.save_pretrained(tmp_path / "dense")
    streamed = lab.prune_checkpoint(tmp_path / "dense", tmp_path / "pruned", tokens, device="cpu", **ASKED)
    report = lab.prune(tiny_llama, tokens, **ASKED)
    assert streamed.strategy.equals(report.strategy)
    loaded = lab.load_pruned(tmp_path / "pruned").model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tiny_llama.state_dict().items())


def test_forecast(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    found = lab.forecast(tiny_llama, tokens, **ASKED)
    assert found.stages["stage"].tolist() == ["allocate", "collect", "factorise", "prune", "advance"]
    assert found.memory == lab.forecast(tiny_llama, tokens, method="sparsegpt", sparsity=0.5, allocation="owl").memory


def test_listed_and_named_in_messages(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    table = list_methods().set_index(["kind", "name"])
    assert table.loc[("method", "solving-end"), "options"] == "n_solved, score"
    assert table.loc[("allocation", "tapered"), "what"] == "The last block denser, the others alike."
    assert ("score", "squares") in table.index
    for asked in ({"method": "solving-ent"}, {"method": "squares+ops"}, {"allocation": "tappered"}):
        with pytest.raises(LookupError, match=r"Did you mean '(solving-end|squares\+obs|tapered)'"):
            lab.prune(tiny_llama, tokens, **{"method": "wanda", "sparsity": 0.5, **asked})


def test_a_method_that_fits_its_options_to_the_tokens_is_not_streamed() -> None:
    class Fitted(Method):
        def fit_to(self, walk: BlockWalk, request: Request) -> Request:
            return request

    with pytest.raises(ValueError, match="'fitted' has `fit_to`.*must say streamable = False"):
        lab.register_method("fitted")(Fitted)
    assert "fitted" not in METHODS


def test_names_are_taken_once() -> None:
    for register in (lab.register_method, lab.register_allocation):
        with pytest.raises(ValueError, match="already"):
            register("optiprune")
    with pytest.raises(ValueError, match="already"):
        lab.register_method("ria")
