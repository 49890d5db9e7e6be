"""Importance scores against float64 loops, on random and on degenerate matrices."""

import numpy as np
import pytest
import references
import torch

from labutils.pruning.importance import SCORES, magnitude_score, relative_importance_score, wanda_score

SHAPES = [(5, 7), (7, 5), (1, 6), (6, 1), (1, 1)]


def random_case(rows: int, columns: int, dtype: torch.dtype, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator, dtype=dtype)
    return weight, torch.rand(columns, generator=generator, dtype=dtype) * 3 + 0.1


def degenerate_cases() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    cases = {}
    for name in ("zero row", "zero column", "dead input", "zero row and column", "one large entry"):
        cases[name] = random_case(4, 6, torch.float64, seed=len(name))
    cases["zero row"][0][2] = 0
    cases["zero column"][0][:, 3] = 0
    cases["dead input"][1][1] = 0
    cases["zero row and column"][0][0], cases["zero row and column"][0][:, 5] = 0, 0
    cases["one large entry"][0][1, 1] = 1e12
    cases["all equal"] = torch.full((4, 6), -0.5, dtype=torch.float64), torch.full((6,), 2.0, dtype=torch.float64)
    cases["all zero"] = torch.zeros(4, 6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    return cases


DEGENERATE = degenerate_cases()


def assert_same(score: torch.Tensor, expected: np.ndarray, weight: torch.Tensor) -> None:
    tolerance = 1e-5 if weight.dtype == torch.float32 else 1e-12
    assert score.shape == weight.shape and score.dtype == weight.dtype
    assert torch.isfinite(score).all()
    np.testing.assert_allclose(references.float64(score), expected, rtol=tolerance, atol=0)


def check_all_scores(weight: torch.Tensor, norms: torch.Tensor) -> None:
    before = weight.clone(), norms.clone()
    w, x = references.float64(weight), references.float64(norms)
    assert_same(magnitude_score(weight), references.magnitude(w), weight)
    assert_same(wanda_score(weight, norms), references.wanda(w, x), weight)
    for exponent in (0.0, 0.5, 1.0):
        expected = references.relative_importance(w, x, exponent)
        assert_same(relative_importance_score(weight, norms, exponent=exponent), expected, weight)
    expected = references.relative_importance(w, None, 0.0)
    assert_same(relative_importance_score(weight, exponent=0.0), expected, weight)
    assert torch.equal(weight, before[0]) and torch.equal(norms, before[1]), "a score changed its inputs"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_random_matrices(shape, dtype):
    for seed in range(3):
        check_all_scores(*random_case(*shape, dtype, seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_matrices(name, dtype):
    weight, norms = DEGENERATE[name]
    check_all_scores(weight.to(dtype), norms.to(dtype))


def test_non_contiguous_matrices():
    weight, norms = random_case(6, 4, torch.float64)
    strided_norms = torch.stack([norms, norms], dim=1)[:, 0]
    transposed, every_second = weight.T.contiguous().T, torch.cat([weight, weight])[::2]
    for view in (transposed, every_second):
        assert not view.is_contiguous() or not strided_norms.is_contiguous()
        check_all_scores(view, strided_norms)


@pytest.mark.parametrize(
    ("name", "group", "expected"),
    [
        ("magnitude", "matrix", lambda w, x: references.magnitude(w)),
        ("wanda", "row", references.wanda),
        ("ri", "matrix", lambda w, x: references.relative_importance(w, None, 0.0)),
        ("ria", "matrix", lambda w, x: references.relative_importance(w, x, 0.5)),
    ],
)
def test_registered_scores_have_the_published_formula_and_group(name, group, expected):
    weight, norms = random_case(5, 8, torch.float64)
    score = SCORES[name].function(weight, norms)
    np.testing.assert_allclose(
        references.float64(score), expected(references.float64(weight), references.float64(norms)), rtol=1e-12
    )
    assert SCORES[name].group == group


def test_relative_importance_without_norms_is_refused_unless_the_exponent_is_zero():
    weight, _ = random_case(3, 3, torch.float64)
    with pytest.raises(ValueError, match="norms"):
        relative_importance_score(weight, exponent=0.5)


def test_dead_inputs_score_zero_wherever_activations_count():
    weight, norms = DEGENERATE["dead input"]
    assert (wanda_score(weight, norms)[:, 1] == 0).all()
    assert (relative_importance_score(weight, norms)[:, 1] == 0).all()
    assert (relative_importance_score(weight, norms, exponent=0.0)[:, 1] > 0).all()


def test_relative_importance_ignores_the_scale_of_the_matrix_but_not_of_a_weight():
    weight, norms = random_case(5, 6, torch.float64)
    torch.testing.assert_close(
        relative_importance_score(weight * 1e3, norms), relative_importance_score(weight, norms), rtol=1e-12, atol=0
    )
    larger = weight.clone()
    larger[2, 3] *= 2
    assert relative_importance_score(larger, norms)[2, 3] > relative_importance_score(weight, norms)[2, 3]
