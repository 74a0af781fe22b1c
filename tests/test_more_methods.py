"""Each method against what its docstring says that it computes, and each of its options."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import LOWER_SPECS, small_task
from oracles import AffineLayer, relative_error
from shared import flat, method

from benchmark.gradients.differences import as_vector
from benchmark.measure.counting import CountedProblem
from benchmark.measure.memory import live_memory
from benchmark.solve.fixed_point import iterate
from benchmark.solve.secants import Secants


def estimate(solver, oracle: AffineLayer) -> torch.Tensor:
    """ĝ on ``oracle``, in the units of its ``gradient``."""
    (gradient,) = solver.hypergradient(oracle.problem(), oracle.batch()).gradient
    return gradient / oracle.scale()


def cost(solver, lower, batch) -> tuple[int, int]:
    """The layers and the products with Jᵀ of one hypergradient."""
    counted = CountedProblem(lower)
    solver.hypergradient(counted, batch)
    return counted.layer_evals, counted.vjp_evals


# --- the truncated Neumann series ---------------------------------------------------------------


@pytest.mark.parametrize("terms", [1, 2, 3, 10])
def test_neumann_is_the_truncated_series(terms):
    oracle = AffineLayer.make(kappa=0.8)
    found = estimate(method("Neumann", tol=1e-14, terms=terms), oracle)
    assert relative_error(found, oracle.gradient(terms=terms)) < 1e-11


def test_neumann_needs_one_graph_and_as_many_products_as_terms():
    task = small_task(lower=LOWER_SPECS[2])

    def memory(name, **options):
        solver = method(name, **options)
        return live_memory(lambda: solver.hypergradient(task.lower, task.probe))

    short, long = (method("Neumann", terms=terms) for terms in (2, 12))
    layers, products = cost(short, task.lower, task.probe)
    assert cost(long, task.lower, task.probe) == (layers, products + 10)
    assert memory("Neumann", terms=30) <= memory("Neumann", terms=3)
    assert memory("Neumann", terms=30) < memory("Restarted-JFB", restarts=1, layers=60) / 2


# --- the phantom gradient -----------------------------------------------------------------------


@pytest.mark.parametrize("damping", [0.3, 1.0])
@pytest.mark.parametrize("layers", [1, 4])
def test_phantom_is_the_series_of_the_damped_layer(layers, damping):
    oracle = AffineLayer.make(kappa=0.8)
    found = estimate(method("Phantom", tol=1e-14, layers=layers, damping=damping), oracle)
    g = (oracle.equilibrium() - oracle.target).flatten(1).T
    damped = (1 - damping) * torch.eye(len(g), dtype=g.dtype) + damping * oracle.matrix.T
    w = sum(torch.linalg.matrix_power(damped, k) @ g for k in range(layers))
    assert relative_error(found, damping * (oracle.injection.T @ w).sum(1)) < 1e-11


# --- checkpointed unrolling ---------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 7, 9, 10])
def test_checkpointed_unrolling_is_unrolling(layers):
    task = small_task(lower=LOWER_SPECS[4], degradation="inpainting(keep=0.5)")
    plain, checkpointed = (
        method(name, layers=layers).hypergradient(task.lower, task.probe)
        for name in ("Unrolling", "Checkpointed-Unrolling")
    )
    assert torch.equal(checkpointed.state, plain.state)
    assert torch.equal(checkpointed.loss, plain.loss)
    assert relative_error(flat(checkpointed), flat(plain)) < 1e-13


def test_checkpointed_unrolling_gives_time_for_memory():
    task = small_task(lower=LOWER_SPECS[2])
    memory = {}
    for name in ("Unrolling", "Checkpointed-Unrolling"):
        solver = method(name, layers=400)
        memory[name] = live_memory(lambda s=solver: s.hypergradient(task.lower, task.probe))
        layers, products = cost(solver, task.lower, task.probe)
        assert (layers, products) == (400 if name == "Unrolling" else 800, 400)
    # 20 graphs and 20 states instead of 400 graphs
    assert memory["Checkpointed-Unrolling"] < memory["Unrolling"] / 3


# --- tolerances that fall -----------------------------------------------------------------------


@pytest.mark.parametrize("decrease", ["exponential", "quadratic", "cubic"])
def test_the_error_of_hoag_falls_with_the_outer_step(decrease):
    oracle = AffineLayer.make(kappa=0.9)
    problem, batch = oracle.problem(), oracle.batch(index=(0, 1, 2))
    solver = method("HOAG", decrease=decrease)
    errors = [
        relative_error(flat(solver.hypergradient(problem, batch)) / oracle.scale(), exact)
        for exact in [oracle.gradient()] * 60
    ]
    # ε₅₉ is 2e-4, 3e-5 and 5e-7, and the error within 1/(1 − κ)² of it
    last = {"exponential": 0.9**59, "quadratic": 60.0**-2, "cubic": 60.0**-3}[decrease]
    assert errors[-1] < 100 * 0.1 * last
    assert errors[-1] < errors[0] / 20


def test_hoag_at_its_smallest_tolerance_is_deq():
    oracle = AffineLayer.make(kappa=0.9)
    found = estimate(method("HOAG", first_tol=1e-13, tol=1e-13), oracle)
    assert relative_error(found, oracle.gradient()) < 1e-10
    floor = estimate(method("HOAG", first_tol=1e-13, tol=1e-2), oracle)
    assert relative_error(floor, oracle.gradient()) > 1e-6


def test_hoag_starts_from_where_it_was():
    oracle = AffineLayer.make(kappa=0.95)
    problem, batch = oracle.problem(), oracle.batch(index=(0, 1, 2))

    def second(**options):
        solver = method("HOAG", first_tol=1e-8, **options)
        solver.hypergradient(problem, batch)
        return cost(solver, problem, batch)

    (layers, products), (cold_layers, cold_products) = second(), second(warm_start=False)
    assert layers < cold_layers / 2
    assert products < cold_products / 2


def test_the_solvers_of_hoag_are_those_named():
    oracle = AffineLayer.make(kappa=0.95)
    problem, batch = oracle.problem(), oracle.batch()
    spec = {"first_tol": 1e-6}
    layers, products = cost(method("HOAG", **spec), problem, batch)
    assert cost(method("HOAG", **spec, equilibrium_solver="picard"), problem, batch)[0] != layers
    assert cost(method("HOAG", **spec, adjoint_solver="neumann"), problem, batch)[1] != products


# --- the single loop ----------------------------------------------------------------------------


@pytest.mark.parametrize("inner_steps", [1, 4])
def test_the_single_loop_converges_to_the_exact_gradient(inner_steps):
    oracle = AffineLayer.make(kappa=0.7)
    problem, batch = oracle.problem(), oracle.batch(index=(0, 1, 2))
    solver = method("Single-Loop", inner_steps=inner_steps)
    once = method("Single-Loop", inner_steps=inner_steps)
    assert cost(once, problem, batch) == (inner_steps + 1, inner_steps + 1)
    errors = []
    for _ in range(120 // inner_steps):
        found = flat(solver.hypergradient(problem, batch)) / oracle.scale()
        errors.append(relative_error(found, oracle.gradient()))
    assert errors[0] > 1e-3
    assert errors[-1] < 1e-12


def test_the_single_loop_keeps_a_state_for_each_image():
    """Two halves in turn end where the whole does; without names it starts anew each time."""
    oracle = AffineLayer.make(kappa=0.7)
    problem, batch = oracle.problem(), oracle.batch(index=(0, 1, 2))
    whole, halves = method("Single-Loop"), method("Single-Loop")
    for _ in range(3):
        expected = whole.hypergradient(problem, batch)
        parts = [halves.hypergradient(problem, batch[part]) for part in ([0], [1, 2])]
    assert relative_error(torch.cat([part.state for part in parts]), expected.state) < 1e-14
    nameless = [whole.hypergradient(problem, oracle.batch()) for _ in range(2)]
    assert torch.equal(nameless[0].state, nameless[1].state)


def test_the_single_loop_is_deployed_at_the_equilibrium():
    oracle = AffineLayer.make(kappa=0.7)
    x = method("Single-Loop", tol=1e-13).deploy(oracle.problem(), oracle.y)
    assert relative_error(x, oracle.equilibrium()) < 1e-11


def met_in_turn(name: str, rounds: int, **options):
    """What is estimated on three pairs of six images in turn, at a fixed θ, in the last round; ∇F
    of each pair, and of all, in closed form.
    """
    oracle = AffineLayer.make(kappa=0.7, samples=6)
    problem, batch = oracle.problem(), oracle.batch(index=tuple(range(6)))
    solver = method(name, **options)
    pairs = [batch[[i, i + 1]] for i in (0, 2, 4)]
    for _ in range(rounds):
        found = [flat(solver.hypergradient(problem, pair)) for pair in pairs]
    alone = [
        replace(oracle, y=pair.observation, target=pair.truth).gradient() * 2 / pair.truth.numel()
        for pair in pairs
    ]
    return found, alone, oracle.gradient() * oracle.scale()


def test_at_a_fixed_theta_saba_has_the_gradient_of_all_images_on_each_mini_batch():
    """Where the single loop has that of the mini-batch, which is far from it."""
    found, _, exact = met_in_turn("SABA", 30)
    assert all(relative_error(each, exact) < 1e-10 for each in found)
    found, alone, exact = met_in_turn("Single-Loop", 30)
    assert all(relative_error(*pair) < 1e-10 for pair in zip(found, alone, strict=True))
    assert all(relative_error(each, exact) > 0.1 for each in found)


def test_saba_starts_as_the_single_loop_and_costs_a_graph_for_each_image():
    oracle = AffineLayer.make(kappa=0.7)
    problem, batch = oracle.problem(), oracle.batch(index=(0, 1, 2))
    first, other = (method(name).hypergradient(problem, batch) for name in ("SABA", "Single-Loop"))
    assert relative_error(flat(first), flat(other)) < 1e-12
    assert cost(method("SABA", inner_steps=4), problem, batch) == (4 + 3, 3 * 5)


# --- the shared inverse -------------------------------------------------------------------------


def test_shine_is_exact_where_its_steps_span_everything():
    oracle = AffineLayer.make(kappa=0.9, shape=(4,))
    spec = {"tol": 1e-12}
    jfb, short, long = (
        relative_error(estimate(each, oracle), oracle.gradient())
        for each in (method("JFB"), method("SHINE", memory=1, **spec), method("SHINE", **spec))
    )
    assert long < 1e-8 < short < jfb


def test_the_adjoint_of_shine_is_never_further_off_than_that_of_jfb():
    """For an affine layer: its error is a projection of the other's, smaller with each memory."""
    oracle = AffineLayer.make(kappa=0.95, samples=1)
    g = oracle.loss_gradient()
    w = torch.linalg.solve(torch.eye(g.numel(), dtype=g.dtype) - oracle.matrix.T, g.flatten())
    errors = [float((g.flatten() - w).norm())]
    for memory in (2, 5, 10, 20):
        secants = Secants(oracle.layer(), memory=memory, tol=1e-12)
        iterate(secants, torch.zeros_like(oracle.y), steps=21)
        errors.append(float((secants.adjoint(g).flatten() - w).norm()))
    assert errors[1] < errors[0]
    assert errors[-1] < 0.9 * errors[0]


def test_shine_is_closer_than_jfb_on_average():
    errors = {"SHINE": [], "JFB": []}
    for lower in (LOWER_SPECS[0], *LOWER_SPECS[2:5]):
        for degradation in ("inpainting(keep=0.5)", "deblurring(width=0.8)"):
            task = small_task(lower=lower, degradation=degradation, size=8)
            exact = method("DEQ").hypergradient(task.lower, task.probe)
            for name, found in errors.items():
                rough = method(name, max_layers=5000).hypergradient(task.lower, task.probe)
                found.append(relative_error(flat(rough), flat(exact)))
    shine, jfb = torch.tensor(errors["SHINE"]), torch.tensor(errors["JFB"])
    assert shine.mean() < 0.8 * jfb.mean()
    assert (shine < jfb).float().mean() > 0.7


def test_shine_falls_back_to_jfb_where_its_estimate_is_large():
    oracle = AffineLayer.make(kappa=0.9)
    jfb = estimate(method("JFB", tol=1e-12), oracle)
    spec = {"tol": 1e-12, "equilibrium_solver": "fista"}
    assert relative_error(estimate(method("SHINE", **spec, fallback=1e-6), oracle), jfb) < 1e-10
    free, loose = (method("SHINE", **spec, fallback=f) for f in (None, 1e6))
    assert torch.equal(estimate(free, oracle), estimate(loose, oracle))
    assert relative_error(estimate(free, oracle), jfb) > 1e-2


# --- search -------------------------------------------------------------------------------------


def searched(number: int, **options):
    """The trials of ``number`` steps on a small task."""
    pytest.importorskip("optuna")
    solver = method("TPE", steps=number, **options)
    task = small_task(lower=LOWER_SPECS[2], size=8)
    solver.set_objective(task)
    solver.run(lambda: True)
    assert solver.outcome.ok, solver.outcome.message
    return task, solver


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_search_stays_in_its_box_and_keeps_the_best(sampler):
    task, solver = searched(15, span=2.0, sampler=sampler)
    start = as_vector(task.lower.theta().values())
    moves = [as_vector(at.theta().values()) - start for at in (task.lower, solver.lower)]
    assert moves[0].abs().max() == 0
    trials = [torch.cat([v.flatten() for v in trial.theta.values()]) for trial in solver.tried]
    assert torch.equal(trials[0], start)
    assert all((trial - start).abs().max() <= 2.0 for trial in trials)
    assert len({tuple(trial.tolist()) for trial in trials}) == 15
    values = [trial.value for trial in solver.tried]
    assert torch.equal(as_vector(solver.lower.theta().values()), trials[values.index(min(values))])


def test_a_proposal_is_a_function_of_what_was_tried():
    task, solver = searched(12)
    first, again = (solver.propose(task.lower, solver.tried) for _ in range(2))
    (name,) = first
    assert torch.equal(first[name], again[name])
    random = searched(12, sampler="random")[1]
    # the first ten after the start are uniform with both
    assert all(torch.isfinite(trial.theta[name]).all() for trial in random.tried)
    worse = [replace(trial, value=-trial.value) for trial in solver.tried]
    assert not torch.equal(solver.propose(task.lower, worse)[name], first[name])
    same = random.propose(task.lower, random.tried)
    worse = [replace(trial, value=-trial.value) for trial in random.tried]
    assert torch.equal(random.propose(task.lower, worse)[name], same[name])


def test_a_search_of_a_failed_trial_goes_on():
    task, solver = searched(12)
    tried = [*solver.tried[:-1], replace(solver.tried[-1], value=float("inf"))]
    assert all(v.isfinite().all() for v in solver.propose(task.lower, tried).values())


def test_a_search_in_many_dimensions_is_refused():
    task, _ = searched(1)
    refusing = method("TPE", max_parameters=5)
    refusing.set_objective(task)
    with pytest.raises(ValueError, match="6 parameters are learned, max_parameters is 5"):
        refusing.propose(task.lower, [])


# --- options that several methods share ---------------------------------------------------------

TO_A_TOLERANCE = ["Neumann", "Phantom", "Finite-Differences", "SPSA", "Forward-Mode", "SHINE"]


@pytest.mark.parametrize("name", TO_A_TOLERANCE)
def test_the_tolerance_and_the_bound_on_layers_are_kept(name):
    oracle = AffineLayer.make(kappa=0.95)
    problem, batch = oracle.problem(), oracle.batch()
    loose, tight = (cost(method(name, tol=tol), problem, batch)[0] for tol in (1e-2, 1e-10))
    assert loose < tight
    with pytest.warns(UserWarning, match="did not converge"):
        assert cost(method(name, max_layers=4), problem, batch)[0] < tight


@pytest.mark.parametrize("name", TO_A_TOLERANCE)
def test_polish_is_what_meets_a_tolerance_in_float32(name):
    task = small_task(lower=LOWER_SPECS[2]).to(device=torch.device("cpu"), dtype=torch.float32)
    polished = method(name, tol=1e-10).hypergradient(task.lower, task.probe)
    assert flat(polished).dtype == polished.state.dtype == torch.float32
    with pytest.raises(ValueError, match="out of reach in float32"):
        method(name, tol=1e-10, polish=False).hypergradient(task.lower, task.probe)


@pytest.mark.parametrize(
    ("name", "parameter", "value", "expected"),
    [
        ("Neumann", "terms", 0, "terms must be an integer of at least 1, got 0"),
        ("Forward-Mode", "max_parameters", 0, "max_parameters must be an integer of at least 1"),
        ("Forward-Mode", "tangent_solver", "lu", "unknown adjoint solver 'lu'"),
        ("Finite-Differences", "step", 0, "step must be a positive number, got 0"),
        ("SPSA", "directions", 0, "directions must be an integer of at least 1, got 0"),
        ("SHINE", "memory", 0, "memory must be an integer of at least 1, got 0"),
        ("SHINE", "fallback", 0, "fallback must be a positive number, got 0"),
        ("HOAG", "decrease", "x", "one of cubic, exponential, quadratic, got 'x'"),
        ("HOAG", "first_tol", 0, "first_tol must be a positive number, got 0"),
        ("Single-Loop", "inner_steps", 0, "inner_steps must be an integer of at least 1, got 0"),
        ("Phantom", "damping", 1.5, "damping must be a number above 0, at most 1, got 1.5"),
    ],
)
def test_bad_parameters_are_named(name, parameter, value, expected):
    with pytest.raises(ValueError) as raised:
        method(name, **{parameter: value})
    assert expected in str(raised.value)
    assert name in str(raised.value)
