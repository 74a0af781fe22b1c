"""Search without gradients, through optuna."""

import optuna
import torch
from optuna.trial import create_trial

from benchmark.gradients.differences import as_parameters, as_vector, few_parameters
from benchmark.options.seeds import seed_of
from benchmark.plugins.search_method import SearchMethod

SAMPLERS = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}


class Solver(SearchMethod):
    """Try θ of a box and keep the best; the next one where a model of those tried promises most.

    The box is the initial θ ± ``span`` in every entry (the parameters are logarithms, mostly); the
    initial θ is the first to be tried. ``sampler`` "tpe" draws from the ratio of two Parzen
    estimates, of the good trials and of the others, after ten uniform ones; "random" is uniform
    throughout. Drawn from the seed of the task and the number of trials. More than
    ``max_parameters`` parameters are refused. Cost: one equilibrium a trial; memory: a few states.
    Reference: Bergstra et al., "Algorithms for hyper-parameter optimization" (2011); Akiba et al.,
    "Optuna" (2019), arXiv 1907.10902.

    Use it where θ has few entries and no gradient is to be had.
    """

    # spelled out: benchopt reads them from the source where optuna is not installed
    name = "TPE"
    requirements = ["pip::optuna"]
    parameters = {
        "steps": [20],
        "batch_size": [0],
        "evaluate_every": [5],
        "tol": [1e-4],
        "max_layers": [5000],
        "equilibrium_solver": ["anderson"],
        "sampler": ["tpe"],
        "span": [3.0],
        "max_parameters": [100],
    }

    def propose(self, lower, tried):
        theta = lower.theta()
        number = few_parameters([*theta.values()], self.max_parameters, what="one dimension")
        if not tried:
            return {name: p.detach().clone() for name, p in theta.items()}
        start = as_vector(theta.values())
        axis = optuna.distributions.FloatDistribution(-self.span, self.span)
        axes = dict.fromkeys(map(str, range(number)), axis)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = seed_of(self.task.seed, "trials", len(tried)) % 2**32
        study = optuna.create_study(sampler=SAMPLERS[self.sampler](seed=seed))
        for trial in tried:
            vector = torch.cat([trial.theta[name].flatten() for name in theta])
            moved = (vector - start).double().clamp(-self.span, self.span).tolist()
            params = dict(zip(axes, moved, strict=True))
            study.add_trial(create_trial(params=params, distributions=axes, value=trial.value))
        moves = torch.tensor([*map(study.ask(axes).params.get, axes)], dtype=start.dtype)
        values = as_parameters(start + moves.to(start.device), theta.values())
        return {name: value.clone() for name, value in zip(theta, values, strict=True)}
