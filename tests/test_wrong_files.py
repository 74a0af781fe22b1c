"""Files that users bring and that are wrong: the fault is named; and how a new one is written."""

from __future__ import annotations

from math import inf

import pytest
import torch
from conftest import ROOT, plugins, small_task
from oracles import AffineLayer

from benchmark import equilibrium
from benchmark.gradients.named import gradient_rule
from benchmark.imaging.degradations import make_degradation
from benchmark.imaging.denoisers import make_denoiser
from benchmark.options.brought import entry_of, loaded
from benchmark.running.new import KINDS, write
from benchmark.solve.named import equilibrium_solver


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
