"""Ridge regularisers: what they are against other formulas, and trained models of others' code."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from conftest import plugins, small_task
from deepinv.physics import Denoising
from oracles import relative_error

from benchmark.measure.reference import reference_hypergradient
from benchmark.problems.bilevel import Batch
from benchmark.problems.ridge import RidgeRegulariser

SMALL = {"channels": (2, 3, 4), "size": 3, "width": 0.2, "sharpness": 3.0}


def small(**options) -> RidgeRegulariser:
    return RidgeRegulariser(Denoising(), 1.0, **(SMALL | options))


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("weakly_convex", [False, True])
def test_the_slope_is_the_gradient_of_the_energy(weakly_convex):
    problem, x = small(weakly_convex=weakly_convex), images(2, 3, 8, 8)
    y = x.roll(1, -1)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(problem.energy(x, y).sum(), x)
    assert relative_error((x - y + problem.slope(x)).detach(), gradient) < 1e-13


def test_the_norm_is_the_largest_value_of_the_transfer_function():
    """By the discrete Fourier transforms of the kernels themselves, at each frequency."""
    problem = small()
    first, *others = problem.filters
    layers = [first - first.mean((1, 2, 3), keepdim=True), *others]
    one, two, three = (torch.fft.fft2(layer, s=(256, 256)) for layer in layers)
    response = torch.einsum("kjuv,jiuv,iluv->kluv", three, two, one)
    assert problem.norm().item() == pytest.approx(response.abs().square().sum((0, 1)).max().item())


def test_the_norm_follows_the_filters_where_gradients_are_disabled():
    problem = small()
    with torch.no_grad():
        before = problem.norm()
        assert problem.norm() is before
        problem.filters[1].mul_(2)
        assert problem.norm().item() == pytest.approx(4 * before.item())


def test_what_does_not_change_the_model_has_no_gradient():
    """The size of a layer of filters, the mean of the first; s and all c together are one."""
    task = small_task(lower="ridge(channels=(1,2,3),size=3,width=0.2,sharpness=5)", size=8)
    found = reference_hypergradient(task.lower, task.probe)
    assert found.trusted
    theta = task.lower.theta()
    parts = found.gradient.split([p.numel() for p in theta.values()])
    gradient = {n: g.view_as(p) for (n, p), g in zip(theta.items(), parts, strict=True)}
    scale = found.gradient.norm().item()
    for i in range(3):
        name = f"filters.{i}"
        assert abs((gradient[name] * theta[name]).sum()) < 1e-9 * scale
    assert (gradient["filters.0"].sum((1, 2, 3)).abs() < 1e-9 * scale).all()
    together = gradient["log_widths"].sum()
    assert gradient["log_scale"].item() == pytest.approx(together.item(), abs=1e-9 * scale)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": 4}, "filters of an odd size in three layers, got size=4"),
        ({"channels": (4, 8)}, r"three layers, got size=3, channels=\(4, 8\)"),
        ({"sharpness": 0}, "sharpness must be a positive number, got 0"),
        ({"weakly_convex": 1}, "weakly_convex must be True or False, got 1"),
    ],
)
def test_bad_options_are_named(options, expected):
    with pytest.raises(ValueError, match=expected):
        small(**options)


def test_weights_that_are_not_there_or_of_another_kind_are_named(tmp_path):
    path = tmp_path / "mine.npz"
    with pytest.raises(FileNotFoundError, match=r"mine\.npz'.* no such file"):
        small(weights=str(path))
    np.savez(path, alpha=np.zeros(()))
    with pytest.raises(ValueError, match=r"mine\.npz' lack regularizer.filters"):
        small(weights=str(path))


# --- trained models, their minimisers and hypergradients --------------------------------------

MODELS = [f"{kind}_{how}" for kind, how in product(("CRR", "WCRR"), ("IFT", "JFB", "IFT-MAID"))]
#: the names of the authors' parameters, by ours
THEIRS = {
    "log_strength": "alpha",
    "log_scale": "scale",
    "log_sharpness": "regularizer.beta",
    "log_widths": "regularizer.scaling",
    "filters.0": "regularizer.filters.0.parametrizations.weight.original",
    "filters.1": "regularizer.filters.1.weight",
    "filters.2": "regularizer.filters.2.weight",
}


@pytest.fixture
def golden(request):
    """Reads an array of the folder."""
    folder = request.config.getoption("--golden-ridge")
    if folder is None:
        pytest.skip("needs trained models, which have no licence: --golden-ridge FOLDER")

    def read(file: str, name: str) -> torch.Tensor:
        with np.load(folder / f"{file}.npz") as arrays:
            return torch.from_numpy(np.asarray(arrays[name], dtype=float))

    read.folder = folder
    return read


def trained(golden, model: str, **options) -> RidgeRegulariser:
    weights = str(golden.folder / "weights" / f"{model}.npz")
    weak = model.startswith("WCRR")
    return RidgeRegulariser(Denoising(), 1.0, weights=weights, weakly_convex=weak, **options)


@pytest.mark.parametrize("model", MODELS)
@torch.no_grad()
def test_energies_and_slopes_are_those_of_the_authors_code(golden, model):
    problem = trained(golden, model)
    x, y = (golden("golden_ridge", name)[:2] for name in "xy")

    def theirs(name):
        return golden("golden_ridge", f"{model}/{name}")

    assert problem.norm().item() == pytest.approx(theirs("lip").item(), rel=1e-12)
    slope = problem.slope(y).flatten(1).norm(dim=1)
    assert slope.tolist() == pytest.approx(theirs("grad_norm_at_y")[:2].tolist(), rel=1e-12)
    for at, name in ((x, "energy_at_x"), (y, "reg_at_y")):
        assert problem.energy(at, y).tolist() == pytest.approx(theirs(name)[:2].tolist(), rel=1e-12)


def psnr(x, truth):
    """With the authors' 1e-8, in dB."""
    return -10 * torch.log10((x - truth).square().flatten(1).mean(1) + 1e-8)


@pytest.mark.parametrize("model", ["CRR_IFT", "WCRR_IFT"])
@torch.no_grad()
def test_their_minimisers_are_equilibria(golden, model):
    problem = trained(golden, model)
    truth, y = (golden("golden_ridge", name) for name in "xy")
    x = golden("golden_ridge_minimisers", f"{model}/x_star")
    assert (x - y + problem.slope(x)).norm() < 1e-10
    theirs = golden("golden_ridge", f"{model}/psnr")
    assert (psnr(x, truth) - theirs).abs().max() < 1e-6
    energy = golden("golden_ridge", f"{model}/energy")
    assert problem.energy(x, y).tolist() == pytest.approx(energy.tolist(), rel=1e-12)


def test_minimisers_and_hypergradients_are_theirs(golden):
    """To 1e-6 dB and 1e-8, from the solver and the adjoint of this package."""
    file = "golden_ridge_gradients"
    problem = trained(golden, "CRR_IFT", stepsize=1.9)
    truth, y, exact = (golden(file, name) for name in ("x", "y", "x_star"))
    tight = {"tol": 1e-14, "adjoint_tol": 1e-12, "equilibrium_solver": "anderson(depth=20)"}
    found = plugins()["DEQ"].get_instance(**tight).hypergradient(problem, Batch(truth, y))
    assert (psnr(found.state, truth) - psnr(exact, truth)).abs().max() < 1e-6
    assert found.loss.item() == pytest.approx(golden(file, "F").item(), rel=1e-8)
    for name, gradient in zip(problem.theta(), found.gradient, strict=True):
        error = relative_error(gradient.flatten(), golden(file, f"grad/{THEIRS[name]}"))
        # that by β is a small rest of large parts
        assert error < (1e-6 if name == "log_sharpness" else 1e-8), name
