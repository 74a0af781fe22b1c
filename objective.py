"""The metrics of the benchmark; the bilevel task that they judge is made here, not trained."""

import hashlib
import json
from pathlib import Path

import torch
from benchopt import BaseObjective

from benchmark.imaging.extra_metrics import directions, make_metrics
from benchmark.measure import provenance
from benchmark.measure.device import device_name, resolve_device, threads
from benchmark.measure.truth import Truth
from benchmark.options.checks import check_all
from benchmark.plugins.keyed import KeyedObjective, behind
from benchmark.plugins.rows import Rows
from benchmark.plugins.rules import DTYPES, RULES
from benchmark.plugins.task import make_task
from benchmark.problems.bilevel import images_digest
from benchmark.running.course import Course

#: where runs are kept that have not ended, and what all runs of a task have in common
UNFINISHED = Path(__file__).resolve().parent / "outputs" / "unfinished"
COMMON = UNFINISHED.with_name("common")
#: error bar at which a reference is exact enough: of gradients in float32, which rounding keeps at
#: larger errors; in float64 it is as exact as it can be
ENOUGH = {"float32": 1e-7, "float64": 0.0}


class Objective(KeyedObjective, BaseObjective):
    """F(θ) = 1/n Σ_i ℓ(R_θ(x*(θ; y_i)), x̄_i), x* the equilibrium of a layer T_θ(·; y).

    Parameters
    ----------
    lower : the family of layers, "name" or "name(option=value, …)": see ``benchmark/problems``.
    probe_size : number of training images on which gradients are compared.
    dtype : "float32" or "float64", of the methods; the reference is always in float64.
    device : "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:i".
    compiled : whether the methods' layers go through torch.compile.
    loss : ℓ, "mse", "l1", "ssim" (1 − SSIM), "deepinv.NAME" or a file: see
        ``benchmark/imaging/losses.py``.
    metrics : of the test set beside PSNR and SSIM, in one text, "lpips, deepinv.NAME, FILE.py": a
        column ``metric_NAME`` each; ``higher_is_better`` holds their directions, as JSON. See
        ``benchmark/imaging/extra_metrics.py``.
    """

    name = "Learning at equilibrium"
    url = "https://github.com/#ORG/benchmark_equilibrium_gradients"
    # of the package too, which any plugin imports; a test holds them to pyproject.toml
    requirements = [
        *("pip::torch", "pip::torchvision", "pip::deepinv", "pip::torchwavelets"),
        *("pip::cloudpickle", "pip::safetensors", "pip::pillow", "pip::tifffile"),
        *("pip::pandera", "pip::seaborn", "pip::great_tables", "pip::jinja2", "pip::tabulate"),
        *("pip::natsort", "pip::memory-profiler"),
    ]
    min_benchopt_version = "1.10"
    parameters = {
        "lower": ["wavelet_l1(ridge=0.05)"],
        "probe_size": [2],
        "dtype": ["float32"],
        "device": ["auto"],
        "compiled": [False],
        "loss": ["mse"],
        "metrics": [None],
    }
    sampling_strategy = "callback"
    test_dataset_name = "simulated"

    def skip(self, unavailable=None, train=None, test=None, degradation=None, seed=None):
        """Make the task; one that cannot be made is skipped with the reason, the others go on."""
        if unavailable:
            return True, unavailable
        try:
            check_all(self._parameters, RULES)
            device = resolve_device(self.device)
            exact = make_task(
                train=train,
                test=test,
                degradation=degradation,
                lower=self.lower,
                probe_size=self.probe_size,
                seed=seed,
                loss=self.loss,
            )
            metrics = make_metrics(self.metrics)
        except ValueError as error:
            return True, str(error)
        self.task = exact.to(device=device, dtype=DTYPES[self.dtype])
        truth = Truth(
            exact.to(device=device, dtype=torch.float64),
            metrics,
            enough=ENOUGH[self.dtype],
            descends=exact.to(device=device, dtype=DTYPES[self.dtype]),
        )
        self.task.lower.compiled = self.compiled
        self.rows = Rows(truth, self.task)
        self.origin = {
            "loss": self.loss,
            "higher_is_better": directions(metrics),
            "images_digest": images_digest(exact.train, exact.test),
            "test_photographs": _as_text(exact.test.photographs),
            "torch_version": torch.__version__,
            "device_name": device_name(device),
            "threads": threads(),
        }
        return False, None

    def set_data(self, train, test, degradation, seed):
        # the task is there: benchopt asks skip() first, with the same data
        pass

    def get_objective(self):
        sources = provenance.digest(behind(self, self._dataset))
        identity = json.dumps([self._parameters, self.origin, self.task.seed, sources], default=str)
        name = hashlib.sha256(identity.encode()).hexdigest()[:24]
        self.rows.truth.kept_in = COMMON / f"{name}.safetensors"
        return {
            "task": self.task.learning,
            "evaluate": self.rows,
            "stream": Course(UNFINISHED, identity, self.rows.truth),
        }

    def evaluate_result(self, row, method):
        sources = behind(self, self._dataset, method)
        return {
            **row,
            "method": method.name,
            **self.origin,
            "sources_digest": provenance.digest(sources),
            "sources": provenance.as_text(sources),
        }


def _as_text(names):
    return None if names is None else json.dumps(names)
