"""What a parameter of a plugin may be, by its name."""

from __future__ import annotations

from functools import partial
from math import inf

import torch

from benchmark.gradients.named import gradient_rule
from benchmark.options import checks
from benchmark.plugins.schedules import DECREASES
from benchmark.solve.named import adjoint_solver, equilibrium_solver

OPTIMIZERS = {"adam": torch.optim.Adam, "gradient_descent": torch.optim.SGD}

#: the solvers that torchdeq has by name; it may be absent
TORCHDEQ_SOLVERS = dict.fromkeys(("fixed_point_iter", "anderson", "broyden"))

#: what a parameter of that name may be, in whichever plugin it occurs
RULES = {
    "optimizer": partial(checks.one_of, table=OPTIMIZERS),
    "learning_rate": checks.positive_number,
    "steps": checks.nonnegative_integer,
    "batch_size": checks.nonnegative_integer,
    "evaluate_every": checks.positive_integer,
    "warm_start": checks.boolean,
    "polish": checks.boolean,
    "layers": checks.positive_integer,
    "restarts": checks.nonnegative_integer,
    "max_layers": checks.positive_integer,
    "factor": partial(checks.strictly_between, low=1, high=inf),
    "terms": checks.positive_integer,
    "damping": checks.fraction,
    "step": checks.positive_number,
    "directions": checks.positive_integer,
    "max_parameters": checks.positive_integer,
    "inner_steps": checks.positive_integer,
    "memory": checks.positive_integer,
    "fallback": checks.optional(checks.positive_number),
    "first_tol": checks.positive_number,
    "decrease": partial(checks.one_of, table=DECREASES),
    "span": checks.positive_number,
    "tol": checks.positive_number,
    "adjoint_tol": checks.positive_number,
    "gradient_tol": checks.optional(checks.positive_number),
    "equilibrium_solver": lambda _, value: equilibrium_solver(value),
    "adjoint_solver": lambda _, value: adjoint_solver(value),
    "tangent_solver": lambda _, value: adjoint_solver(value),
    "gradient": lambda _, value: gradient_rule(value),
    # as torchdeq and deepinv call theirs
    "f_solver": partial(checks.one_of, table=TORCHDEQ_SOLVERS),
    "b_solver": partial(checks.one_of, table=TORCHDEQ_SOLVERS),
    "f_tol": checks.positive_number,
    "b_tol": checks.positive_number,
    "f_max_iter": checks.positive_integer,
    "b_max_iter": checks.positive_integer,
    "grad": checks.positive_integer,
    "tau": checks.positive_number,
    "m": checks.positive_integer,
    "lam": checks.nonnegative_number,
    "thres_conv": checks.positive_number,
    "max_iter": checks.positive_integer,
    "max_iter_backward": checks.positive_integer,
    "anderson": checks.boolean,
    "history_size": checks.positive_integer,
    "eps": checks.nonnegative_number,
}
