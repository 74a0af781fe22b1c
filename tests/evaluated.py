"""A row of an evaluation, and what it is made from."""

from __future__ import annotations

from torch import Tensor

from benchmark.measure.evaluation import evaluate
from benchmark.measure.failure import Outcome
from benchmark.measure.truth import Truth
from benchmark.plugins.bilevel_solver import BilevelSolver
from benchmark.problems.bilevel import BilevelTask

RIDGE = "wavelet_l1(wavelet='db2',levels=2,ridge=0.1)"
INPAINTING = "inpainting(keep=0.5)"
TIGHT = {"tol": 1e-13, "adjoint_tol": 1e-13}
ACCURACY = ("value", "test_psnr", "test_ssim", "equilibrium_residual")
ESTIMATE = ("gradient_error", "gradient_cosine", "state_residual", "layer_evals", "vjp_evals")
COST = (
    "gradient_seconds",
    "layer_seconds",
    "vjp_seconds",
    "gradient_cost",
    "overhead",
    "overhead_low",
    "overhead_high",
    "peak_memory_mib",
    "peak_device_mib",
)


def theta_of(task: BilevelTask) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in task.lower.theta().items()}


def row_of(
    solver: BilevelSolver,
    task: BilevelTask,
    *,
    theta: dict[str, Tensor] | None = None,
    truth: Truth | None = None,
    training: Outcome | None = None,
    last: bool = False,
) -> dict[str, object]:
    return evaluate(
        solver,
        theta_of(task) if theta is None else theta,
        truth=truth or Truth(task),
        task=task,
        training=training or Outcome(),
        last=last,
    )
