"""The study of training: when a run is at a target, which setting is best, and that loops of other
libraries solve the same problem.
"""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import asdict
from math import inf, nan

import pytest
import torch
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import layers
import native_loops as natives
import time_to_train as tool
import training_course as course
import training_table as table
from training_settings import Method, methods

from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.measure.truth import at_theta
from benchmark.plugins.task import make_task
from benchmark.problems.bilevel import upper_loss


def moments(seconds=1.0, evals=(1, 1)):
    """A course whose θ is the number of the step."""
    for step in itertools.count():
        spent = (seconds * step, seconds * step, evals[0] * step, evals[1] * step)
        yield natives.Moment(*spent, torch.tensor(float(step)))


def followed(loss, *, best=1.0, most_seconds=inf, **options):
    """A trial of that course with F a function of the step."""
    trial = course.Trial({}, 0.1)
    return course.followed(
        trial,
        moments(**options),
        lambda theta: loss(int(theta)),
        best=best,
        most_seconds=most_seconds,
    )


@pytest.mark.parametrize("first", [1, 2, 7, 15, 16])
def test_the_first_step_below_by_bisection_against_all(first):
    asked = []

    def value(step: int) -> float:
        asked.append(step)
        return float(step < first)

    assert course.first_below(value, 0, 16, limit=0.5) == first
    assert len(asked) <= 4


def test_a_run_is_at_its_targets_when_a_closed_form_says():
    trial = followed(lambda step: 1 + 0.5**step)
    # 0.5⁷ < 0.01 < 0.5⁶, 0.5¹⁰ < 0.001 < 0.5⁹, and 0.5¹¹ < 0.0005, where the run ends
    assert course.crossing(trial.values, 1.01) == 7
    assert course.crossing(trial.values, 1.001) == 10
    assert course.crossing(trial.values, 1.0) is None
    assert (trial.end, len(trial.seconds) - 1) == ("reached", 11)
    assert 5 not in trial.values  # far from the targets F is looked at now and then


@pytest.mark.parametrize(
    ("loss", "options", "end", "last"),
    [
        (lambda step: 2.0, {}, "settled", 23),
        (lambda step: 2.0 if step < 9 else 1.5, {}, "settled", 64),
        (lambda step: 2 / (1 + step), {"best": 1e-9}, "budget", course.STEPS),
        (lambda step: 2 / (1 + step), {"best": 1e-9, "evals": (1000, 300)}, "budget", 4),
        (lambda step: 2 / (1 + step), {"best": 1e-9, "most_seconds": 4.5}, "slower", 5),
        (lambda step: nan if step else 2.0, {}, "diverged", 1),
    ],
)
def test_how_runs_end_that_do_not_get_there(loss, options, end, last):
    trial = followed(loss, **options)
    assert (trial.end, len(trial.seconds) - 1) == (end, last)
    assert last in trial.values


def trial(rate, *, values, seconds=1.0, settings=None, end="budget"):
    """Of so many seconds a step, with F at some of them."""
    spent = [seconds * step for step in range(max(values) + 1)]
    counts = [*range(len(spent))]
    return course.Trial(settings or {}, rate, spent, spent, counts, counts, values, end)


def test_best_is_who_reaches_more_then_sooner_then_least():
    both = trial(0.1, values={0: 2.0, 4: 1.005, 20: 1.0005})
    faster = trial(0.1, values={0: 2.0, 4: 1.005, 20: 1.0005}, seconds=0.5)
    one = trial(0.3, values={0: 2.0, 1: 1.005})
    near, far = (trial(0.3, values={0: 2.0, 1: least}) for least in (1.02, 1.5))
    order = sorted([far, near, one, both, faster], key=lambda t: course.rank(t, 1.0))
    assert order == [faster, both, one, near, far]


def problem(number=0, **trials):
    """A problem with trials of methods, and nothing to run."""
    made = tool.Problem.__new__(tool.Problem)
    made.number, made.cell = number, tool.CELLS[0]
    kept = {f"{name}, warm": [asdict(t) for t in own] for name, own in trials.items()}
    rounds = [{} for _ in range(tool.ROUNDS)]
    made.kept = {"trials": kept, "rounds": rounds, "settled": {}, "reference": 1.0}
    made.kept = json.loads(json.dumps(made.kept)) | {"disagreement": 1e-7}
    return made


def test_other_settings_are_tried_with_the_best_rate_of_the_first():
    method = Method("M", "warm", ({"tol": 1}, {"tol": 2}, {"tol": 3}), (0.1, 0.03, 0.3))
    slow, quick = ({0: 2.0, step: 1.0} for step in (9, 3))
    runs = [trial(0.1, values=slow), trial(0.03, values=quick), trial(0.3, values={0: 2.0})]
    found = [*problem(M=runs).candidates(method, None)]
    rates = [rate for _, rate in found]
    assert [json.loads(settings)["tol"] for settings, _ in found] == [1, 1, 1, 2, 3]
    assert rates == [0.1, 0.03, 0.3, 0.03, 0.03]
    # the same at another size: the settings and rates that were best, for either target
    runs[0].values[1] = 1.005
    like = problem(M=runs)
    assert [rate for _, rate in problem(3, M=[]).candidates(method, like)] == [0.1, 0.03]
    # where none has been there, the one that came nearest
    far = [trial(rate, values={0: 2.0, 9: f}) for rate, f in ((0.1, 1.5), (0.03, 1.2), (0.3, 1.3))]
    assert [rate for _, rate in problem(3, M=[]).candidates(method, problem(M=far))] == [0.03]


def test_a_run_that_ended_as_there_is_run_again_where_the_best_known_has_fallen():
    there = trial(0.1, values={0: 2.0, 3: 1.0004}, end="reached")
    assert not problem(M=[there]).stale(there)
    assert problem(M=[there], N=[trial(0.1, values={0: 2.0, 1: 0.99})]).stale(there)


def test_tables_say_who_is_faster_by_how_much_and_who_never():
    fast, slow = (trial(0.1, values={0: 2.0, 5: 1.0}, seconds=s) for s in (1.0, 3.0))
    never = trial(0.1, values={0: 2.0, 5: 1.2})
    # of what was not run nothing is said
    not_run = {"HOAG": [], "native torchdeq": []}
    made = problem(JFB=[never], DEQ=[fast], **{"native deepinv": [slow]}, **not_run)
    for number, found in enumerate(made.kept["rounds"]):
        found[json.dumps(("DEQ, warm", {}, 0.1))] = [[2.0, 1.0], [2.0, 1.0]]
        found[json.dumps(("native deepinv, warm", {}, 0.1))] = [[9.0, 3.0 + number]] * 2
    rows = table.methods(made).set_index("method")
    assert list(rows.index) == ["DEQ, warm", "native deepinv, warm", "JFB, warm"]
    assert rows.loc["DEQ, warm", "within 1 %"] == "1.00 (2.00) s, 5 + 5"
    assert rows.loc["JFB, warm", "within 0.1 %"] == "never (+20.00%)"
    ratios = table.against(made)
    assert set(ratios["fastest method"]) == {"DEQ, warm"}
    assert set(ratios["processor"]) == {"4.0 (3.0 to 5.0)"} and set(ratios["wall"]) == {
        "4.5 (4.5 to 4.5)"
    }
    page = table.page([made], "digest")
    assert "Not tried on it: native deepinv, cold; " in page and "; DEQ, warm; " not in page
    assert "; HOAG, warm; " in page and "nan" not in page
    assert "Times of loops" in page and "Times of loops" not in table.page([problem()], "digest")
    assert len(table.trials([made])) == 3 and len(table.rounds([made])) == 12


def test_every_method_is_named_and_takes_its_settings():
    solvers = {cls.name: cls for cls in tool.Benchmark(ROOT).get_solvers()}
    left_out = {"Pair", "Checkpointed-Unrolling", "Finite-Differences"}
    named = {method.name for method in methods()}
    assert named - set(tool.LOOPS) == set(solvers) - left_out
    for method in (m for m in methods() if m.name in solvers):
        cls = solvers[method.name]
        for settings in method.settings if cls.is_installed(quiet=True) else ():
            solver = cls.get_instance(**settings)
            warm = getattr(solver, "warm_start", None)
            assert warm in (None, method.start == "warm") or method.name in ("Single-Loop", "SABA")


# --- loops of other libraries -----------------------------------------------------------------


HOLES, BLUR = "inpainting(keep=0.6)", "deblurring(width=1.0)"


@pytest.fixture(scope="module", params=[HOLES, BLUR])
def task(request):
    """Two small images in float64, θ different in each band."""
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    given = {"probe_size": 1, "seed": 0, "degradation": request.param}
    lower = "wavelet_l1(wavelet='haar',ridge=0.1)"
    made = make_task(train=images[:2], test=images[2:], lower=lower, **given)
    with torch.no_grad():
        made.lower.log_weights += torch.linspace(-1, 1, 9).view(3, 3, 1)
    return made


def test_layers_that_are_timed_against_each_other_are_the_same():
    pytest.importorskip("ptwt")
    found = {name: T(x) for name, T, x in layers.layers(32, 2)}
    assert len(found) == 5
    for name in ("deepinv", "wavelet_l1, dense", "wavelet_l1, bands"):
        torch.testing.assert_close(found[name], found["wavelet_l1"], rtol=0, atol=1e-5)


def test_deepinv_alone_solves_the_same_problem(task):
    pytest.importorskip("ptwt")
    theta, batch = task.lower.log_weights.detach(), task.train
    assert torch.equal(natives.as_ours(natives.as_native(theta)), theta)
    x = batch.truth
    theirs = natives.own_layer(task.lower, batch.observation)[0](x)
    torch.testing.assert_close(theirs, task.lower.step(x, batch.observation), rtol=0, atol=1e-7)
    found = true_equilibrium(task.lower, batch.observation, tol=1e-10)
    value = float(upper_loss(task.lower, found.x, batch))
    assert natives.loss(task, theta) == pytest.approx(value, rel=1e-5)
    assert course.TrainingLoss(task)(theta) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("task", [BLUR], indirect=True)
@pytest.mark.parametrize(
    "loop",
    [
        lambda task: natives.deepinv_loop(task, learning_rate=1e-3, thres_conv=1e-6),
        lambda task: natives.torchdeq_loop(task, learning_rate=1e-3, tol=1e-6, lam=0.0),
        lambda task: natives.library_loop(
            task, learning_rate=1e-3, tol=1e-6, adjoint_tol=1e-4, warm_start=True
        ),
    ],
    ids=["deepinv", "torchdeq", "library"],
)
def test_a_step_of_a_loop_goes_down_the_true_gradient(task, loop):
    """Adam's first step is the learning rate against the sign of each entry; its second tells more:
    both are those of torch's Adam on the reference.
    """
    pytest.importorskip("ptwt")
    pytest.importorskip("torchdeq")
    theta = task.lower.log_weights.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=1e-3)
    run = loop(task)
    start = next(run)
    assert (start.layers, start.products, start.busy) == (0, 0, 0.0)
    torch.testing.assert_close(start.theta.double(), theta.detach(), rtol=0, atol=1e-6)
    for _ in range(2):
        lower = at_theta(task.lower, {"log_weights": theta})
        exact = reference_hypergradient(lower, task.train).gradient
        theta.grad = exact.view_as(theta)
        optimizer.step()
        after = next(run)
    torch.testing.assert_close(after.theta.double(), theta.detach(), rtol=0, atol=5e-6)
    assert after.layers > 4 and after.products > 4 and after.busy > 0
