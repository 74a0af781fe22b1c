"""What the points of a solve tell of (I − J)⁻¹, against H = I + (S − Y)Y⁺ by dense algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import AffineLayer

from benchmark.solve.secants import Secants


def visited(T, x0, *, memory, points, tol=1e-13):
    """``Secants`` after T has been applied that often, and the points."""
    secants, x, seen = Secants(T, memory=memory, tol=tol), x0, []
    for _ in range(points):
        seen.append(x)
        x = secants(x).detach()
    return secants, seen


def broyden(T, points, g) -> np.ndarray:
    """Hᵀg of one sample from all differences of its ``points``."""
    z = np.array([x[0].flatten().numpy() for x in points])
    f = np.array([(x - T(x))[0].detach().flatten().numpy() for x in points])
    s, y = np.diff(z, axis=0).T, np.diff(f, axis=0).T
    y, s = y / np.linalg.norm(y, axis=0), s / np.linalg.norm(y, axis=0)
    h = np.eye(len(s)) + (s - y) @ np.linalg.pinv(y, rcond=1e-3**0.5)
    return h.T @ g[0].flatten().numpy()


@settings(max_examples=20, deadline=None)
@given(
    memory=st.integers(1, 6),
    points=st.integers(1, 8),
    kappa=st.floats(0.5, 0.99),
    seed=st.integers(0, 10_000),
)
def test_the_adjoint_is_that_of_broydens_second_method(memory, points, kappa, seed):
    oracle = AffineLayer.make(kappa=kappa, shape=(2, 3), samples=1, seed=seed)
    T, g = oracle.layer(), oracle.loss_gradient()
    secants, seen = visited(T, torch.zeros_like(g), memory=memory, points=points)
    found = secants.adjoint(g)
    assert found.shape == g.shape
    if points == 1:
        assert torch.equal(found, g)
    else:
        exact = broyden(T, seen[-memory - 1 :], g)
        np.testing.assert_allclose(found[0].flatten(), exact, rtol=1e-6, atol=1e-8)


def diagonal(*rates: float):
    """x ↦ rates·x + 1, a number per sample: the inverse is 1/(1 − rate), known from two points."""
    each = torch.tensor(rates, dtype=torch.float64)[:, None]
    return lambda x: each * x + 1


def test_a_sample_learns_until_it_has_settled():
    """At a residual of ``tol`` itself, exactly representable here, a sample has settled."""
    g = torch.ones(1, 2, dtype=torch.float64)
    points = torch.tensor([[[1.0, 0.0]], [[2.0, 0.0]], [[2.0, 1.0]]], dtype=torch.float64)

    def T(x):  # ‖T(x) − x‖ / ‖T(x)‖ = 1/2 on the first two
        return torch.stack([2 * x[:, 0], -x[:, 1]], dim=1)

    for tol, exact in ((0.5, [1.0, 1.0]), (0.4999, [-1.0, 0.5])):
        secants = Secants(T, memory=5, tol=tol)
        for x in points:
            secants(x)
        assert secants.adjoint(g).tolist() == [pytest.approx(exact)]


def test_each_sample_learns_by_itself():
    """One has settled at once, one later, one goes on: each as it would alone."""
    rates, x0 = (0.5, 0.1, 0.9), torch.tensor([[2.0], [0.0], [0.0]], dtype=torch.float64)
    g = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    together, _ = visited(diagonal(*rates), x0, memory=3, points=6, tol=1e-2)
    found = together.adjoint(g)
    assert found[:, 0].tolist() == pytest.approx([1.0, 2 / 0.9, 3 / 0.1])
    for i, rate in enumerate(rates):
        alone, _ = visited(diagonal(rate), x0[i : i + 1], memory=3, points=6, tol=1e-2)
        assert torch.allclose(alone.adjoint(g[i : i + 1])[0], found[i], rtol=1e-12)


def test_what_rounding_leaves_of_a_difference_is_not_learned():
    g, one = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    half = 0.5 * one  # the inverse is 2
    for step, learned in ((0.0, 1.0), (1e-15, 1.0), (1e-12, 2.0)):
        secants = Secants(lambda x: half * x, memory=2, tol=1e-9)
        secants(one)
        secants(one + step)
        assert secants.adjoint(g).item() == pytest.approx(learned, rel=1e-2)
    # nor of y: T moves by the same everywhere, and is not to be divided by
    secants = Secants(lambda x: x + 3, memory=2, tol=1e-9)
    secants(one)
    secants(one + 1)
    assert secants.adjoint(g).item() == 1


def test_a_point_that_says_nothing_takes_no_place():
    """The ring holds the last differences that were learned."""
    g = torch.ones(1, 2, dtype=torch.float64)
    rates = torch.tensor([[0.5, 0.9]], dtype=torch.float64)
    secants = Secants(lambda x: rates * x, memory=2, tol=1e-9)
    for x in ([1.0, 1.0], [2.0, 1.0], [2.0, 2.0], [2.0, 2.0], [2.0, 2.0]):
        secants(torch.tensor([x], dtype=torch.float64))
    assert secants.adjoint(g)[0].tolist() == pytest.approx([2.0, 10.0])


def test_directions_that_contradict_each_other_are_left_out():
    """Two that differ by an angle φ: the squared singular values of Y have the ratio tan²(φ/2)."""
    g = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    for angle, known in ((0.062, False), (0.065, True)):
        secants = Secants(lambda x: 0.5 * x, memory=2, tol=1e-9)
        x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        for direction in ([1.0, 0.0], [math.cos(angle), math.sin(angle)]):
            secants(x)
            x = x + torch.tensor([direction], dtype=torch.float64)
        secants(x)
        found = secants.adjoint(g)[0, 1].item()
        # else the inverse is 2 along the direction between them
        assert found == pytest.approx(2 if known else 1 + math.sin(angle / 2) ** 2)


def test_the_layer_keeps_its_graph_and_what_is_learned_has_none():
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    secants = Secants(lambda x: weight * x + 1, memory=2, tol=1e-9)
    x = secants(secants(torch.zeros(1, 2).double()))
    x.sum().backward()
    assert weight.grad.item() == 2  # d(w·1 + 1)/dw, twice
    assert not secants.adjoint(x).requires_grad


def test_before_any_point_nothing_is_known():
    g = torch.ones(1, 2)
    assert Secants(lambda x: x, memory=1, tol=0.1).adjoint(g) is g


@pytest.mark.parametrize(("option", "value"), [("memory", 0), ("memory", 1.5), ("tol", 0.0)])
def test_bad_settings_are_named(option, value):
    with pytest.raises(ValueError, match=f"{option} must be .* got {value}"):
        Secants(lambda x: x, **({"memory": 3, "tol": 1e-6} | {option: value}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coarse_dtypes_have_an_adjoint_too(dtype):
    """Of two directions of its own rates, as far as the dtype tells."""
    rates, g = torch.tensor([[0.8, 0.3]]), torch.tensor([[1.0, -2.0]])
    secants, _ = visited(lambda x: rates.to(dtype) * x + 1, g.to(dtype), memory=4, points=4)
    found = secants.adjoint(g.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), g / (1 - rates), rtol=0.2, atol=0)
