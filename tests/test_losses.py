"""Upper losses and metrics that a text names: values, gradients, messages of broken ones."""

import json
from math import isnan, nan

import pytest
import torch
from conftest import plugins
from torch import nn

from benchmark.imaging import metrics
from benchmark.imaging.extra_metrics import directions, make_metrics, measure_all
from benchmark.imaging.images import simulated
from benchmark.imaging.losses import UPPER_LOSSES, make_loss, require_loss
from benchmark.measure.evaluation import evaluate
from benchmark.measure.failure import Outcome
from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.measure.truth import Truth
from benchmark.plugins.task import make_task
from benchmark.problems.bilevel import upper_loss
from benchmark.problems.lower_level import set_theta

LOWER = "tikhonov(wavelet='haar',levels=1)"
CHARBONNIER = '''\
"""A smooth absolute error."""


def charbonnier(x_hat, x, *, eps=0.05):
    return ((x_hat - x).square() + eps**2).sqrt().flatten(1).mean(1)
'''
WORST = """\
def worst(x_hat, x):
    return (x_hat - x).abs().flatten(1).amax(1)


worst.higher_is_better = False
"""


def task_with(loss, lower=LOWER):
    train, test = simulated(number=2, size=16, seed=0), simulated(number=2, size=16, seed=1)
    degradation = "inpainting(keep=0.7)"
    return make_task(
        train=train,
        test=test,
        degradation=degradation,
        lower=lower,
        probe_size=2,
        seed=0,
        loss=loss,
    )


def images(number=3, size=16):
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(1)).double()


# --- losses -----------------------------------------------------------------------------------


def test_closed_forms():
    a, b = torch.tensor([0.2, 0.5]).double(), torch.tensor([0.6, 0.1]).double()
    x, y = (v.view(2, 1, 1, 1).expand(2, 3, 16, 16) for v in (a, b))
    expected = {
        "mse": (a - b) ** 2,
        "l1": (a - b).abs(),
        # two images without variance: the means alone are compared
        "ssim": 1 - (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4),
    }
    assert expected.keys() == UPPER_LOSSES.keys()
    for name, values in expected.items():
        loss = make_loss(name)
        torch.testing.assert_close(loss.of_each(x, y), values, rtol=1e-9, atol=0)
        torch.testing.assert_close(loss(x, y), values.mean(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["mse", "l1", "ssim", "deepinv.MAE", "file"])
def test_the_hypergradient_is_that_of_central_differences(name, file):
    """Of F itself, the loss at equilibria solved anew; and a method's estimate is the same."""
    task = task_with(f"{file(CHARBONNIER)}(eps=0.1)" if name == "file" else name)
    exact = hypergradient_of_central_differences(task)
    solver = plugins()["DEQ"].get_instance()
    solver.set_objective(task)
    found = solver.hypergradient_on_probe(task.lower, task.probe)
    assert metrics.gradient_error(torch.cat([*found.gradient]).flatten(), exact) < 1e-6


def hypergradient_of_central_differences(task):
    """The reference on the probe, which must agree with F at θ ± h along a direction."""
    theta = {n: p.detach().clone() for n, p in task.lower.theta().items()}

    def value(shift):
        set_theta(task.lower, {n: p + shift * direction[n] for n, p in theta.items()})
        x = true_equilibrium(task.lower, task.probe.observation, tol=1e-13).x
        with torch.no_grad():
            return float(upper_loss(task.lower, x, task.probe))

    generator = torch.Generator().manual_seed(0)
    direction = {n: torch.randn(p.shape, generator=generator).double() for n, p in theta.items()}
    difference = (value(1e-4) - value(-1e-4)) / 2e-4
    set_theta(task.lower, theta)
    exact = reference_hypergradient(task.lower, task.probe)
    flat = torch.cat([v.flatten() for v in direction.values()])
    assert float(exact.gradient @ flat) == pytest.approx(difference, rel=1e-4)
    return exact.gradient


def test_deepinv_s_are_turned_towards_the_minimum():
    x, y = images(), images().flip(0)
    inverted = make_loss("deepinv.SSIM").of_each(x, y)
    torch.testing.assert_close(inverted, make_loss("ssim").of_each(x, y))
    torch.testing.assert_close(make_loss("deepinv.PSNR").of_each(x, y), -metrics.psnr_of_each(x, y))
    assert make_loss(lambda x, y: x[:, 0, 0, 0] - y[:, 0, 0, 0]).of_each(x, x).eq(0).all()
    assert make_loss("deepinv.LpNorm(p=1)").of_each(x, y).shape == (3,)


def test_the_whole_task_has_the_loss():
    """The value of a row, batches of training, another dtype, and methods without gradients."""
    task = task_with("l1")
    batches = (task.train, task.test, task.probe, next(task.minibatches(1)))
    assert {batch.loss.name for batch in batches} == {"l1"}
    single = task.to(device=torch.device("cpu"), dtype=torch.float32)
    assert single.train.loss.name == single.probe.loss.name == "l1"
    theta = task.lower.theta()
    x = true_equilibrium(task.lower, task.train.observation, tol=1e-10).x
    expected = float((task.lower.reconstruct(x) - task.train.truth).abs().mean())
    assert Truth(task).accuracy(theta).value == pytest.approx(expected, rel=1e-6)
    search = plugins()["Grid-Search"].get_instance(tol=1e-10)
    search.set_objective(task)
    assert float(search._loss(task.lower, task.train)) == pytest.approx(expected, rel=1e-6)


def test_a_loss_that_is_a_module_goes_where_the_images_go(file):
    module = """\
import torch
class Weighted(torch.nn.Module):
    def __init__(self, power=2):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1))
        self.power = power
    def forward(self, x_hat, x):
        return (self.weight * (x_hat - x).abs() ** self.power).flatten(1).mean(1)
"""
    task = task_with(f"{file(module, 'weighted.py')}(power=3)")
    assert isinstance(task.train.loss.of_each, nn.Module)
    assert task.train.loss.of_each.weight.dtype == torch.float64
    assert not task.train.loss.of_each.weight.requires_grad
    single = task.to(device=torch.device("cpu"), dtype=torch.float32)
    assert single.train.loss(single.train.truth, single.train.truth * 0).dtype == torch.float32
    assert task.train.loss.of_each.weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def mine(x_hat):\n    return x_hat\n", r"TypeError: mine\(\) takes 1 positional"),
        ("def mine(a, b):\n    return (a - b).square().mean()\n", r"returned shape \(\), expected"),
        ("def mine(a, b):\n    return 0.5\n", r"returned 0.5, expected one value per image"),
        (
            "def mine(a, b):\n    return (a - b).flatten(1)\n",
            r"shape \(2, 768\), expected .* \(2,\)",
        ),
        ("def mine(a, b):\n    return (a - b).detach().flatten(1).mean(1)\n", "has no gradient"),
        ("def mine(a, b):\n    return (a - b).sign().flatten(1).mean(1)\n", "zero or not finite"),
        ("def mine(a, b):\n    return b.flatten(1).mean(1)\n", "has no gradient"),
        ("def mine(a, b):\n    return (a - b).log().flatten(1).mean(1)\n", "is not finite on 2"),
        (
            "def mine(a, b):\n    return (a - a.mean()).square().flatten(1).mean(1)\n",
            "mixes images",
        ),
        (
            "import torch\ndef mine(a, b):\n    return a.flatten(1).mean(1) * torch.rand(2)\n",
            "another value at a second call",
        ),
        ("def mine(a, b):\n    return a.no_such\n", "AttributeError: 'Tensor' object has no"),
        ("raise KeyError('gone')\n", "line 1: KeyError: 'gone': expected a function"),
        ("class Mine:\n    pass\n", r"is no function: expected a function \(x_hat, x\)"),
        ("deepinv.PSNR", "'deepinv.PSNR' has no gradient"),
        ("l2", "unknown upper loss 'l2': expected one of l1, mse, ssim, deepinv.NAME or FILE.py"),
    ],
)
def test_a_broken_loss_is_named_with_what_it_lacks(text, said, file):
    path = file(text) if "\n" in text else text
    with pytest.raises(ValueError, match=said) as raised:
        task_with(path)
    assert path in str(raised.value)


def test_what_can_be_learned_with_passes_the_check():
    for name in UPPER_LOSSES:
        require_loss(make_loss(name), images(2))


# --- metrics ----------------------------------------------------------------------------------


def test_metrics_are_those_of_the_libraries(file):
    x, y = images(), images().flip(0)
    asked = f"deepinv.PSNR, torchmetrics.MeanSquaredError, {file(WORST, 'worst.py')}"
    made = make_metrics(asked)
    errors = (x - y).flatten(1)
    expected = {
        "deepinv.PSNR": metrics.psnr(x, y),
        "torchmetrics.MeanSquaredError": float(errors.square().mean()),
        "worst": float(errors.abs().amax(1).mean()),
    }
    for _ in range(2):  # torchmetrics' would go on summing
        found = measure_all(made, [(x, y)])
        assert found.values == pytest.approx(expected, rel=1e-6)
        assert found.message == ""
        measure_all(made, [(x, x / 2)])
    assert set(found.columns()) == {f"metric_{name}" for name in expected}
    higher = {"deepinv.PSNR": True, "torchmetrics.MeanSquaredError": False, "worst": False}
    assert json.loads(directions(made)) == higher


def test_none_are_asked_for():
    assert make_metrics(None) == make_metrics("") == ()
    assert directions(()) == "{}"


def test_what_a_metric_draws_is_its_own(file):
    noisy = (
        "import torch\ndef mine(a, b):\n    return torch.rand(())\nmine.higher_is_better = True\n"
    )
    made = make_metrics(file(noisy))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = measure_all(made, [(images(), images())])
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert measure_all(made, [(images(), images())]) == first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def mine(a, b):\n    return 0.0\n", "higher_is_better = None, which must be True or"),
        ("def mine(a, b):\n    return 0.0\nmine.higher_is_better = 1\n", "= 1, which must be True"),
        ("import sys\nsys.exit()\n", "line 2: SystemExit"),
        ("import not_there\n", "No module named 'not_there'"),
        ("class Mine:\n    higher_is_better = True\n", "expected a function"),
    ],
)
def test_a_metric_that_cannot_be_made_is_named(text, said, file):
    path = file(text)
    with pytest.raises(ValueError, match=said) as raised:
        make_metrics(path)
    assert path in str(raised.value)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("a - b", r"returned shape \(3, 3, 16, 16\), expected one value or one per image, \(3,\)"),
        ("None", "Could not infer dtype of NoneType"),
        ("a.no_such", "AttributeError"),
        ("float('inf')", "is not finite: inf"),
    ],
)
def test_what_a_metric_returns_is_checked(returned, said, file):
    path = file(f"def mine(a, b):\n    return {returned}\nmine.higher_is_better = True\n")
    found = measure_all(make_metrics(path), [(images(), images())])
    assert isnan(found.values["mine"])
    assert f"metric '{path}'" in found.message
    with pytest.raises(ValueError, match=said):
        raise ValueError(found.message)


def test_a_metric_that_fails_leaves_the_row_and_the_other_metrics(file):
    task = task_with("mse")
    path = file("def mine(a, b):\n    raise OSError('gone')\nmine.higher_is_better = True\n")
    truth = Truth(task, make_metrics(f"{path}, deepinv.PSNR"))
    solver = plugins()["JFB"].get_instance()
    solver.set_objective(task)
    theta = {n: p.detach() for n, p in task.lower.theta().items()}
    options = {"truth": truth, "task": task, "training": Outcome(), "last": False}
    row = evaluate(solver, theta, **options)
    assert (row["status"], row["message"]) == ("ok", f"metric '{path}': OSError: gone")
    assert isnan(row["metric_mine"])
    assert row["metric_deepinv.PSNR"] == pytest.approx(row["test_psnr"], rel=1e-5)
    lost = evaluate(solver, {n: nan * p for n, p in theta.items()}, **options)
    assert isnan(lost["metric_deepinv.PSNR"])
    assert lost["message"] == "θ is not finite"


def test_two_of_one_name_are_refused(file):
    other = "def worst(a, b):\n    return 0.0\nworst.higher_is_better = True\n"
    with pytest.raises(ValueError, match="two metrics are named 'worst'"):
        make_metrics(f"{file(WORST, 'worst.py')}, {file(other, 'worst.py')}")
    assert [m.name for m in make_metrics(f"deepinv.LpNorm(p=1), {file(WORST)}")] == [
        "deepinv.LpNorm(p=1)",
        "mine",
    ]
    # benchopt's command line turns "=" into ":"
    assert [m.name for m in make_metrics("deepinv.LpNorm(p:1)")] == ["deepinv.LpNorm(p=1)"]
    with pytest.raises(ValueError, match=r"unknown metric 'lpip': .*did you mean lpips\?"):
        make_metrics("lpip")


def test_without_its_weights_or_package_a_metric_is_empty(monkeypatch, tmp_path, file):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    needs = "class Needs:\n    def __init__(self):\n        import not_there\n"
    made = make_metrics(f"lpips, {file(needs, 'needs.py')}, torchmetrics.MeanSquaredError")
    found = measure_all(made, [(images(), images())])
    assert isnan(found.values["lpips"]) and isnan(found.values["needs"])
    assert found.values["torchmetrics.MeanSquaredError"] == 0
    assert f"metric 'lpips' is empty: FileNotFoundError: no weights at {tmp_path}" in found.message
    assert "No module named 'not_there'" in found.message


def test_lpips_sees_images_in_their_range(monkeypatch, tmp_path):
    """The network is replaced: its weights are large, and not here."""

    class Network(nn.Module):
        def __init__(self, check_input_range):
            super().__init__()

        def forward(self, x, y):
            assert x.min() >= 0 and x.max() <= 1
            return (x - y).abs().flatten(1).sum(1)

    monkeypatch.setattr("deepinv.loss.metric.LPIPS", Network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
    made = make_metrics("lpips")
    found = measure_all(made, [(torch.full((1, 3, 4, 4), 2.0), torch.zeros(1, 3, 4, 4))])
    assert found.values == {"lpips": 48.0}
    assert json.loads(directions(made)) == {"lpips": False}
