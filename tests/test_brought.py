"""What users bring in files is held to what ours is: the smallest files, and those of ``--bring``.

pytest tests/test_brought.py --bring lower_levels/my_tv.py
"""

from __future__ import annotations

import copy
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from benchopt.benchmark import Benchmark
from conftest import ROOT, small_task
from oracles import AffineLayer, relative_error
from pretend_device import DEVICE, pretend_device, to_pretend, unwrap
from test_descent import leaves, of
from test_losses import hypergradient_of_central_differences, task_with

from benchmark import Implicit, equilibrium
from benchmark.gradients.named import gradient_rule
from benchmark.imaging.degradations import make_degradation
from benchmark.imaging.denoisers import make_denoiser
from benchmark.imaging.extra_metrics import make_metrics, measure_all
from benchmark.imaging.images import shown
from benchmark.imaging.losses import make_loss
from benchmark.imaging.measured import measured_pairs, split_pairs
from benchmark.imaging.sources import drawn, pictures
from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.plugins.bilevel_solver import BilevelSolver
from benchmark.plugins.dataset import ImageDataset
from benchmark.plugins.descent import Descent
from benchmark.plugins.outer_loop import OuterLoop
from benchmark.plugins.task import make_task
from benchmark.problems.bilevel import BilevelTask, upper_loss
from benchmark.running.new import KINDS, write
from benchmark.solve.named import equilibrium_solver


def pytest_generate_tests(metafunc):
    if "file" in metafunc.fixturenames:
        kind = metafunc.function.__name__.removeprefix("test_").split("_is_")[0]
        files = [None, *brought(metafunc.config.getoption("bring"), kind)]
        metafunc.parametrize("file", files, ids=[f.stem if f else "smallest" for f in files])


def brought(paths: list[str], kind: str) -> list[Path]:
    folder = KINDS[kind][0]
    found = [path for given in paths for path in _files(Path(given).resolve(), folder)]
    return [path for path in found if not path.name.startswith("_")]


def _files(path: Path, folder: str) -> list[Path]:
    if path.is_dir():
        return sorted((path / folder).glob("*.py"))
    return [path] if path.parent.name == folder else []


@pytest.fixture
def path(file, request, tmp_path):
    """The file as it was brought, or the smallest one as the command writes it."""
    kind = request.function.__name__.removeprefix("test_").split("_is_")[0]
    return file or write(kind, "smallest", tmp_path)


def test_every_file_is_of_a_kind(request):
    places = {folder for folder, _ in KINDS.values()}
    for given in map(Path, request.config.getoption("bring")):
        assert given.exists(), f"{given}: expected a file or a folder"
        inside = {p.name for p in given.iterdir()} if given.is_dir() else {given.parent.name}
        assert inside & places, f"{given}: expected one of the folders {', '.join(sorted(places))}"


@pytest.mark.parametrize(("kind", "habit"), [("method", "solver"), ("dataset", "dataset")])
def test_the_smallest_files_are_where_users_of_benchopt_look_and_do_not_run(kind, habit, tmp_path):
    """As "template_…", which benchopt leaves out of runs."""
    text = (ROOT / f"{habit}s" / f"template_{habit}.py").read_text()
    assert text == write(kind, "template", tmp_path).read_text()
    known = getattr(Benchmark(ROOT), f"get_{habit}s")()
    assert "Template" not in {cls.name for cls in known}


# --- solvers and rules ----------------------------------------------------------------------


def test_equilibrium_solver_is_right(path):
    oracle = AffineLayer.make(kappa=0.5)
    solve = equilibrium_solver(str(path))
    found = solve(oracle.layer(), torch.zeros_like(oracle.y), tol=1e-9, max_layers=500)
    assert found.converged.all() and not found.x.requires_grad
    assert relative_error(found.x, oracle.equilibrium()) < 1e-8
    # a sample alone is solved as it is in the batch
    alone = solve(oracle(oracle.y[:1]), torch.zeros_like(oracle.y[:1]), tol=1e-9, max_layers=500)
    assert relative_error(alone.x, found.x[:1]) < 1e-8
    # one that cannot get there says so
    short = solve(oracle.layer(), torch.zeros_like(oracle.y), tol=1e-9, max_layers=1)
    assert not short.converged.all()


def test_adjoint_solver_is_right(path):
    oracle = AffineLayer.make(kappa=0.5)
    rule = Implicit(str(path), tol=1e-10)
    x = equilibrium(oracle.layer(), torch.zeros_like(oracle.y), gradient=rule, tol=1e-12)
    (gradient,) = torch.autograd.grad(oracle.loss(x.x), oracle.theta)
    assert relative_error(gradient, oracle.gradient()) < 1e-8


def test_gradient_rule_is_towards_the_gradient(path):
    oracle = AffineLayer.make(kappa=0.3)
    rule = gradient_rule(str(path))
    x = equilibrium(oracle.layer(), torch.zeros_like(oracle.y), gradient=rule, tol=1e-12).x
    (gradient,) = torch.autograd.grad(oracle.loss(x), oracle.theta)
    assert torch.cosine_similarity(gradient, oracle.gradient(), dim=0) > 0.9


# --- problems -------------------------------------------------------------------------------


def test_lower_level_is_differentiable(path):
    """Against central differences of F at the equilibrium; as a batch, and on another device."""
    task = small_task(lower=str(path), degradation="inpainting(keep=0.7)")
    batch = task.train
    reference = reference_hypergradient(task.lower, batch)
    assert reference.trusted

    def value(name, shift):
        moved = copy.deepcopy(task.lower)
        with torch.no_grad():
            moved.theta()[name].add_(shift)
            x = true_equilibrium(moved, batch.observation, tol=1e-12).x
            return float(upper_loss(moved, x, batch))

    parts = iter(reference.gradient.split([p.numel() for p in task.lower.theta().values()]))
    for name, parameter in task.lower.theta().items():
        direction = torch.randn(parameter.shape, dtype=parameter.dtype).sign()
        h = 1e-4
        slope = (value(name, h * direction) - value(name, -h * direction)) / (2 * h)
        expected = float((next(parts).view_as(parameter) * direction).sum())
        assert slope == pytest.approx(expected, rel=1e-4, abs=1e-9)
    with pretend_device():
        lower, y = to_pretend(copy.deepcopy(task.lower)), to_pretend(batch.observation)
        moved = lower.step(lower.init(y), y)
        assert moved.device == DEVICE
    here = task.lower.step(task.lower.init(batch.observation), batch.observation).detach()
    assert relative_error(unwrap(moved), here) < 1e-12


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 16, 24)])
def test_degradation_is_linear_and_repeatable(path, shape):
    """Its adjoint and its linearity are checked where it is made."""
    truth = torch.rand(2, *shape, dtype=torch.float64)
    made, again, other = (make_degradation(str(path), shape, seed=s) for s in (0, 0, 1))
    y = made.observe(truth, stream=1)
    assert torch.equal(y, again.observe(truth, stream=1)) and y.isfinite().all()
    assert y.shape == other.observe(truth, stream=1).shape
    assert y.dtype == torch.float64 and made.lipschitz > 0
    single = copy.deepcopy(made.physics).to(torch.float32)
    assert single.A_adjoint(single.A(truth.float())).dtype == torch.float32


def test_denoiser_is_differentiable(path):
    denoiser = make_denoiser(str(path), (3, 16, 16))
    v = torch.rand(2, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor([0.05, 0.2], dtype=torch.float64)
    z = denoiser(v, sigma)
    direction, h = torch.randn_like(v), 1e-6
    (gradient,) = torch.autograd.grad(z.square().sum(), v)
    with torch.no_grad():
        values = [denoiser(v + s * h * direction, sigma).square().sum() for s in (1, -1)]
        alone = denoiser(v[:1], sigma[:1])
    slope = float(values[0] - values[1]) / (2 * h)
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-4)
    assert relative_error(alone, z[:1].detach()) < 1e-9
    # in a lower level, as the file is named there
    task = small_task(lower=f"pnp(denoiser={str(path)!r},learn_noise_level=False)", size=16)
    assert task.lower.theta()


# --- losses, metrics, optimizers ------------------------------------------------------------


def test_upper_loss_is_differentiable(path):
    """At the equilibrium, against central differences; in float32; on another device."""
    task = task_with(str(path))
    hypergradient_of_central_differences(task)
    loss, images = make_loss(str(path)), (task.train.truth, task.test.truth)
    assert loss.to(dtype=torch.float32)(*(x.float() for x in images)).dtype == torch.float32
    here = loss(*images)
    if not isinstance(loss.of_each, torch.nn.Module):
        with pretend_device():
            there = loss(*map(to_pretend, images))
            assert there.device == DEVICE
        assert relative_error(unwrap(there), here) < 1e-12


def test_metric_is_better_with_less_noise(path):
    made = make_metrics(str(path))
    truth = task_with("mse").test.truth
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0)).double()
    values = []
    for level in (0.02, 0.2, 0.02):
        found = measure_all(made, [(truth + level * noise, truth)])
        assert found.message == ""
        values += found.values.values()
    little, much, again = values
    assert little == again
    assert (little > much) == made[0].higher_is_better and little != much


@pytest.mark.parametrize("schedule", [None, "ExponentialLR(gamma=0.95)"])
def test_optimizer_is_a_descent(path, schedule):
    ends = []
    for _ in range(2):
        gradient = of(theta := leaves(a=3, b=1))
        descent = Descent(theta, optimizer=str(path), learning_rate=0.05, schedule=schedule)
        start = float(gradient())
        for _ in range(20):
            descent.step(gradient)
        ends.append(float(gradient()))
    assert ends[0] == ends[1] < start


# --- plugins --------------------------------------------------------------------------------


def plugin(path: Path, name: str) -> type:
    spec = spec_from_file_location(f"plugin_{path.stem}", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def test_method_is_pure_and_lowers_f(path):
    solver = plugin(path, "Solver").get_instance(steps=3)
    assert isinstance(solver, OuterLoop)
    task = small_task(lower="wavelet_l1(wavelet='haar',levels=2,ridge=0.1)")
    before = copy.deepcopy(task.lower.state_dict())
    solver.set_objective(task)
    values = []

    def callback():
        lower = copy.deepcopy(solver.lower)
        x = true_equilibrium(lower, task.train.observation, tol=1e-8).x
        values.append(float(upper_loss(lower, x, task.train).detach()))
        return True

    solver.run(callback)
    assert solver.outcome.ok, solver.outcome.message
    assert values[-1] < values[0]
    assert all(torch.equal(before[k], v) for k, v in task.lower.state_dict().items())
    if isinstance(solver, BilevelSolver):
        one, two = (solver.hypergradient_on_probe(task.lower, task.probe) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(one.gradient, two.gradient, strict=True))
    assert solver.deploy(task.lower, task.test.observation).shape == task.test.truth.shape


def test_dataset_is_images(path):
    made = plugin(path, "Dataset").get_instance()
    assert isinstance(made, ImageDataset)
    made.get_seed = lambda **_: 0
    tasks = [task_of(**made.get_data()) for _ in range(2)]
    require_same(*tasks)


def test_image_source_is_images(path):
    options = {"n_train": 2, "n_test": 1, "size": 8, "seed": 0, "channels": None}
    tasks = []
    for _ in range(2):
        train, test = drawn([pictures(str(path))], **options)
        tasks.append(task_of(train=train, test=test, degradation="denoising(sigma=0.1)", seed=0))
    require_same(*tasks)


def test_measurement_is_pairs(path):
    tasks = []
    for _ in range(2):
        train, test = split_pairs(measured_pairs(str(path)), n_train=2, n_test=1, seed=0)
        tasks.append(task_of(train=train, test=test, degradation=None, seed=0))
        assert torch.equal(tasks[-1].train.parts[0].truth, train[0].truth)
        assert torch.equal(tasks[-1].train.parts[0].observation, train[0].observation)
    require_same(*tasks)


def task_of(**data) -> BilevelTask:
    """With layers that take images of any shape; an exact hypergradient can be had."""
    assert "unavailable" not in data, data["unavailable"]
    layers = ROOT / "benchmark" / "running" / "templates" / "lower_level.py"
    task = make_task(**data, lower=str(layers), probe_size=1)
    assert reference_hypergradient(task.lower, task.probe).gradient.isfinite().all()
    return task


def require_same(one: BilevelTask, two: BilevelTask) -> None:
    for a, b in zip((one.train, one.test), (two.train, two.test), strict=True):
        for x, y in zip(a.parts, b.parts, strict=True):
            assert torch.equal(x.truth, y.truth) and torch.equal(x.observation, y.observation)
            assert shown(x.truth).abs().max() <= 1 + 1e-6
