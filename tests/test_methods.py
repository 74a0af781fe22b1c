"""Each method computes the gradient that the mathematics says it does, on layers of any origin."""

from __future__ import annotations

import gc
import json
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import (
    DEGRADATION_SPECS,
    LOWER_SPECS,
    MORE_DEGRADATION_SPECS,
    MORE_LOWER_SPECS,
    plugins,
    small_reference,
    small_task,
)
from covering import covering
from oracles import (
    AffineLayer,
    LayerProblem,
    central_difference,
    relative_error,
    soft_threshold_layer,
    tanh_layer,
)
from torchwavelets import DWT2D, IDWT2D

from benchmark.measure.counting import CountedProblem
from benchmark.measure.reference import true_equilibrium
from benchmark.plugins.inexact_descent import InexactDescent
from benchmark.plugins.search_method import SearchMethod
from benchmark.problems.bilevel import Batch, upper_loss
from benchmark.solve.convergence import NotConverged
from benchmark.solve.fixed_point import picard

DATA = Path(__file__).parent / "data"
TIGHT = {"tol": 1e-13, "adjoint_tol": 1e-13}
#: other libraries stop a batch when all of it has converged: what a sample gets depends on the
#: others up to these tolerances
BATCH_WIDE = {"f_tol": 1e-14, "b_tol": 1e-14, "thres_conv": 1e-14}


def method(name: str, **parameters):
    return plugins()[name].get_instance(**parameters)


def gradient_of(estimator, oracle: AffineLayer) -> torch.Tensor:
    x = estimator.equilibrium(oracle.layer(), torch.zeros_like(oracle.y))
    (gradient,) = torch.autograd.grad(oracle.loss(x), oracle.theta)
    return gradient


# --- the paper authors' own numbers ---------------------------------------------------------


def golden_cases():
    facts = json.loads((DATA / "g_inpainting.json").read_text())
    return [
        pytest.param(facts, case, id="restarts={restarts},layers={layers}".format(**case))
        for case in facts["cases"]
    ]


@pytest.mark.parametrize(("facts", "case"), golden_cases())
def test_authors_numbers(facts, case):
    arrays = np.load(DATA / "g_inpainting.npz")
    truth, y, mask = (torch.from_numpy(arrays[k]) for k in ("x", "y", "mask"))
    analysis = DWT2D(facts["levels"], facts["wavelet"], mode="periodization")
    synthesis = IDWT2D(facts["wavelet"], mode="periodization")
    log_lambda = torch.tensor(np.log(facts["lam"]), requires_grad=True)
    log_tau = torch.tensor(np.log(facts["stepsize"]), requires_grad=True)
    log_scales = torch.tensor(
        facts["log_scale_weights_fine_to_coarse_then_approx"],
        dtype=torch.float64,
        requires_grad=True,
    )

    def T(x):
        low, details = analysis(x - log_tau.exp() * mask * (mask * x - y))
        *fine, coarse = (log_tau + log_lambda + log_scales).exp()

        def shrink(d, t):
            return d.sign() * torch.relu(d.abs() - t)

        return synthesis(
            (shrink(low, coarse), [shrink(d, t) for d, t in zip(details, fine, strict=True)])
        )

    if case["restarts"] == 0:
        estimator = method("Unrolling", layers=case["layers"])
    else:
        estimator = method("Restarted-JFB", restarts=case["restarts"], layers=case["layers"])
    loss = ((estimator.equilibrium(T, y) - truth) ** 2).mean()
    d_lambda, d_tau, d_scales = torch.autograd.grad(loss, [log_lambda, log_tau, log_scales])
    assert loss.item() == pytest.approx(case["loss"], rel=1e-10)
    assert d_lambda.item() == pytest.approx(case["d_log_lambda"], rel=1e-8)
    assert d_tau.item() == pytest.approx(case["d_log_stepsize"], rel=1e-8)
    assert d_scales.tolist() == pytest.approx(case["d_log_scale_weights"], rel=1e-8)


# --- closed forms ---------------------------------------------------------------------------


@pytest.mark.parametrize("equilibrium_solver", ["picard", "fista", "anderson"])
@pytest.mark.parametrize("adjoint_solver", ["neumann", "gmres"])
@pytest.mark.parametrize("kappa", [0.3, 0.95])
def test_deq_is_the_closed_form(kappa, equilibrium_solver, adjoint_solver):
    oracle = AffineLayer.make(kappa=kappa)
    solvers = {"equilibrium_solver": equilibrium_solver, "adjoint_solver": adjoint_solver}
    estimate = gradient_of(method("DEQ", **TIGHT, **solvers), oracle)
    assert relative_error(estimate, oracle.gradient()) < 1e-9


def test_deq_at_its_defaults_is_the_closed_form():
    oracle = AffineLayer.make(kappa=0.9)
    assert relative_error(gradient_of(method("DEQ"), oracle), oracle.gradient()) < 1e-8


def test_jfb_is_the_first_term_of_the_series():
    oracle = AffineLayer.make(kappa=0.8)
    estimate = gradient_of(method("JFB", tol=1e-14), oracle)
    assert relative_error(estimate, oracle.gradient(terms=1)) < 1e-11


@pytest.mark.parametrize("layers", [1, 3, 10])
def test_restarted_jfb_is_the_truncated_series(layers):
    oracle = AffineLayer.make(kappa=0.7)
    estimate = gradient_of(method("Restarted-JFB", restarts=100 // layers, layers=layers), oracle)
    assert relative_error(estimate, oracle.gradient(terms=layers)) < 1e-11


def test_unrolling_converges_to_the_closed_form():
    oracle = AffineLayer.make(kappa=0.7)
    assert (
        relative_error(gradient_of(method("Unrolling", layers=3), oracle), oracle.gradient()) > 0.01
    )
    estimate = gradient_of(method("Unrolling", layers=150), oracle)
    assert relative_error(estimate, oracle.gradient()) < 1e-12


@pytest.mark.parametrize("layers", [1, 2, 5, 10])
@pytest.mark.parametrize("tau", [0.4, 1.5, 1.95])
def test_relative_error_is_exactly_the_contraction_to_the_depth(tau, layers):
    generator = torch.Generator().manual_seed(0)
    y, truth = torch.randn(2, 2, 8, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))[0]
    log_weight = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    T = soft_threshold_layer(y, log_weight, tau=tau, rotation=rotation)

    def gradient(estimator):
        x = estimator.equilibrium(T, y)
        return torch.autograd.grad(((x - truth) ** 2).mean(), log_weight)[0].item()

    exact = gradient(method("DEQ", **TIGHT))
    restarts = 800 // layers
    estimate = gradient(method("Restarted-JFB", restarts=restarts, layers=layers))
    assert abs(estimate - exact) / abs(exact) == pytest.approx(abs(1 - tau) ** layers, rel=1e-8)


def test_deq_agrees_with_central_differences_on_a_smooth_layer():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix *= 0.9 / torch.linalg.matrix_norm(matrix, 2)
    y, target = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    theta = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
    T = tanh_layer(theta, matrix, y)

    def loss(x):
        return ((x - target) ** 2).mean()

    x = method("DEQ", **TIGHT).equilibrium(T, torch.zeros_like(y))
    (gradient,) = torch.autograd.grad(loss(x), theta)

    def exact():
        return loss(picard(T, torch.zeros_like(y), tol=1e-14, max_layers=2000).x).item()

    for direction in torch.eye(6, dtype=torch.float64):
        slope = central_difference(exact, [theta], [direction], step=1e-5)
        assert slope == pytest.approx((gradient @ direction).item(), rel=1e-6, abs=1e-9)


# --- every lower level ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lower", "degradation"),
    [
        *product(LOWER_SPECS, DEGRADATION_SPECS),
        *product(MORE_LOWER_SPECS, DEGRADATION_SPECS[:1]),
    ],
)
def test_deq_and_the_reference_agree_with_central_differences(lower, degradation):
    task = small_task(lower=lower, degradation=degradation, size=8)
    problem, batch = task.lower, task.probe
    estimate = method("DEQ", **TIGHT, max_layers=20_000).hypergradient(problem, batch)
    reference = small_reference(lower=lower, degradation=degradation, size=8)
    assert reference.residual < 1e-10

    theta = list(problem.theta().values())
    flat = torch.cat([g.flatten() for g in estimate.gradient])
    assert relative_error(flat, reference.gradient) < 1e-8

    def exact():
        x = true_equilibrium(problem, batch.observation, tol=1e-14, x0=estimate.state).x
        return upper_loss(problem, x, batch).item()

    generator = torch.Generator().manual_seed(1)
    # half along the gradient itself, half along a direction of chance
    chance = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in theta]
    length = torch.cat([v.flatten() for v in chance]).norm()
    direction = [
        0.5 * (g / flat.norm() + v / length) for g, v in zip(estimate.gradient, chance, strict=True)
    ]
    slope = central_difference(exact, theta, direction, step=1e-5)
    computed = sum(float((g * v).sum()) for g, v in zip(estimate.gradient, direction, strict=True))
    assert abs(slope - computed) < 5e-6 * flat.norm()


@pytest.mark.parametrize("lower", LOWER_SPECS)
def test_biased_methods_equal_their_series_on_every_lower_level(lower):
    """JFB and Restarted-JFB against the series assembled from explicit Jacobians.

    The direct term through R_θ is the gradient of the loss in θ at a fixed state.
    """
    task = small_task(lower=lower, degradation="inpainting(keep=0.5)", size=8)
    problem, batch = task.lower, task.probe[:1]
    T = problem.layer(batch.observation)
    x = method("DEQ", tol=1e-14, max_layers=50_000).deploy(problem, batch.observation)
    jacobian = torch.autograd.functional.jacobian(T, x, vectorize=True)
    jacobian = jacobian.reshape(x.numel(), x.numel())
    leaf = x.clone().requires_grad_()
    image, theta = T(x), list(problem.theta().values())
    options = {"allow_unused": True, "materialize_grads": True}
    loss = upper_loss(problem, leaf, batch)
    g, *direct = torch.autograd.grad(loss, [leaf, *theta], **options)
    g = g.flatten()

    def series(terms):
        w, power = torch.zeros_like(g), g
        for _ in range(terms):
            w, power = w + power, jacobian.T @ power
        parts = torch.autograd.grad(image, theta, w.view_as(image), retain_graph=True)
        return torch.cat([(p + q).flatten() for p, q in zip(parts, direct, strict=True)])

    def flat(estimator):
        found = estimator.hypergradient(problem, batch)
        return torch.cat([p.flatten() for p in found.gradient])

    assert relative_error(flat(method("JFB", tol=1e-14, max_layers=50_000)), series(1)) < 1e-6
    restarted = method("Restarted-JFB", restarts=200, layers=4)
    assert relative_error(flat(restarted), series(4)) < 1e-6


@cache
def shared_task(lower, degradation):
    return small_task(lower=lower, degradation=degradation)


#: few layers: what is asked for is that it runs
CHEAP = {
    "max_layers": 4,
    "restarts": 2,
    "layers": 3,
    "directions": 2,
    "memory": 2,
    "inner_steps": 2,
    "f_max_iter": 5,
    "b_max_iter": 5,
    "max_iter": 5,
    "max_iter_backward": 5,
    "evaluate_every": 1,
    "gradient": "implicit(max_steps=4)",
}


def known_to(plugin, parameters):
    """Those of ``parameters`` that ``plugin`` has."""
    return {name: value for name, value in parameters.items() if name in plugin.parameters}


def cheap(plugin, **parameters):
    """An instance with ``CHEAP`` and ``parameters``, as far as it has them."""
    return plugin.get_instance(**known_to(plugin, CHEAP | parameters))


def learns(plugin, lower, degradation):
    """Two outer steps: finite, θ moves, the task does not."""
    task = shared_task(lower, degradation)
    solver = cheap(plugin, steps=2)
    solver.set_objective(task)
    before = {name: p.clone() for name, p in task.lower.theta().items()}
    solver.run(iter_callback(3))
    result = solver.get_result()
    assert (result["training"].status, result["outer_step"]) == ("ok", 2)
    for name, value in result["theta"].items():
        assert value.isfinite().all()
        # what looks at F stays where it is unless it finds better
        looks = isinstance(solver, SearchMethod | InexactDescent)
        assert looks or not torch.equal(value, before[name])
        assert torch.equal(task.lower.theta()[name], before[name]), "the shared task has changed"


def one_each(specs):
    """The last spec of each name."""
    return sorted({spec.partition("(")[0]: spec for spec in specs}.values())


#: of families those with more options, of operators those that take less time
FAMILIES = one_each(LOWER_SPECS + MORE_LOWER_SPECS)
OPERATORS = one_each(reversed(DEGRADATION_SPECS + MORE_DEGRADATION_SPECS))
PAIRS = covering(
    {
        "name": sorted(plugins()),
        "lower": FAMILIES,
        "degradation": OPERATORS,
    }
)


@pytest.mark.filterwarnings("ignore::benchmark.solve.convergence.NotConverged")
@pytest.mark.parametrize(("name", "lower", "degradation"), PAIRS)
def test_every_method_runs_on_every_lower_level_and_operator(name, lower, degradation):
    """All pairs of them."""
    learns(plugins()[name], lower, degradation)


def iter_callback(calls):
    remaining = iter(range(calls))
    return lambda: next(remaining, None) is not None


def test_the_stepsize_gradient_vanishes_in_a_convex_problem():
    spec = "wavelet_l1(wavelet='db2',levels=2,ridge=0.1,stepsize=1.2,learn_stepsize=True)"
    task = small_task(lower=spec, degradation="inpainting(keep=0.5)")
    estimate = method("DEQ", **TIGHT).hypergradient(task.lower, task.probe)
    gradient = dict(zip(task.lower.theta(), estimate.gradient, strict=True))
    assert gradient["log_weights"].norm() > 1e-4
    assert abs(gradient["stepsize_logit"].item()) < 1e-11
    truncated = method("Unrolling", layers=3).hypergradient(task.lower, task.probe)
    truncated = dict(zip(task.lower.theta(), truncated.gradient, strict=True))
    assert abs(truncated["stepsize_logit"].item()) > 1e-6


# --- the contract of a plugin, whichever it is ------------------------------------------------


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
    task = shared_task(LOWER_SPECS[2], "inpainting(keep=0.5)")
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


# --- the same through ``hypergradient``, for methods that are no states with a graph too ----------


def flat(found) -> torch.Tensor:
    return torch.cat([g.flatten() for g in found.gradient])


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
    oracle = AffineLayer.make(kappa=0.9, samples=3)
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
    oracle = AffineLayer.make(kappa=0.9)
    solvers = [gradient_method.get_instance() for _ in range(2)]
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


# --- what is said when something is wrong -----------------------------------------------------


def test_a_solve_that_stops_early_says_so():
    oracle = AffineLayer.make(kappa=0.99)
    with pytest.warns(NotConverged, match=r"the equilibrium did not converge for 3 of 3 samples"):
        method("JFB", max_layers=5).equilibrium(oracle.layer(), torch.zeros_like(oracle.y))
    oracle = AffineLayer.make(kappa=2.5)
    with pytest.warns(NotConverged, match="relative residual"):
        x = method("DEQ", max_layers=30).equilibrium(oracle.layer(), torch.zeros_like(oracle.y))
    assert x.shape == oracle.y.shape


@pytest.mark.parametrize(
    ("name", "parameter", "value", "expected"),
    [
        ("Unrolling", "layers", 0, "layers must be an integer of at least 1, got 0"),
        ("Restarted-JFB", "restarts", -1, "restarts must be an integer of at least 0, got -1"),
        ("JFB", "tol", -1e-3, "tol must be a positive number, got -0.001"),
        ("DEQ", "adjoint_tol", "1e-6", "got '1e-6' (YAML reads 1e-6 as text: write 1.0e-6)"),
        ("DEQ", "adjoint_solver", "lu", "unknown adjoint solver 'lu': expected one of "),
        ("DEQ", "equilibrium_solver", "x", "unknown equilibrium solver 'x': expected one of "),
        ("JFB", "learning_rate", 0, "learning_rate must be a positive number, got 0"),
        ("JFB", "optimizer", "lion", "unknown optimizer 'lion': expected one of "),
        ("JFB", "steps", 2.5, "steps must be an integer of at least 0, got 2.5"),
    ],
)
def test_bad_parameters_are_named(name, parameter, value, expected):
    with pytest.raises(ValueError) as raised:
        method(name, **{parameter: value})
    assert expected in str(raised.value)
    assert name in str(raised.value)
