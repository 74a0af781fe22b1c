"""Outer optimizers, schedules, groups and projections that a text names; a run with files."""

import json

import pytest
import torch
from benchopt.cli.main import run as benchopt_run
from benchopt.results import read_results
from click.testing import CliRunner
from conftest import ROOT, plugins, small_task
from shared import without_costs
from test_losses import CHARBONNIER, WORST
from torch import nn
from torch.optim import lr_scheduler

from benchmark.measure.failure import DivergedError
from benchmark.plugins.descent import OPTIMIZERS, Descent

RATE = 0.05
LINES = "line_search_fn='strong_wolfe'"
#: torch's that take gradients as they come, of vectors
ORDINARY = sorted(set(OPTIMIZERS) - {"LBFGS", "SparseAdam", "Muon", "adam", "gradient_descent"})
SIGNS = '''\
"""Steps along the signs of the gradient."""

import torch


class Signs(torch.optim.Optimizer):
    def __init__(self, params, lr, shrink=0.5):
        super().__init__(params, {"lr": lr, "shrink": shrink})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * parameter.grad.sign()
            group["lr"] *= group["shrink"]
'''


def leaves(**sizes):
    return {name.replace("__", "."): nn.Parameter(torch.ones(n)) for name, n in sizes.items()}


def of(theta):
    """Sets the gradient of Σ (p − 3)⁴ and returns it, counting its calls."""

    def gradient():
        gradient.calls += 1
        loss = sum(((p - 3) ** 4).sum() for p in theta.values())
        for p, g in zip(theta.values(), torch.autograd.grad(loss, [*theta.values()]), strict=True):
            p.grad = g
        return loss.detach()

    gradient.calls = 0
    return gradient


def moved(theta, steps=3, **options):
    """θ after some steps of a Descent, by name."""
    descent = Descent(theta, **{"optimizer": "adam", "learning_rate": RATE} | options)
    gradient = of(theta)
    for _ in range(steps):
        descent.step(gradient)
    return {name: p.detach().clone() for name, p in theta.items()}


# --- optimizers and schedules -----------------------------------------------------------------


@pytest.mark.parametrize("name", ORDINARY)
def test_each_of_torch_s_takes_its_own_steps(name):
    theta, direct = leaves(a=2, b=1), leaves(a=2, b=1)
    optimizer, gradient = getattr(torch.optim, name)([*direct.values()], lr=RATE), of(direct)
    for _ in range(3):
        gradient()
        optimizer.step()
    for spelled in (name, name.lower(), f"torch.{name}"):
        found = moved(leaves(a=2, b=1), optimizer=spelled)
        assert all(torch.equal(found[n], direct[n]) for n in theta)


def test_options_are_the_optimizer_s():
    direct = leaves(a=2)
    optimizer, gradient = (
        torch.optim.AdamW([*direct.values()], lr=RATE, weight_decay=0.3),
        of(direct),
    )
    gradient()
    optimizer.step()
    found = moved(leaves(a=2), steps=1, optimizer="AdamW(weight_decay=0.3)")
    assert torch.equal(found["a"], direct["a"])
    plain = moved(leaves(a=2), steps=1, optimizer="AdamW(weight_decay=0)")
    assert not torch.equal(found["a"], plain["a"])


@pytest.mark.parametrize(
    ("schedule", "made"),
    [
        ("StepLR(step_size=2)", lambda o: lr_scheduler.StepLR(o, step_size=2)),
        ("exponentiallr(gamma=0.5)", lambda o: lr_scheduler.ExponentialLR(o, gamma=0.5)),
        ("torch.CosineAnnealingLR(T_max=4)", lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=4)),
    ],
)
def test_schedules_are_torch_s(schedule, made):
    theta = leaves(a=1)
    descent = Descent(theta, optimizer="sgd", learning_rate=RATE, schedule=schedule)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=RATE)
    expected, gradient = made(optimizer), of(theta)
    for _ in range(5):
        assert descent.optimizer.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
        descent.step(gradient)
        optimizer.step()
        expected.step()
    assert optimizer.param_groups[0]["lr"] != RATE


def test_a_plateau_is_one_of_the_loss():
    theta = leaves(a=1)
    options = {"learning_rate": RATE, "schedule": "ReduceLROnPlateau(factor=0.5,patience=0)"}
    descent = Descent(theta, optimizer="sgd", **options)
    rates = []
    for loss in (3.0, 2.0, 2.5, 1.0):
        theta["a"].grad = torch.zeros(1)
        descent.step(lambda loss=loss: torch.tensor(loss))
        rates.append(descent.optimizer.param_groups[0]["lr"])
    assert rates == [RATE, RATE, RATE / 2, RATE / 2]


# --- a search along lines ---------------------------------------------------------------------


def test_lbfgs_reaches_the_minimiser_in_few_steps():
    """Of F of a closed form; what it evaluates on the way is counted, and carried over."""
    task = small_task(lower="tikhonov(wavelet='haar',levels=1)")
    options = {"optimizer": f"LBFGS({LINES},tolerance_grad=1e-12,tolerance_change=0)"}
    solver = plugins()["DEQ"].get_instance(steps=3, learning_rate=1.0, warm_start=True, **options)
    solver.set_objective(task)
    start = solver.hypergradient_on_probe(task.lower, task.probe)
    solver.run(lambda: True)
    assert solver.outcome.ok, solver.outcome.message
    end = solver.hypergradient_on_probe(solver.lower, task.train)
    assert end.loss < 0.9 * start.loss
    sizes = [float(torch.cat([*found.gradient]).norm()) for found in (start, end)]
    assert sizes[1] < 1e-7 * sizes[0]
    # warm: the last hypergradients, at a θ that hardly moves, cost next to nothing
    cold = plugins()["DEQ"].get_instance(steps=3, learning_rate=1.0, **options)
    cold.set_objective(task)
    cold.run(lambda: True)
    assert solver.counted.layer_evals < cold.counted.layer_evals
    one = plugins()["DEQ"].get_instance(steps=1)
    one.set_objective(task)
    one.run(lambda: True)
    assert cold.counted.layer_evals > 3 * one.counted.layer_evals


def test_an_optimizer_asks_as_often_as_it_needs(file):
    gradient = of(theta := leaves(a=1))
    Descent(theta, optimizer="adam", learning_rate=RATE).step(gradient)
    assert gradient.calls == 1
    Descent(theta, optimizer="LBFGS(max_iter=4)", learning_rate=RATE).step(gradient)
    assert gradient.calls > 3


# --- groups and projections -------------------------------------------------------------------


def test_groups_move_what_they_should():
    names = {"log_weights": 2, "net__first__weight": 2, "net__last__bias": 1, "pace": 1}
    plain = moved(leaves(**names))
    found = moved(leaves(**names), groups="net.first(lr=0), *.bias(lr=0.01), pace(lr=0.0)")
    assert torch.equal(found["log_weights"], plain["log_weights"])
    assert torch.equal(found["net.first.weight"], torch.ones(2))
    assert torch.equal(found["pace"], torch.ones(1))
    slow = moved(leaves(a=1), learning_rate=0.01)["a"]
    assert torch.equal(found["net.last.bias"], slow)
    all_of_them = moved(leaves(**names), groups="net(lr=0),log_weights(lr=0), pace(lr=0)")
    assert all((value == 1).all() for value in all_of_them.values())


def test_a_projection_holds_after_each_step(file):
    assert moved(leaves(a=2), steps=9, projection="box(low=-1, high=1.125)")["a"].max() == 1.125
    only_a = file(
        "def only(value, name):\n    return value.clamp(max=1) if name == 'a' else value\n"
    )
    found = moved(leaves(a=1, b=1), projection=only_a)
    assert found["a"] == 1 and found["b"] > 1


def test_the_nearest_without_negative_entries():
    theta = {"a": nn.Parameter(torch.tensor([-2.0, 2.0]))}
    theta["a"].grad = torch.zeros(2)
    options = {"optimizer": "sgd", "learning_rate": RATE, "projection": "nonnegative"}
    Descent(theta, **options).step(lambda: torch.zeros(()))
    assert theta["a"].tolist() == [0.0, 2.0]


# --- what is wrong is said --------------------------------------------------------------------


HEAD = "import torch\nclass Mine(torch.optim.Optimizer):\n    def __init__(self, params, lr):\n"
MADE = f"{HEAD}        super().__init__(params, {{'lr': lr}})\n"


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        ("def mine(things):\n    return 0\n", r"TypeError: mine\(\) missing 1 required .*'things'"),
        ("def mine(params, lr):\n    return 0\n", "made a int that is no torch optimizer"),
        ("class Mine:\n    pass\n", "made a Mine that is no torch optimizer"),
        (f"{HEAD}        pass\n", "or was not initialised as one: expected a subclass"),
        (f"{MADE}    def step(self):\n        1 / 0\n", "ZeroDivisionError: division by zero"),
        (f"{MADE}    def step(self, a, b):\n        pass\n", r"TypeError: .*missing 2 required"),
        (f"{MADE}    def step(self, closure):\n        pass\n", "without calling its closure"),
        (
            f"{MADE}    def step(self):\n        p = self.param_groups[0]['params'][0]\n"
            "        p.data = torch.zeros(5)\n",
            r"left a in shape \(5,\), expected \(2,\)",
        ),
        ("raise OSError('at import')\n", "line 1: OSError: at import: expected a subclass"),
    ],
)
def test_a_broken_optimizer_is_named(optimizer, said, file):
    path = file(optimizer)
    with pytest.raises(ValueError, match=said) as raised:
        moved(leaves(a=2), optimizer=path)
    assert path in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def mine(x):\n    return x\n", r"missing 1 required positional argument: 'x'"),
        ("def mine(value):\n    value.clamp_(0)\n", "returned None for a, expected a tensor of"),
        ("def mine(value):\n    return value[:1]\n", r"returned \(1,\) for a, .* shape \(2,\)"),
        ("def mine(value):\n    return value.no\n", "AttributeError"),
        ("import nothing_there\n", "line 1: ModuleNotFoundError"),
        ("box(low=1, high=0)", "low must be at most high, got 1 and 0"),
        ("ball", "unknown projection 'ball': expected one of box, nonnegative or FILE.py"),
    ],
)
def test_a_broken_projection_is_named(text, said, file):
    path = file(text) if "\n" in text else text
    with pytest.raises(ValueError, match=said) as raised:
        moved(leaves(a=2), projection=path)
    assert path in str(raised.value) or path.startswith("box")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"groups": "a(lr=0), none(lr=1)"},
            "no parameter is left for 'none' in .* pattern of a, b",
        ),
        ({"groups": "a(lr=0), a(lr=1)"}, "no parameter is left for 'a'"),
        ({"groups": "a=0.1"}, r"a group is written PATTERN\(lr=…, …\), got 'a=0.1'"),
        ({"groups": "a(rate=1)"}, "groups give rate, which optimizer 'adam' has not: .* lr, betas"),
        ({"groups": "a(lr=-1)"}, "lr of a group must be a number of at least 0, got -1.0"),
        ({"groups": "a(lr=1)", "optimizer": "LBFGS"}, "LBFGS doesn't support per-parameter"),
        ({"schedule": "StepLR"}, "schedule 'StepLR': TypeError: .* 'step_size'"),
        ({"schedule": "StepsLR(a=1)"}, "unknown schedule 'StepsLR': .*did you mean StepLR"),
        ({"optimizer": "adma"}, "unknown optimizer 'adma': .*did you mean Adamax"),
        ({"optimizer": "adam(lr=1)"}, "optimizer 'adam' has no option 'lr'"),
    ],
)
def test_what_cannot_be_made_is_said(options, said):
    with pytest.raises(ValueError, match=said):
        moved(leaves(a=1, b=1), **options)


def test_a_broken_schedule_is_named(file):
    for text, said in {
        "def mine(optimizer):\n    return 3\n": "is 3: expected a subclass of torch.optim.lr_sch",
        "class Mine:\n    def __init__(self, optimizer):\n        pass\n"
        "    def step(self):\n        1 / 0\n": "ZeroDivisionError",
    }.items():
        path = file(text)
        with pytest.raises(ValueError, match=said) as raised:
            moved(leaves(a=2), schedule=path)
        assert path in str(raised.value)


@pytest.mark.parametrize("optimizer", ["adam", "LBFGS"])
def test_errors_of_the_method_pass_as_they_are(optimizer):
    def gradient():
        raise DivergedError("the gradient is not finite")

    with pytest.raises(DivergedError, match=r"^the gradient is not finite$"):
        Descent(leaves(a=1), optimizer=optimizer, learning_rate=RATE).step(gradient)


# --- runs -------------------------------------------------------------------------------------


def test_brought_files_are_in_a_run_and_broken_ones_stop_no_other(file, tmp_path, monkeypatch):
    without_costs(monkeypatch)
    loss, signs = file(CHARBONNIER, "charbonnier.py"), file(SIGNS, "signs.py")
    worst, broken = file(WORST, "worst.py"), file("raise OSError('at import')\n", "broken.py")
    failing = "def failing(a, b):\n    1 / 0\nfailing.higher_is_better = True\n"
    descent = {"groups": ["log_weights(lr=0.25)"], "projection": ["box(low=-3, high=0)"]}
    objective = {
        "lower": ["tikhonov(wavelet='haar',levels=1)"],
        "loss": [f"{loss}(eps=0.1)", broken],
        "metrics": [f"{worst}, {file(failing, 'failing.py')}"],
    }
    config = {
        "seed": 0,
        "objective": [{"Learning at equilibrium": objective}],
        "dataset": [{"Simulated": {"size": [8]}}],
        "solver": [
            {"JFB": {"steps": [1], "optimizer": [signs, broken], **descent}},
            {"JFB": {"steps": [1], "schedule": [broken]}},
        ],
    }
    path, parquet = tmp_path / "config.yml", tmp_path / "rows.parquet"
    path.write_text(json.dumps(config))
    command = [
        str(ROOT),
        "--config",
        str(path),
        "--no-plot",
        "--no-cache",
        "--output",
        str(parquet),
    ]
    result = CliRunner().invoke(benchopt_run, command)
    assert result.exit_code == 0, result.output
    assert f"upper loss '{broken}', line 1: OSError: at import" in result.output
    rows = read_results(parquet).rename(columns=lambda name: name.removeprefix("objective_"))
    rows = rows.loc[:, ~rows.columns.duplicated()]
    assert set(rows["loss"]) == {f"{loss}(eps=0.1)"}
    assert json.loads(rows["higher_is_better"].iloc[0]) == {"worst": False, "failing": True}
    assert (rows["metric_worst"] > 0).all() and rows["metric_failing"].isna().all()
    failed = rows["p_solver_optimizer"].eq(broken) | rows["p_solver_schedule"].eq(broken)
    assert len(rows[failed]) == 2 and set(rows[failed]["status"]) == {"error"}
    assert rows[failed]["message"].str.contains(broken).all()
    ended = rows[~failed]
    assert len(ended) == 2 and set(ended["status"]) == {"ok"}
    assert ended["message"].str.contains("ZeroDivisionError").all()
    start, end = (json.loads(text)["log_weights"] for text in ended["learned"])
    for before, after in zip(start, end, strict=True):  # a step of the group's rate either way
        assert min(abs(after - before - 0.25), abs(after - max(before - 0.25, -3))) < 1e-6
