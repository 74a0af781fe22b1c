"""Applications and products that can be counted by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmark.measure.counting import CountedLayer, CountedProblem
from benchmark.problems.lower_level import LowerLevelProblem


@pytest.fixture
def layer() -> CountedLayer:
    """x ↦ tanh(W x), counted, with a W that requires gradients."""
    W = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return CountedLayer(lambda x: torch.tanh(W @ x))


X = torch.linspace(-1, 2, 4)


def counts(layer: CountedLayer) -> tuple[int, int]:
    return layer.layer_evals, layer.vjp_evals


def test_the_layer_itself_is_unchanged(layer):
    x = X.double().requires_grad_()
    W = torch.randn(4, 4, dtype=torch.float64)
    plain, counted = (lambda x: torch.tanh(W @ x)), CountedLayer(lambda x: torch.tanh(W @ x))
    assert torch.equal(counted(x), plain(x))
    assert torch.autograd.gradcheck(counted, x)


def test_each_repeated_product_counts(layer):
    x = X.clone().requires_grad_()
    image = layer(x)
    for _ in range(3):
        torch.autograd.grad(image, x, torch.ones(4), retain_graph=True)
    assert counts(layer) == (1, 3)


def test_backward_counts_every_use(layer):
    layer(layer(layer(X))).sum().backward()
    assert counts(layer) == (3, 3)


def test_a_truncated_backward_counts_only_what_it_passes(layer):
    with torch.no_grad():
        x = layer(layer(X))
    layer(x).sum().backward()
    assert counts(layer) == (3, 1)


def test_no_graph_no_product(layer):
    with torch.no_grad():
        assert not layer(X).requires_grad
    constant = CountedLayer(torch.sin)
    image = constant(X.clone())
    image.mul_(2)  # no graph, so the output may be changed
    assert not image.requires_grad
    assert counts(layer) == counts(constant) == (1, 0)


def test_functional_vjp(layer):
    image, vjp = torch.func.vjp(layer, X)
    vjp(torch.ones_like(image))
    (cotangent,) = vjp(X)
    assert counts(layer) == (1, 2)
    assert torch.allclose(cotangent, torch.func.vjp(layer.T, X)[1](X)[0])


def test_a_vectorised_product_counts_once(layer):
    _, vjp = torch.func.vjp(layer, X)
    (jacobian,) = torch.vmap(vjp)(torch.eye(4))
    assert counts(layer) == (1, 1)
    assert torch.allclose(jacobian, torch.func.jacrev(layer.T)(X))
    torch.vmap(lambda x: torch.func.vjp(layer, x)[1](X)[0])(torch.ones(3, 4))
    assert counts(layer) == (2, 2)
    torch.func.grad(lambda x: torch.vmap(layer)(x).sum())(torch.ones(3, 4))
    assert counts(layer) == (3, 3)


def test_forward_mode_counts_layers_only(layer):
    _, tangent = torch.func.jvp(layer, (X,), (X,))
    assert counts(layer) == (1, 0)
    assert torch.allclose(tangent, torch.func.jvp(layer.T, (X,), (X,))[1])


def test_checkpointing_counts_the_recomputation(layer):
    checkpoint(layer, X.clone().requires_grad_(), use_reentrant=False).sum().backward()
    assert counts(layer) == (2, 1)


def test_an_application_that_raises_counts():
    def broken(x):
        raise ZeroDivisionError

    layer = CountedLayer(broken)
    with pytest.raises(ZeroDivisionError):
        layer(X)
    assert counts(layer) == (1, 0)


class Shrink(LowerLevelProblem):
    """x ↦ θx + y."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def init(self, y):
        return torch.zeros_like(y)

    def step(self, x, y):
        return self.factor * x + y

    def reconstruct(self, x):
        return 3 * x


def test_a_counted_problem_is_the_problem_with_counts():
    lower = Shrink()
    counted = CountedProblem(lower)
    assert list(counted.theta().values()) == [lower.factor]
    T, x = counted.layer(X), counted.init(X)
    assert torch.equal(x, torch.zeros(4))
    x = T(T(x))
    assert torch.equal(x, 1.5 * X)
    counted.reconstruct(x).sum().backward()
    assert (counted.layer_evals, counted.vjp_evals) == (2, 2)
    # d/dθ of 3 Σ (θX + X)
    assert torch.allclose(lower.factor.grad, 3 * X.sum())


def test_a_copy_of_a_counted_problem_counts_for_itself():
    counted = CountedProblem(Shrink())
    twin = copy.deepcopy(counted)
    with torch.no_grad():
        twin.lower.factor.fill_(2)
        assert torch.equal(twin.step(X, X), 3 * X)
    assert (counted.layer_evals, twin.layer_evals) == (0, 1)


def test_the_derivative_of_a_backward_pass_counts_as_a_layer():
    layer = CountedLayer(torch.sin)
    x = torch.ones(3, requires_grad=True)
    u = torch.zeros(3, requires_grad=True)
    (product,) = torch.autograd.grad(layer(x), x, u, create_graph=True)
    for _ in range(2):
        (tangent,) = torch.autograd.grad(product, u, torch.ones(3), retain_graph=True)
    assert torch.allclose(tangent, x.cos())
    assert (layer.layer_evals, layer.vjp_evals) == (3, 1)
