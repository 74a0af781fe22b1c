"""The metrics of the benchmark; the bilevel task that they judge is made here, not trained."""

import torch
from benchopt import BaseObjective

from benchmark.imaging.images import digest
from benchmark.measure import evaluation
from benchmark.measure.device import device_name, resolve_device, threads
from benchmark.measure.provenance import sources_digest
from benchmark.options.checks import check_all
from benchmark.plugins.rules import DTYPES, RULES
from benchmark.plugins.task import make_task


class Objective(BaseObjective):
    """F(θ) = 1/n Σ_i ‖R_θ(x*(θ; y_i)) − x̄_i‖², x* the equilibrium of a layer T_θ(·; y).

    Parameters
    ----------
    lower : the family of layers, "name" or "name(option=value, …)": see ``benchmark/problems``.
    probe_size : number of training images on which gradients are compared.
    dtype : "float32" or "float64", of the methods; the reference is always in float64.
    device : "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:i".
    compiled : whether the methods' layers go through torch.compile.
    """

    name = "Learning at equilibrium"
    url = "https://github.com/#ORG/benchmark_equilibrium_gradients"
    requirements = ["pip::torch", "pip::deepinv", "pip::torchwavelets"]
    min_benchopt_version = "1.10"
    parameters = {
        "lower": ["wavelet_l1"],
        "probe_size": [2],
        "dtype": ["float32"],
        "device": ["auto"],
        "compiled": [False],
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
            )
        except ValueError as error:
            return True, str(error)
        self.truth = evaluation.Truth(exact.to(device=device, dtype=torch.float64))
        self.task = exact.to(device=device, dtype=DTYPES[self.dtype])
        self.task.lower.compiled = self.compiled
        self.provenance = {
            "images_digest": digest(
                *(t for b in (exact.train, exact.test) for t in (b.truth, b.observation))
            ),
            "sources_digest": sources_digest(),
            "torch_version": torch.__version__,
            "device_name": device_name(device),
            "threads": threads(),
        }
        return False, None

    def set_data(self, train, test, degradation, seed):
        # the task is there: benchopt asks skip() first, with the same data
        pass

    def get_objective(self):
        return {"task": self.task}

    def evaluate_result(self, theta, method, outer_step, training, training_layer_evals, last):
        columns = evaluation.evaluate(
            method, theta, truth=self.truth, task=self.task, training=training, last=last
        )
        return columns | {
            "method": method.name,
            "outer_step": outer_step,
            "training_layer_evals": training_layer_evals,
            # why the run ended, in its last row; whoever cuts a run before that writes it there
            "ended": ("finished" if training.ok else "error") if last else "",
            **self.provenance,
        }

    # benchopt's cache knows this file alone, not the package behind it
    def _get_state(self):
        return {"sources": sources_digest()}

    def __setstate__(self, state):
        pass
