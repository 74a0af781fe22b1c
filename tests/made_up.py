"""Made-up results, whose numbers follow from formulas written here."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from benchopt.results import save_results
from matplotlib.figure import Figure
from matplotlib.text import Text

from benchmark.report import drawing
from benchmark.report.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
RUN_OF = ["objective_name", "dataset_name", "solver_name"]
TASKS = {"denoising(noise=0.1)": 0.6, "inpainting(keep=0.5,noise=0.05)": 0.93}
DENOISING, INPAINTING = TASKS
LAYER_SECONDS = 0.01
STUDY = (
    ("Unrolling", {"layers": 10}),
    ("JFB", {"tol": 1e-6, "max_layers": 1000}),
    ("Restarted-JFB", {"layers": 10, "restarts": 5}),
    ("DEQ", {"tol": 1e-6, "adjoint_tol": 1e-6, "max_layers": 1000}),
)
DEPTHS = (1, 2, 5, 10, 20, 50)
SWEEP = (
    *(("Unrolling", {"layers": depth}) for depth in DEPTHS),
    *(
        ("Restarted-JFB", {"layers": depth, "restarts": restarts})
        for restarts in (1, 5, 20)
        for depth in DEPTHS
    ),
    STUDY[1],
    STUDY[3],
)


# --- made-up results -------------------------------------------------------------------------


def gradient_error(method: str, parameters: dict, kappa: float) -> float:
    """Truncation κᴷ, plus what the state's own error adds."""
    depth, restarts = parameters.get("layers", 1), parameters.get("restarts", 0)
    return {
        "Unrolling": 0.8 * kappa**depth + 4 * kappa ** (0.8 * depth),
        "Restarted-JFB": 0.8 * kappa**depth + 4 * kappa ** (0.8 * (restarts + 1) * depth),
        "DEQ": 3e-7,
    }.get(method, 0.8)


def layers_run(method: str, parameters: dict) -> int:
    """Applications of T in one hypergradient."""
    depth, restarts = parameters.get("layers", 1), parameters.get("restarts", 0)
    return {"Unrolling": depth, "Restarted-JFB": (restarts + 1) * depth}.get(method, 120)


def vjps_run(method: str, parameters: dict) -> int:
    """Vector-Jacobian products in one hypergradient."""
    return {"DEQ": 60}.get(method, parameters.get("layers", 1))


def learned(method: str, *, index: int, repetition: int) -> str:
    """θ: a stepsize, and six weights that part from each other step by step."""
    weights = [-3 + index * (len(method) / 10 + position / 5) for position in range(6)]
    return json.dumps({"log_weights": weights, "stepsize_logit": [0.1 * index + repetition]})


def image(task: str, error: float) -> np.ndarray:
    """A smooth 8-bit image, off by a checkerboard of the given amplitude."""
    row, column = np.mgrid[:32, :32] / 31
    clean = np.stack([row, column, 0.5 + 0.4 * np.sin(6 * row * column + len(task))], axis=2)
    board = error * (-1.0) ** np.indices((32, 32)).sum(axis=0)
    return np.round(255 * np.clip(0.1 + 0.8 * clean + board[..., None], 0, 1)).astype(np.uint8)


def run(
    method: str,
    parameters: dict,
    *,
    task: str,
    repetition: int = 0,
    evaluations: int = 8,
    status: str = "ok",
) -> list[dict]:
    """Rows of one run, an evaluation every ten outer steps; a failure is one more row, of NaN."""
    kappa = TASKS[task]
    scale = 1 + 0.1 * repetition
    steps = 10 * (evaluations - 1)
    own = {"steps": steps, "learning_rate": 0.1, **parameters}
    layers, vjps = layers_run(method, parameters), vjps_run(method, parameters)
    seconds = (layers + 2 * vjps) * LAYER_SECONDS
    bias = 0.002 * min(1.0, gradient_error(method, parameters, kappa))
    rows = []
    for index in range(evaluations):
        value = 0.004 * scale + 0.02 * np.exp(-index / 2) + bias * (1 - np.exp(-index / 3))
        rows.append(
            {
                "stop_val": index,
                "time": 10 * index * seconds * scale,
                "objective_value": value,
                "objective_test_psnr": -10 * np.log10(1.2 * value),
                "objective_test_ssim": 1 - 10 * value,
                "objective_test_psnr_deployed": -10 * np.log10(1.3 * value),
                "objective_gradient_error": scale * gradient_error(method, parameters, kappa),
                "objective_gradient_cosine": 1 - gradient_error(method, parameters, kappa) / 9,
                "objective_gradient_error_estimate": 0.3
                * gradient_error(method, parameters, kappa),
                "objective_overhead": 1.2,
                "objective_reference_residual": 1e-11,
                "objective_contraction": kappa,
                "objective_state_residual": 1e-6,
                "objective_equilibrium_residual": 1e-12,
                "objective_gradient_seconds": scale * seconds,
                "objective_layer_seconds": LAYER_SECONDS,
                "objective_peak_memory_mib": 2 + 4.5 * parameters.get("layers", 1 + vjps // 30),
                "objective_peak_device_mib": 6 + 4.5 * parameters.get("layers", 1),
                "objective_layer_evals": float(layers),
                "objective_vjp_evals": float(vjps),
                "objective_training_layer_evals": 10.0 * index * layers,
                "objective_outer_step": float(10 * index),
                "objective_status": "ok",
                "objective_message": "",
                "objective_learned": learned(method, index=index, repetition=repetition),
            }
        )
    if status != "ok":
        empty = dict.fromkeys([key for key in rows[0] if key.startswith("objective_")], np.nan)
        empty["objective_learned"] = None
        failed = {"objective_status": status, "objective_message": "it failed"}
        last = {**rows[-1], **empty, **failed, "stop_val": evaluations}
        rows = [*rows[: evaluations // 2], last]
    else:
        amplitude = 0.05 + 10 * bias
        rows[-1]["objective_reconstruction"] = image(task, amplitude)
        rows[-1]["objective_observation"] = image(task, 0.2)
        rows[-1]["objective_truth"] = image(task, 0.0)
    written = ",".join(f"{key}={own[key]}" for key in sorted(own))
    common = {
        "objective_name": "Bilevel[device=cpu,dtype=float32,lower=wavelet_l1(ridge=0.1)]",
        "solver_name": f"{method}[{written}]",
        "dataset_name": f"Photographs[degradation={task},size=64]",
        "idx_rep": repetition,
        "sampling_strategy": "callback",
        "p_obj_lower": "wavelet_l1(ridge=0.1)",
        "p_obj_device": "cpu",
        "p_obj_dtype": "float32",
        "p_dataset_degradation": task,
        "p_dataset_size": 64,
        "objective_method": method,
        "objective_sources_digest": "abc123",
        "objective_images_digest": f"img{len(task)}",
        "objective_torch_version": "2.14.0",
        "objective_device_name": "a processor",
        "objective_threads": 1,
        "platform": "Linux",
        "system-cpus": 2,
        "version-numpy": "2.4.0",
        **{f"p_solver_{key}": value for key, value in own.items()},
    }
    return [{**common, **row} for row in rows]


def study(*, methods=STUDY, tasks=tuple(TASKS)) -> pd.DataFrame:
    """Four methods, two tasks, two repetitions; DEQ diverges in one run of inpainting."""
    rows = []
    for task in tasks:
        for method, parameters in methods:
            for repetition in range(2):
                failed = (method, task, repetition) == ("DEQ", INPAINTING, 1)
                status = "diverged" if failed else "ok"
                rows += run(method, parameters, task=task, repetition=repetition, status=status)
    return pd.DataFrame(rows)


def sweep(*, tasks=tuple(TASKS), depths=DEPTHS) -> pd.DataFrame:
    """One evaluation of each configuration, without training."""
    rows = []
    for task in tasks:
        for method, parameters in SWEEP:
            if parameters.get("layers", depths[0]) in depths:
                rows += run(method, parameters, task=task, evaluations=1)
    return pd.DataFrame(rows)


def save(frame: pd.DataFrame, path: Path) -> Path:
    save_results(frame, path, uniquify=False)
    return path


def cli(*arguments: object, drawn: bool = True) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command line, in this process.

    drawn : whether there are drawings in the figures' files, which take most of the time.
    """
    out, err = io.StringIO(), io.StringIO()
    save = drawing.save if drawn else _named_alone
    with (
        mock.patch.object(drawing, "save", save),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def _named_alone(figure: Figure, stem: Path) -> list[str]:
    files = [stem.parent / f"{stem.name}.{kind}" for kind in ("png", "pdf")]
    for file in files:
        file.write_bytes(b"")
    return [file.name for file in files]


def texts(figure: Figure) -> str:
    """Every text of a figure, legends and tick labels included."""
    found = figure.findobj(Text)
    return "\n".join(text.get_text() for text in found)


def one_task(frame: pd.DataFrame, word: str) -> pd.DataFrame:
    return frame[frame["task"].str.contains(word)]


# --- benchopt's pages ------------------------------------------------------------------------


def load_plot(name: str):
    spec = importlib.util.spec_from_file_location(f"plot_{name}", ROOT / "plots" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Plot.get_instance()
