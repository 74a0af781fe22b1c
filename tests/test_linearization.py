"""θ as a vector, the loss at an equilibrium, and products with its Jacobians."""

from __future__ import annotations

import pytest
import torch
from oracles import AffineLayer, Halving

from benchmark.gradients.casting import cast_layer
from benchmark.gradients.differences import as_parameters, as_vector, few_parameters, slopes
from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.linearization import LayerGraph, Linearization
from benchmark.problems.lower_level import Splitting
from benchmark.solve.search import ToTolerance
from benchmark.solve.system import ProjectedSystem

ORACLE = AffineLayer.make(kappa=0.8)
X0 = torch.zeros_like(ORACLE.y)
TIGHT = ToTolerance("anderson", 1e-13, 1000)


def random(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem_of(oracle: AffineLayer) -> EquilibriumLoss:
    return EquilibriumLoss.of_callables(oracle.layer(), oracle.loss, [oracle.theta])


# --- θ as a vector, differences -----------------------------------------------------------------


def test_parameters_are_a_vector_and_back():
    theta = [random(2, 3).requires_grad_(), random(1)[0], random(4, seed=1)]
    vector = as_vector(theta)
    assert vector.shape == (11,) and not vector.requires_grad
    assert all(map(torch.equal, as_parameters(vector, theta), theta))
    assert few_parameters(theta, 11, what="") == 11
    with pytest.raises(ValueError, match=r"11 parameters .* max_parameters is 10: two solves for"):
        few_parameters(theta, 10, what="two solves")


@pytest.mark.parametrize("step", [0.1, 3.0])
def test_slopes_of_a_quadratic_are_exact_for_any_step(step):
    lower, directions = ORACLE.problem(), random(3, 5)
    problem = EquilibriumLoss.of_lower_level(lower, ORACLE.batch())
    found = slopes(problem, X0, directions, step=step, search=TIGHT)
    exact = ORACLE.scale() * directions @ ORACLE.gradient()
    assert torch.allclose(found.values, exact, rtol=1e-9)
    assert torch.allclose(found.state, ORACLE.equilibrium(), rtol=1e-9)
    assert torch.allclose(found.loss, ORACLE.scale() * ORACLE.loss(found.state))
    assert torch.equal(lower.weight, ORACLE.theta), "θ itself is left alone"


# --- the problem --------------------------------------------------------------------------------


def test_a_parameter_that_the_loss_does_not_reach_has_gradient_zero():
    other = torch.ones(2, requires_grad=True)
    problem = EquilibriumLoss.of_callables(lambda x: x, lambda x: 3 * x.sum(), [other])
    x = torch.ones(1, 2, requires_grad=True)
    found = problem.differentiated(x)
    assert found.loss.item() == 6 and not found.loss.requires_grad and not found.state.requires_grad
    assert found.gradient[0].tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"parameters\[1\] does not require gradients"):
        EquilibriumLoss.of_callables(lambda x: x, torch.sum, [other, torch.ones(1)])


def test_a_module_is_cast_without_a_copy():
    T = Halving(torch.float32)
    wide = cast_layer(T, torch.float64)
    assert {name: t.dtype for name, t in wide.tensors.items()} == {
        "theta": torch.float64,
        "rate": torch.float64,
        "times": torch.int64,
    }
    image = wide(torch.full((1, 1), 4 + 1e-12, dtype=torch.float64))
    assert image.item() == 3 + 5e-13
    image.sum().backward()
    assert T.theta.grad.item() == 1 and T.theta.grad.dtype == torch.float32


# --- products with Jacobians --------------------------------------------------------------------


def test_products_with_the_jacobians_are_those_of_the_matrices():
    """J = M and B, the same for each sample; the loss holds θ too: the direct term is θ."""

    def loss(x):
        return ORACLE.loss(x) + 0.5 * ORACLE.theta.square().sum()

    at = Linearization(EquilibriumLoss.of_callables(ORACLE.layer(), loss, [ORACLE.theta]), X0 + 1)
    assert torch.allclose(at.loss, loss(X0 + 1)) and not at.loss.requires_grad
    assert torch.allclose(at.g, X0 + 1 - ORACLE.target)
    m, b, v = ORACLE.matrix, ORACLE.injection, random(*X0.shape)
    assert torch.allclose(at.jt(v).flatten(1), v.flatten(1) @ m)
    assert torch.allclose(at.adjoint_system()(v), v - at.jt(v))
    assert torch.allclose(at.j(v).flatten(1), v.flatten(1) @ m.T)
    assert torch.allclose(at.tangent_product(v), v - at.j(v))
    for p, column in enumerate(at.columns()):
        assert torch.allclose(column.flatten(1), b[:, p].expand(3, -1))
    assert p == 4
    exact = (v.flatten(1) @ b).sum(0) + ORACLE.theta
    for last in (False, False, True):
        assert torch.allclose(at.gradient(v, last=last)[0], exact)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        at.gradient(v)


def test_products_where_nothing_depends_on_anything():
    theta = torch.ones(2, dtype=torch.float64, requires_grad=True)
    v = random(1, 2)
    constant = EquilibriumLoss.of_callables(lambda x: torch.ones(1, 2), torch.sum, [theta])
    at = Linearization(constant, v)
    assert at.direct == (None,)
    assert at.jt(v).tolist() == [[0, 0]] and at.gradient(v)[0].tolist() == [0, 0]
    direct = EquilibriumLoss.of_callables(
        lambda x: torch.ones(1, 2), lambda x: (x * theta).sum(), [theta]
    )
    assert torch.equal(Linearization(direct, v).gradient(v)[0], v[0])
    of_theta = EquilibriumLoss.of_callables(lambda x: 3 * theta + 0 * v, torch.sum, [theta])
    at = Linearization(of_theta, v)
    assert at.jt(v).tolist() == at.j(v).tolist() == [[0, 0]]
    assert torch.allclose(at.gradient(v)[0], 3 * v[0])


def test_a_layer_with_two_halves_has_both_in_its_system():
    g, kept = random(3, 3), torch.tensor([1.0, 0.0, 1.0]).double()
    g = g + g.T

    def T(x):
        return kept * (x @ g)

    T.splitting = Splitting(lambda x: x @ g, lambda z: kept * z)
    v = random(2, 3, seed=1)
    graph, image = LayerGraph.of(T, v, halves=True)
    system = graph.adjoint_system()
    assert graph.split and isinstance(system, ProjectedSystem)
    assert torch.allclose(image, T(v))
    assert torch.allclose(system.P(v), kept * v) and torch.allclose(system.G(v), v @ g)
    assert torch.allclose(graph.jt(v), (kept * v) @ g)
    whole, image = LayerGraph.of(T, v, halves=False)
    assert not whole.split and not isinstance(whole.adjoint_system(), ProjectedSystem)
    assert torch.allclose(whole.adjoint_system()(v), system(v)) and torch.allclose(image, T(v))
    # halves that do not depend on what they are given
    T.splitting = Splitting(lambda x: torch.ones(2, 3), lambda z: z * kept)
    system = LayerGraph.of(T, v, halves=True)[0].adjoint_system()
    assert torch.equal(system(v), v)
