"""What is asked of every plugin, on layers of any origin: purity, independence, dtypes, memory."""

from __future__ import annotations

import gc

import pytest
import torch
from conftest import (
    LOWER_SPECS,
    plugins,
    small_task,
)
from oracles import (
    AffineLayer,
    LayerProblem,
    relative_error,
)
from shared import cheap, flat, known_to, method
from test_closed_forms import gradient_of
from test_methods import shared_task

from benchmark.measure.counting import CountedProblem
from benchmark.plugins.search_method import SearchMethod
from benchmark.problems.bilevel import Batch

#: other libraries stop a batch when all of it has converged: what a sample gets depends on the
#: others up to these tolerances
BATCH_WIDE = {"f_tol": 1e-14, "b_tol": 1e-14, "thres_conv": 1e-14}


def test_importable(plugin):
    assert plugin.is_installed(raise_on_not_installed=True)
    for word in ("Cost", "memory", "Use it"):
        assert word.lower() in plugin.__doc__.lower(), f"its docstring does not say: {word}"


def test_takes_a_layer_it_has_never_seen(state_method):
    oracle = AffineLayer.make(kappa=0.5)
    x0 = torch.zeros_like(oracle.y).requires_grad_()
    kept = x0.detach().clone()
    x = state_method.get_instance().equilibrium(oracle.layer(), x0)
    assert (x.shape, x.dtype) == (oracle.y.shape, torch.float64)
    gradient, start = torch.autograd.grad(oracle.loss(x), [oracle.theta, x0], allow_unused=True)
    assert torch.cosine_similarity(gradient, oracle.gradient(), dim=0) > 0.5
    assert start is None, "the graph reaches the starting point"
    assert torch.equal(x0, kept), "the starting point was changed in place"


#: the estimate of SHINE depends on the path to the equilibrium, which multiplies rounding
ROUNDING = {"SHINE": 1e-5}


@pytest.mark.filterwarnings("ignore::benchmark.solve.convergence.NotConverged")
def test_samples_are_independent(state_method):
    oracle = AffineLayer.make(kappa=0.9, samples=4)
    estimator = state_method.get_instance(**known_to(state_method, BATCH_WIDE))
    together = estimator.equilibrium(oracle.layer(), torch.zeros_like(oracle.y))
    for i in range(4):
        y = oracle.y[i : i + 1]
        alone = estimator.equilibrium(oracle(y), torch.zeros_like(y))
        assert relative_error(together[i : i + 1].detach(), alone.detach()) < 1e-12
        gradients = [
            torch.autograd.grad(
                ((x - oracle.target[i]) ** 2).sum(), oracle.theta, retain_graph=True
            )[0]
            for x in (together[i], alone[0])
        ]
        assert relative_error(*gradients) < ROUNDING.get(state_method.name, 1e-8)


def test_a_sample_may_be_a_number(state_method):
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    x = state_method.get_instance().equilibrium(lambda x: weight * x.cos() + y, y)
    assert x.shape == y.shape
    assert torch.autograd.grad(x.sum(), weight)[0].isfinite()


def test_repeats_itself(state_method):
    oracle = AffineLayer.make(kappa=0.9)
    first, second = (gradient_of(state_method.get_instance(), oracle) for _ in range(2))
    assert torch.equal(first, second)


class Tanh(torch.nn.Module):
    """x ↦ tanh(x/2 + θy) in float32; a module can be cast, which a function cannot."""

    def __init__(self, y):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.3))
        self.register_buffer("y", y)

    def forward(self, x):
        return torch.tanh(0.5 * x + self.weight * self.y)


def test_float32_stays_float32(state_method):
    y = torch.linspace(-1, 1, 8)[None]
    T = Tanh(y)
    weight = T.weight
    x = state_method.get_instance().equilibrium(T, y)
    assert x.dtype == torch.float32
    (gradient,) = torch.autograd.grad(x.square().sum(), weight)
    assert gradient.dtype == torch.float32
    assert gradient.isfinite()


def test_no_option_is_ignored_by_the_entry_for_any_layer():
    """A tolerance out of reach is met in float64 or refused, one on the gradient refused."""
    y = torch.linspace(-1, 1, 8)[None]
    T = Tanh(y)
    with pytest.raises(ValueError, match=r"needs T to be a torch\.nn\.Module"):
        method("JFB").equilibrium(lambda x: T(x), y)
    with pytest.raises(ValueError, match=r"1e-10 is out of reach in float32.*polish=True"):
        method("JFB", polish=False).equilibrium(T, y)
    with pytest.raises(ValueError, match=r"gradient_tol needs the loss .* use hypergradient"):
        method("DEQ", gradient_tol=1e-3).equilibrium(T.double(), y.double())


@pytest.mark.parametrize("name", ["JFB", "Neumann", "Phantom", "SHINE", "DEQ", "HOAG"])
def test_every_method_that_needs_an_equilibrium_takes_every_solver(name):
    """The estimate is the same within its tolerance; of SHINE, whose it is not, the state."""
    task = small_task(lower=LOWER_SPECS[2], degradation="inpainting(keep=0.5)", size=8)
    tight = known_to(plugins()[name], {"tol": 1e-12, "adjoint_tol": 1e-12, "first_tol": 1e-12})
    found, costs = [], set()
    for solver in ("fista", "picard", "anderson(depth=5)"):
        counted = CountedProblem(task.lower)
        estimator = method(name, equilibrium_solver=solver, **tight)
        found.append(estimator.hypergradient(counted, task.probe))
        costs.add(counted.layer_evals)
    assert len(costs) == 3, "the solver asked for is not used"
    for other in found[1:]:
        assert relative_error(other.state, found[0].state) < 1e-9
        if name != "SHINE":
            assert relative_error(flat(other), flat(found[0])) < 1e-8


def test_no_graph_where_gradients_are_disabled(plugin):
    task = small_task(lower="wavelet_l1(wavelet='db2',levels=2)")
    x = plugin.get_instance().deploy(task.lower, task.test.observation)
    assert not x.requires_grad
    assert x.shape == task.test.truth.shape


def test_parameters_that_do_not_influence_the_state_get_zero(gradient_method):
    if gradient_method.name == "SPSA":
        pytest.skip("a simultaneous perturbation moves them too: zero on average alone")
    task = small_task(lower="wavelet_l1(wavelet='db2',levels=2)")
    task.lower.unused = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    found = gradient_method.get_instance().hypergradient(task.lower, task.probe)
    gradient = dict(zip(task.lower.theta(), found.gradient, strict=True))
    assert gradient["unused"].item() == 0


def test_estimates_the_hypergradient_of_any_layer(gradient_method):
    oracle = AffineLayer.make(kappa=0.5)
    problem = oracle.problem()
    found = gradient_method.get_instance().hypergradient(problem, oracle.batch())
    (gradient,) = found.gradient
    assert (found.state.shape, found.state.dtype) == (oracle.y.shape, torch.float64)
    assert (gradient.shape, gradient.dtype) == (oracle.theta.shape, torch.float64)
    assert torch.cosine_similarity(gradient, oracle.gradient(), dim=0) > 0.5
    assert torch.equal(problem.weight, oracle.theta), "θ was changed"
    assert problem.weight.grad is None
    assert not (found.loss.requires_grad or found.state.requires_grad or gradient.requires_grad)


@pytest.mark.filterwarnings("ignore::benchmark.solve.convergence.NotConverged")
def test_hypergradients_of_samples_are_independent(gradient_method):
    """Also a batch of one: that of several is their mean."""
    oracle = AffineLayer.make(kappa=0.7, samples=3)
    problem, batch = oracle.problem(), oracle.batch()
    tight = known_to(gradient_method, BATCH_WIDE | {"directions": 2})
    together = gradient_method.get_instance(**tight).hypergradient(problem, batch)
    solvers = [gradient_method.get_instance(**tight) for _ in range(3)]
    alone = [solver.hypergradient(problem, batch[[i]]) for i, solver in enumerate(solvers)]
    for i in range(3):
        assert relative_error(together.state[[i]], alone[i].state) < 1e-11
    mean = torch.stack([flat(found) for found in alone]).mean(0)
    assert relative_error(flat(together), mean) < ROUNDING.get(gradient_method.name, 1e-7)


def test_a_hypergradient_repeats_itself(gradient_method):
    oracle = AffineLayer.make(kappa=0.7)
    few = known_to(gradient_method, {"directions": 2})
    solvers = [gradient_method.get_instance(**few) for _ in range(2)]
    first, second = (s.hypergradient(oracle.problem(), oracle.batch()) for s in solvers)
    assert torch.equal(flat(first), flat(second))


def test_a_look_at_the_probe_changes_nothing(gradient_method):
    """Of states, tolerances and directions that are carried from step to step."""
    oracle = AffineLayer.make(kappa=0.5)
    problem, batch = oracle.problem(), oracle.batch(index=(0, 1, 2))
    loose = known_to(gradient_method, {"tol": 1e-6, "directions": 2})

    def third(looks):
        solver = gradient_method.get_instance(warm_start=True, **loose)
        for _ in range(2):
            solver.hypergradient(problem, batch)
            for _ in range(looks):
                seen = solver.hypergradient_on_probe(problem, batch)
        found = solver.hypergradient(problem, batch)
        if looks:
            assert torch.equal(flat(seen), flat(found)), "not what the next step computes"
        return flat(found)

    assert torch.equal(third(looks=0), third(looks=2))


def test_a_hypergradient_in_float32_is_float32(gradient_method):
    """θ is 0-d here."""
    weight = torch.tensor(0.3)
    problem = LayerProblem(weight, lambda theta, x, y: torch.tanh(0.5 * x + theta * y))
    y = torch.linspace(-1, 1, 8)[None]
    found = gradient_method.get_instance().hypergradient(problem, Batch(2 * y, y))
    (gradient,) = found.gradient
    assert found.loss.dtype == found.state.dtype == gradient.dtype == torch.float32
    assert gradient.shape == ()
    assert gradient.isfinite() and gradient < 0


def test_a_hypergradient_where_a_sample_is_a_number(gradient_method):
    weight = torch.tensor(0.5, dtype=torch.float64)
    problem = LayerProblem(weight, lambda theta, x, y: theta * x.cos() + y)
    y = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    found = gradient_method.get_instance().hypergradient(problem, Batch(y + 1, y))
    assert found.state.shape == y.shape
    assert found.gradient[0].shape == ()
    assert found.gradient[0].isfinite()


@pytest.mark.filterwarnings("ignore::benchmark.solve.convergence.NotConverged")
def test_the_layout_in_memory_does_not_matter(gradient_method):
    task = shared_task(LOWER_SPECS[2], "deblurring(width=0.8)")
    truth, y = task.probe.truth, task.probe.observation
    last = {"memory_format": torch.channels_last}
    layouts = [
        task.probe,
        Batch(truth.contiguous(**last), y.contiguous(**last)),
        Batch(truth.mT.contiguous().mT, torch.stack([y, y], dim=-1)[..., 0]),
    ]
    assert not any(b.truth.is_contiguous() or b.observation.is_contiguous() for b in layouts[1:])
    expected, *others = (
        flat(cheap(gradient_method).hypergradient(task.lower, batch)) for batch in layouts
    )
    for found in others:
        assert relative_error(found, expected) < 1e-8


@pytest.mark.filterwarnings("ignore::benchmark.solve.convergence.NotConverged")
def test_no_memory_is_retained_over_steps(plugin):
    """The number of tensors that are alive is the same after 4 outer steps and after 8.

    A search keeps what it has tried: a copy of θ a step.
    """
    task = small_task(lower=LOWER_SPECS[2], size=8)
    solver = cheap(plugin, steps=8, warm_start=True)
    solver.set_objective(task)
    alive = []

    def count():
        if solver.outer_step % 4 == 0:
            gc.collect()
            alive.append(sum(isinstance(o, torch.Tensor) for o in gc.get_objects()))
        return True

    gc.collect()
    gc.freeze()  # what is there already need not be looked at
    solver.run(count)
    assert solver.outcome.ok, solver.outcome.message
    tried = 4 * len(task.lower.theta()) if issubclass(plugin, SearchMethod) else 0
    assert alive[2] - alive[1] <= tried
