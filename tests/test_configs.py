"""The configurations and the README's example ask for things that exist."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import pytest
import torch
import yaml
from benchopt.benchmark import Benchmark
from benchopt.plotting import _check_view
from benchopt.utils.parametrized_name_mixin import product_param
from conftest import ROOT, gradient_methods
from oracles import AffineLayer

from benchmark.imaging.degradations import DEGRADATION
from benchmark.imaging.denoisers.table import DENOISERS
from benchmark.problems import LOWER_LEVEL

CONFIGS = sorted({ROOT / "example_config.yml", *ROOT.glob("configs/**/*.yml")})
CONFIGS = [path for path in CONFIGS if path.parent.name != "engines"]
AUTHORS = [path for path in CONFIGS if path.parent.name == "authors"]
GRADIENT_METHODS = gradient_methods()
CONTEXT = ("physics", "lipschitz", "image_shape")


def entries(config: dict, kind: str) -> Iterator[tuple[str, dict]]:
    """The (name, parameters) listed under "objective", "dataset" or "solver"."""
    for entry in config.get(kind, []):
        yield from entry.items()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_configuration_names_what_exists(path):
    config = yaml.safe_load(path.read_text())
    benchmark = Benchmark(ROOT)
    plugins = {
        "objective": {
            benchmark.get_benchmark_objective().name: benchmark.get_benchmark_objective()
        },
        "dataset": {cls.name: cls for cls in benchmark.get_datasets()},
        "solver": {cls.name: cls for cls in benchmark.get_solvers()},
    }
    assert config["dataset"], "no images"
    for kind, known in plugins.items():
        for name, parameters in entries(config, kind):
            for cls in known.values() if name == "*" else [known[name]]:
                for values in product_param(parameters):
                    assert set(values) <= set(cls.parameters)
                    if cls.is_installed(quiet=True):  # an optional library may be absent
                        cls.get_instance(**values)
    if path.stem != "limits":  # where ends are looked at, not curves
        for name, parameters in entries(config, "solver"):
            for values in product_param(parameters) if name in GRADIENT_METHODS else ():
                steps, every = (values.get(key, 0) for key in ("steps", "evaluate_every"))
                assert not steps or not every or steps >= 2 * every, "two points are no curve"
    for _, parameters in entries(config, "objective"):
        for spec in parameters["lower"]:
            options = LOWER_LEVEL.choose(spec, given=CONTEXT).keywords
            if "denoiser" in options:
                assert options["denoiser"] in DENOISERS
    for _, parameters in entries(config, "dataset"):
        for spec in parameters["degradation"]:
            DEGRADATION.choose(spec, given=CONTEXT)


@pytest.mark.filterwarnings("error")
def test_benchopts_page_opens_on_plots_and_views_that_are_there():
    """By benchopt's own check, which warns."""
    benchmark = Benchmark(ROOT)
    plots, config = benchmark.get_plots(), benchmark.get_plot_config()
    assert set(config["plots"]) <= {plot._get_name() for plot in plots}
    assert config["plot_configs"]
    for name, view in config["plot_configs"].items():
        _check_view(name, view, plots)


def test_there_is_a_configuration_for_each_learning_problem():
    for folder in ("cpu", "paper"):
        names = {path.stem for path in CONFIGS if path.parent.name == folder}
        assert names == {"weighted_norms", "plug_and_play", "drunet"}


EPOCHS = {
    "wavelet_basics": 10,
    "wavelets_tested": 100,
    "drunet_basics": 100,
    "plug_and_play": 16,
    "drunet_weights": 16,
}


@pytest.mark.parametrize("path", AUTHORS, ids=lambda p: p.stem)
def test_the_authors_experiments_have_their_length_for_every_method_and_say_what_differs(path):
    text = path.read_text()
    assert "\n# The same: " in text and "\n# Differs: " in text
    config = yaml.safe_load(text)
    (dataset,) = (values for _, values in entries(config, "dataset"))
    outer = ("optimizer", "batch_size", "steps", "learning_rate")
    solvers = dict(entries(config, "solver"))
    assert {"Unrolling", "JFB", "Restarted-JFB", "DEQ"} == set(solvers)
    (trained,) = {tuple(str(values[key]) for key in outer) for values in solvers.values()}
    assert "weight_decay=1e-8" in trained[0]
    (steps,), (batch,) = solvers["DEQ"]["steps"], solvers["DEQ"]["batch_size"]
    assert steps == EPOCHS[path.stem] * math.ceil(dataset["n_train"][0] / batch)
    restarted = solvers["Restarted-JFB"]
    assert solvers["Unrolling"]["layers"] == restarted["layers"]
    evals = (max(restarted["restarts"]) + 1) * max(restarted["layers"])
    assert solvers["JFB"]["max_layers"] == [evals - 1], "the last layer is differentiated"


def test_the_authors_starts_are_logarithms_that_are_round():
    found = {}
    for path in AUTHORS:
        for _, parameters in entries(yaml.safe_load(path.read_text()), "objective"):
            for spec in parameters["lower"]:
                options = LOWER_LEVEL.choose(spec, given=CONTEXT).keywords
                names = ("weight", "stepsize", "noise_level")
                found[path.stem] = [math.log(options[n]) for n in names if n in options]
    assert set(found) == set(EPOCHS)
    assert found["wavelet_basics"] == found["wavelets_tested"] == pytest.approx([-3, -3], abs=1e-4)
    assert found["drunet_basics"] == pytest.approx([0.5, -1], abs=1e-4)
    assert found["plug_and_play"] == pytest.approx([math.log(1.95), -5], abs=1e-4)


def test_the_example_of_the_readme_is_a_method():
    """As it stands there, in at most 25 lines, it approaches the exact gradient with its depth."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (code,) = (block for block in blocks if "class Solver" in block)
    assert len(code.strip().splitlines()) <= 25
    scope = {}
    exec(code, scope)
    oracle = AffineLayer.make(kappa=0.7)

    def gradient(**parameters):
        solver = scope["Solver"].get_instance(**parameters)
        x = solver.equilibrium(oracle.layer(), torch.zeros_like(oracle.y))
        return torch.autograd.grad(oracle.loss(x), oracle.theta)[0]

    assert torch.allclose(gradient(layers=200), oracle.gradient(), rtol=1e-8)
    assert torch.cosine_similarity(gradient(), oracle.gradient(), dim=0) > 0.9
