"""What users bring in files is held to what ours is: the smallest files, and those of ``--bring``.

pytest tests/test_brought.py --bring lower_levels/my_tv.py
"""

from __future__ import annotations

import copy
from importlib.util import module_from_spec, spec_from_file_location
from math import inf
from pathlib import Path

import pytest
import torch
from benchopt.benchmark import Benchmark
from conftest import ROOT, plugins, small_task
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
from benchmark.options.brought import entry_of, loaded
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


# --- the command, and files that are wrong --------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_file_has_its_name_in_it(kind, tmp_path):
    path = write(kind, "my_own", tmp_path)
    assert path.parent.name == KINDS[kind][0]
    text = path.read_text()
    assert "emplate" not in text and ("my_own" in text or "MyOwn" in text)
    assert entry_of(path) if kind not in ("method", "dataset") else loaded(path)
    with pytest.raises(FileExistsError, match="is there already"):
        write(kind, "my_own", tmp_path)
    with pytest.raises(ValueError, match="a Python name in small letters, got 'my-own'"):
        write(kind, "my-own", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_page_with_the_smallest_file(kind):
    page = (ROOT / "docs" / "bring" / f"{kind}.md").read_text(encoding="utf-8")
    smallest = ROOT / "benchmark" / "running" / "templates" / f"{kind}.py"
    assert f"```python\n{smallest.read_text(encoding='utf-8').rstrip()}\n```" in page
    assert f"(docs/bring/{kind}.md)" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


LAYER = "from torch import nn\nimport torch\nclass Mine(nn.Module):\n"
INIT = "    def __init__(self):\n        super().__init__()\n"
INIT += "        self.a = nn.Parameter(torch.tensor(0.5))\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAYER + INIT, r"mine.py' is a Mine without step\(x, y\), expected a torch.nn.Module with"),
        ("def mine():\n    return 3\n", "mine.py' is a int without step"),
        (
            LAYER + INIT + "    def step(self, x):\n        return x\n",
            "mine.py': TypeError: Mine",
        ),
        (
            LAYER + INIT + "    def step(self, x, y):\n        return x[..., 1:]\n",
            r"step returned \(2, 3, 16, 15\) in torch.float64, expected \(2, 3, 16, 16\) in",
        ),
        (
            LAYER + INIT + "    def step(self, x, y):\n        return (self.a * x).float()\n",
            r"step returned .* in torch.float32, expected",
        ),
        (
            LAYER + INIT + "    def step(self, x, y):\n        return x.mul_(self.a)\n",
            "step changed its x or y in place",
        ),
        (
            LAYER + INIT + "    def step(self, x, y):\n        return self.a * x + x.mean()\n",
            "depends on the other samples of a batch, by",
        ),
        (
            LAYER + INIT + "    def step(self, x, y):\n        return x + torch.randn_like(x)\n",
            "says something else the second time",
        ),
        (
            LAYER + INIT + "    def step(self, x, y):\n        return x / 0\n",
            "the first step is not finite",
        ),
        (
            LAYER + INIT + "    def step(self, x, y):\n        return 0.5 * (x + y)\n",
            "nothing is learned: no parameter",
        ),
        (
            LAYER + "    def __init__(self, depth):\n        super().__init__()\n",
            r"mine.py': TypeError: .*missing 1 required .*'depth'",
        ),
    ],
)
def test_a_wrong_lower_level_is_named(text, said, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        small_task(lower=str(path))


PHYSICS = "from deepinv.physics import LinearPhysics\nclass Mine(LinearPhysics):\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def mine(image_shape):\n    return 3\n", "mine.py' is a int, expected a function"),
        (
            "from deepinv.physics import Haze\ndef mine():\n    return Haze()\n",
            "mine.py' is a Haze, expected a function",
        ),
        (
            PHYSICS + "    def A(self, x, **_):\n        return 2 * x\n"
            "    def A_adjoint(self, y, **_):\n        return y\n",
            r"mine.py': A_adjoint is not the adjoint of A: .* is 5.0e-01",
        ),
        (
            PHYSICS + "    def A(self, x, **_):\n        return x.abs()\n"
            "    def A_adjoint(self, y, **_):\n        return y\n",
            "mine.py': A is not linear",
        ),
        (
            PHYSICS + "    def A(self, x, **_):\n        return x @ x\n",
            "mine.py': A or Aᵀ fails on images|A is not linear",
        ),
    ],
)
def test_a_wrong_degradation_is_named(text, said, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        make_degradation(str(path), (3, 16, 24), seed=0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "def mine():\n    return lambda v, sigma: v\n",
            "mine.py' is a function, expected a",
        ),
        (
            "from torch import nn\nclass Mine(nn.Module):\n"
            "    def forward(self, v):\n        return v\n",
            "mine.py' fails on two images",
        ),
        (
            "from torch import nn\nclass Mine(nn.Module):\n"
            "    def forward(self, v, sigma):\n        return v[..., 1:]\n",
            r"maps images \(2, 3, 16, 16\) in float64 to \(2, 3, 16, 15\)",
        ),
    ],
)
def test_a_wrong_denoiser_is_named(text, said, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        make_denoiser(str(path), (3, 16, 16))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("return None", r"the equilibrium solver '.*mine.py' returned NoneType, expected"),
        (
            "return x0[:1]",
            r"a tensor \(1, 2, 3, 4\) in torch.float64 on cpu, expected \(3, 2, 3, 4\)",
        ),
        ("return x0.float()", "in torch.float32 on cpu, expected .* in torch.float64"),
    ],
)
def test_a_wrong_solver_is_named(text, said, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"def mine(T, x0, *, tol, max_layers):\n    {text}\n")
    oracle = AffineLayer.make(kappa=0.5)
    with pytest.raises(TypeError, match=said):
        equilibrium_solver(str(path))(oracle.layer(), oracle.y, tol=1e-3, max_layers=9)


def test_a_rule_without_a_graph_is_named(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def mine(T, x):\n    return T(x).detach()\n")
    oracle = AffineLayer.make(kappa=0.5)
    with pytest.raises(ValueError, match=r"the gradient rule '.*mine.py' returned a state without"):
        equilibrium(oracle.layer(), oracle.y, gradient=gradient_rule(str(path)), tol=1e-3)


def test_weights_beside_a_denoiser_are_its_own(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\nfrom torch import nn\nclass Mine(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.a = nn.Parameter(torch.tensor(1.0))\n"
        "    def forward(self, v, sigma):\n        return self.a * v\n"
    )
    save_file({"a": torch.tensor(0.25)}, path.with_suffix(".safetensors"))
    assert float(make_denoiser(str(path), (3, 16, 16)).a) == 0.25
    save_file({"b": torch.tensor(0.25)}, path.with_suffix(".safetensors"))
    with pytest.raises(ValueError, match=r"mine.py' fails .* Missing key\(s\) in"):
        make_denoiser(str(path), (3, 16, 16))


def test_a_pair_by_name_is_the_method():
    task = small_task(lower="tikhonov(wavelet='db2',levels=2)")
    deq = plugins()["DEQ"].get_instance(equilibrium_solver="anderson")
    pair = plugins()["Pair"].get_instance(
        equilibrium_solver="anderson", gradient="implicit(tol=1e-10,max_steps=5000)"
    )
    assert pair.pair(inf).rule == deq.pair(inf).rule
    found = [m.hypergradient_on_probe(task.lower, task.probe) for m in (deq, pair)]
    for a, b in zip(found[0].gradient, found[1].gradient, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "parameter"),
    [("DEQ", "equilibrium_solver"), ("DEQ", "adjoint_solver"), ("Pair", "gradient")],
)
def test_a_file_that_cannot_be_run_ends_its_own_run_alone(name, parameter, tmp_path):
    """Not the study that asks for it beside others: it is found out where the run begins."""
    path = tmp_path / "mine.py"
    path.write_text("import not_there\n")
    solver = plugins()[name].get_instance(**{parameter: str(path)})
    task = small_task(lower="tikhonov(wavelet='haar',levels=1)", size=8)
    assert solver.skip(task) == (False, None)
    solver.set_objective(task)
    solver.run(lambda: True)
    assert solver.outcome.status == "error"
    assert f"{path}', line 1: ModuleNotFoundError" in solver.outcome.message
    # a name that is none is found out at once
    with pytest.raises(ValueError, match="not_there"):
        plugins()[name].get_instance(**{parameter: "not_there"})
