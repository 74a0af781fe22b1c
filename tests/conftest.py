"""What test files share: the repository, its plugins as benchopt loads them, small tasks."""

# ruff: noqa: E402
from __future__ import annotations

import gc
import os
import sys
from importlib.util import find_spec
from pathlib import Path

# what is imported, and what pytest collects, is no garbage: looking through it again and again
# takes a quarter of the time. What comes after that is all that the meters' collections look at
gc.disable()

import pytest
import torch
from benchopt.benchmark import Benchmark
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent))

from benchmark.imaging.denoisers import small_drunet
from benchmark.imaging.images import simulated
from benchmark.imaging.sources import drawn
from benchmark.plugins.bilevel_solver import BilevelSolver
from benchmark.plugins.search_method import SearchMethod
from benchmark.plugins.task import make_task
from benchmark.problems.bilevel import BilevelTask

torch.set_num_threads(1)
# runs of benchopt in processes of their own are shown in test_course.py and test_run_command.py;
# elsewhere each would take the seconds that importing torch does
os.environ.setdefault("BENCHMARK_PROCESSES", "0")

#: the weights that ship, which tests about them alone use; the others, in this process, use a
#: network of the same kind with a quarter of its parameters
SHIPPED_WEIGHTS = small_drunet.WEIGHTS
small_drunet.WEIGHTS = ROOT / "tests" / "data" / "smaller_drunet.safetensors"

#: a spec of every lower level, contracting (a ridge) and not
LOWER_SPECS = (
    "tikhonov(wavelet='db2',levels=2)",
    "tikhonov(wavelet='db2',levels=2,stepsize=1.7,learn_stepsize=True,penalise_approximation=True)",
    "wavelet_l1(wavelet='db2',levels=2,ridge=0.1)",
    "wavelet_l1(wavelet='haar',levels=2,ridge=0.02,stepsize=1.9,per_channel=True)",
    "wavelet_l12(wavelet='db2',levels=2,ridge=0.1)",
    "wavelet_l12(wavelet='haar',levels=2,ridge=0.1,stepsize=1.9,couple_orientations=False)",
    "tv(weight=0.1,ridge=0.3,smoothing=0.1)",
)
#: of the others, one each, for what is cheap enough to ask of all
MORE_LOWER_SPECS = (
    "ridge(channels=(1,1,1),size=3,width=0.05,sharpness=2,strength=3,stepsize=1.8)",
    "deepinv(algorithm='GD',prior='tikhonov',regularisation=0.3,stepsize=1.3)",
    "prescribed(radius=0.6,departure=0.3)",
    "lasso(weight=0.1,ridge=0.3)",
)
DEGRADATION_SPECS = ("denoising(sigma=0.1)", "inpainting(keep=0.5)", "deblurring(width=0.8)")
#: one of every other operator, for what is cheap enough to ask of all
MORE_DEGRADATION_SPECS = (
    "denoising(sigma=(0.1,0.25,0.5))",
    "inpainting(keep=0.1)",
    "inpainting(keep=0.9)",
    "deblurring(width=0.8,padding='reflect')",
    "motion_deblurring(length=7)",
    "motion_deblurring(length=7,padding='reflect')",
    "super_resolution(factor=2)",
    "tomography(angles=12)",
    "mri(acceleration=2)",
)


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_addoption(parser):
    parser.addoption(
        "--problems",
        type=int,
        default=8,
        help="random problems on which the tolerance on the gradient is tested (8)",
    )
    parser.addoption(
        "--fuzz",
        type=int,
        default=8,
        help="values of each parameter, and configurations, that are tried at random",
    )
    parser.addoption(
        "--golden-ridge",
        type=Path,
        help="a folder of trained ridge regularisers with their minimisers and hypergradients: "
        "golden_ridge*.npz and weights/*.npz",
    )
    parser.addoption(
        "--bring",
        action="append",
        default=[],
        help="a file in the folder of its kind (lower_levels/…), or a folder of such folders, that "
        "is asked what the package's own are; can be given several times",
    )


def pytest_configure(config):
    number = config.getoption("fuzz")
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    options = {"deadline": None, "derandomize": number == 8, "suppress_health_check": quiet}
    settings.register_profile("fuzz", max_examples=number, **options)


#: libraries that some plugins need and that need not be there
OPTIONAL = ("torchdeq", "torchopt")


def plugins() -> dict[str, type]:
    """The solver classes by name, loaded by benchopt from ``solvers/``.

    Those that need an optional library are left out where it is absent.
    """
    absent = {f"pip::{name}" for name in OPTIONAL if find_spec(name) is None}
    known = Benchmark(ROOT).get_solvers()
    return {cls.name: cls for cls in known if not absent & set(cls.requirements or ())}


def small_task(
    *, lower: str, degradation: str = "denoising(sigma=0.1)", size: int = 16, seed: int = 0
) -> BilevelTask:
    """A float64 task on simulated images of ``size`` × ``size`` pixels."""
    return make_task(
        train=simulated(number=2, size=size, seed=seed),
        test=simulated(number=2, size=size, seed=seed + 1),
        degradation=degradation,
        lower=lower,
        probe_size=2,
        seed=seed,
    )


def drawn_images(*args, **options):
    """The images alone of what ``benchmark.imaging.sources.drawn`` draws."""
    return tuple(cut.images for cut in drawn(*args, **options))


def gradient_methods() -> dict[str, type]:
    """Those of ``plugins`` that estimate a hypergradient and hand it to an optimizer."""
    return {name: cls for name, cls in plugins().items() if issubclass(cls, BilevelSolver)}


def searches() -> dict[str, type]:
    """Those of ``plugins`` that estimate none."""
    return {name: cls for name, cls in plugins().items() if issubclass(cls, SearchMethod)}


@pytest.fixture(params=sorted(plugins()))
def plugin(request) -> type:
    """Every solver class of the repository in turn."""
    return plugins()[request.param]


@pytest.fixture(params=sorted(gradient_methods()))
def gradient_method(request) -> type:
    """Every solver class that estimates hypergradients, in turn."""
    return plugins()[request.param]


@pytest.fixture(params=sorted(n for n, cls in plugins().items() if hasattr(cls, "equilibrium")))
def state_method(request) -> type:
    """Every solver class whose estimate is a state with a graph, in turn."""
    return plugins()[request.param]


@pytest.fixture
def file(tmp_path):
    """Writes a text into a file of a name, and returns its path."""

    def write(text: str, name: str = "mine.py") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write
