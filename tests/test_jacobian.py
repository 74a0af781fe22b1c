"""‖J‖ against the whole Jacobian."""

from __future__ import annotations

from math import isnan

import pytest
import torch
from oracles import LayerProblem

from benchmark.measure.jacobian import jacobian_norm
from benchmark.problems.bilevel import Batch, MixedBatch


def linear(matrix: torch.Tensor):
    """T(x) = Mx + θy, of states (N, 1, 1, n)."""
    return LayerProblem(torch.ones(1, dtype=torch.float64), lambda w, x, y: x @ matrix.T + w * y)


def batch(samples: int, n: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(samples, 1, 1, n, generator=generator, dtype=torch.float64)
    return Batch(torch.zeros_like(y), y)


def test_the_norm_of_a_jacobian_that_is_not_normal_is_above_its_radius():
    matrix = torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = 0.3 * torch.eye(12, dtype=torch.float64) + 0.1 * matrix.triu(1)
    norm = float(torch.linalg.matrix_norm(matrix, ord=2))
    assert norm > 0.5
    assert jacobian_norm(linear(matrix), batch(3, 12)) == pytest.approx(norm, rel=1e-4)


def test_the_largest_of_the_samples_counts():
    """J = diag(1 − tanh²) M is another one for each."""
    matrix = 0.5 * torch.eye(6, dtype=torch.float64)
    lower = LayerProblem(
        torch.ones(1, dtype=torch.float64), lambda w, x, y: torch.tanh(x @ matrix.T + w * y)
    )
    whole = batch(4, 6)
    alone = [jacobian_norm(lower, whole[[i]]) for i in range(4)]
    assert len(set(alone)) == 4
    assert jacobian_norm(lower, whole) == pytest.approx(max(alone), rel=1e-4)
    parts = MixedBatch((whole[:2], whole[2:]))
    assert jacobian_norm(lower, parts) == pytest.approx(max(alone), rel=1e-4)


def test_without_an_equilibrium_there_is_no_norm():
    # a translation has none
    assert isnan(jacobian_norm(linear(torch.eye(4, dtype=torch.float64)), batch(1, 4)))
    assert jacobian_norm(linear(torch.zeros(4, 4, dtype=torch.float64)), batch(1, 4)) == 0
