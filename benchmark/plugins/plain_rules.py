"""What a parameter of a plugin may be, by its name: of all those that can be told without torch."""

from __future__ import annotations

from functools import partial

from benchmark.options import checks
from benchmark.plugins.schedules import DECREASES

DTYPE_NAMES = ("float32", "float64")

#: the samplers of optuna that ``TPE`` takes; it may be absent
SAMPLERS = dict.fromkeys(("tpe", "random"))

#: the solvers that torchdeq has by name; it may be absent
TORCHDEQ_SOLVERS = dict.fromkeys(("fixed_point_iter", "anderson", "broyden"))

#: layers, terms, directions: what is done so often in one outer step and may be kept in memory
MANY = 100_000
#: relative residuals and errors
TOLERANCE = partial(checks.positive_number, most=1)

#: what a parameter of that name may be, in whichever plugin it occurs
PLAIN_RULES = {
    "learning_rate": partial(checks.positive_number, most=1e6),
    "steps": checks.nonnegative_integer,
    "batch_size": checks.nonnegative_integer,
    "chunk": checks.nonnegative_integer,
    "evaluate_every": checks.positive_integer,
    "warm_start": checks.boolean,
    "polish": checks.boolean,
    "layers": partial(checks.positive_integer, most=MANY),
    "restarts": partial(checks.nonnegative_integer, most=MANY),
    "max_layers": checks.positive_integer,
    "factor": partial(checks.strictly_between, low=1, high=1e6),
    "terms": partial(checks.positive_integer, most=MANY),
    "damping": checks.fraction,
    "step": partial(checks.positive_number, most=1e3),
    "directions": partial(checks.positive_integer, most=MANY),
    "max_parameters": partial(checks.positive_integer, most=MANY),
    "inner_steps": partial(checks.positive_integer, most=MANY),
    "memory": partial(checks.positive_integer, most=1000),
    "fallback": checks.optional(checks.positive_number),
    "first_tol": TOLERANCE,
    "first_move": partial(checks.positive_number, most=1e3),
    "adaptive": checks.boolean,
    "decrease": partial(checks.one_of, names=DECREASES),
    "sampler": partial(checks.one_of, names=SAMPLERS),
    # θ are logarithms, mostly
    "span": partial(checks.positive_number, most=50),
    "tol": TOLERANCE,
    "adjoint_tol": TOLERANCE,
    "gradient_tol": checks.optional(TOLERANCE),
    # as torchdeq and deepinv call theirs
    "f_solver": partial(checks.one_of, names=TORCHDEQ_SOLVERS),
    "b_solver": partial(checks.one_of, names=TORCHDEQ_SOLVERS),
    "f_tol": TOLERANCE,
    "b_tol": TOLERANCE,
    "f_max_iter": checks.positive_integer,
    "b_max_iter": checks.positive_integer,
    "grad": partial(checks.positive_integer, most=MANY),
    "tau": partial(checks.positive_number, most=2),
    "m": partial(checks.positive_integer, most=1000),
    "lam": checks.nonnegative_number,
    "thres_conv": TOLERANCE,
    "max_iter": checks.positive_integer,
    "max_iter_backward": checks.positive_integer,
    "anderson": checks.boolean,
    "history_size": partial(checks.positive_integer, most=1000),
    "eps": checks.nonnegative_number,
    # of datasets and of the objective
    "degradation": checks.text,
    "n_train": partial(checks.positive_integer, most=10**6),
    "n_test": partial(checks.positive_integer, most=10**6),
    "lower": checks.text,
    "loss": checks.text,
    "metrics": checks.optional(checks.text),
    "probe_size": partial(checks.positive_integer, most=10**6),
    "dtype": partial(checks.one_of, names=DTYPE_NAMES),
    "device": checks.device,
    "compiled": checks.boolean,
}
