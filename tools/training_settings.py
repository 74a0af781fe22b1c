"""What ``time_to_train`` tries: the settings of each method, the likeliest first.

The equilibrium solver is Anderson's everywhere. Tolerances are relative residuals of states and
adjoints. Left out are Pair (others by another name), Checkpointed-Unrolling (Unrolling, slower) and
Finite-Differences (19 equilibria an outer step).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Options = dict[str, object]

#: of Adam; the first is tried first
RATES = (0.1, 0.03, 0.3)


@dataclass(frozen=True)
class Method:
    """A plugin of ``solvers/`` or a loop of ``native_loops``, by its name; ``start``: whether it
    takes over the state and the adjoint of the last outer step, "warm", or not, "cold".
    """

    name: str
    start: str
    settings: tuple[Options, ...]
    rates: tuple[float | None, ...] = RATES

    @property
    def key(self) -> str:
        return f"{self.name}, {self.start}"


_TOL = tuple({"tol": tol} for tol in (1e-3, 1e-2, 1e-4))
_PAIRS = ((1e-3, 1e-1), (1e-3, 1e-2), (1e-4, 1e-2), (1e-2, 1e-1))
_BOTH = tuple({"tol": state, "adjoint_tol": adjoint} for state, adjoint in _PAIRS)
_SOLVER = {"equilibrium_solver": "anderson"}
#: other libraries' Anderson acceleration, unregularised: their defaults stall at small residuals
_TORCHDEQ = {"f_solver": "anderson", "b_solver": "anderson", "lam": 0.0}
_DEEPINV = {"anderson": True, "eps": 1e-12}


def _each(held: Options, *settings: Options) -> tuple[Options, ...]:
    return tuple(held | own for own in settings)


#: plugins that are run cold and warm
_BOTH_WAYS: dict[str, tuple[Options, ...]] = {
    "HOAG": _each(
        _SOLVER,
        {"first_tol": 1e-2},
        {"first_tol": 1e-1},
        {"first_tol": 1e-1, "decrease": "quadratic"},
    ),
    "DEQ": (*_each(_SOLVER, *_BOTH), {**_SOLVER, "gradient_tol": 0.1}),
    "JFB": _each(_SOLVER, *_TOL),
    "Neumann": _each({**_SOLVER, "tol": 1e-3}, {"terms": 10}, {"terms": 3}, {"terms": 30}),
    "Restarted-JFB": (
        {"layers": 10, "restarts": 1},
        {"layers": 3, "restarts": 3},
        {"layers": 10, "restarts": 10},
        {"layers": 30, "restarts": 1},
    ),
    "Unrolling": ({"layers": 10}, {"layers": 30}, {"layers": 100}),
    "Phantom": _each({**_SOLVER, "tol": 1e-3}, {"layers": 10}, {"layers": 3}),
    "SHINE": _each(_SOLVER, *_TOL[:2]),
    "Newton-DEQ": _each({**_SOLVER, "adjoint_tol": 1e-1}, {"tol": 1e-2}, {"tol": 1e-3}),
    "Recycled-DEQ": _each(_SOLVER, *_BOTH[:2]),
    "Sketched-DEQ": _each({**_SOLVER, "tol": 1e-3}, {"directions": 10}, {"directions": 30}),
    "Piggyback": _TOL[:2],
    "Forward-Mode": _each(_SOLVER, {"tol": 1e-2}, {"tol": 1e-3}),
    "SPSA": _each({**_SOLVER, "step": 1e-2, "tol": 1e-4}, {"directions": 2}, {"directions": 10}),
    "torchdeq-IFT": _each(
        _TORCHDEQ, {"f_tol": 1e-3, "b_tol": 1e-1}, {"f_tol": 1e-3, "b_tol": 1e-2}
    ),
    "torchdeq-Phantom": _each(
        {"f_solver": "anderson", "lam": 0.0, "f_tol": 1e-3}, {"grad": 10}, {"grad": 3}
    ),
    "deepinv-DEQ": _each(_DEEPINV, {"thres_conv": 1e-3}, {"thres_conv": 1e-4}),
    "deepinv-JFB": _each(_DEEPINV, {"thres_conv": 1e-3}, {"thres_conv": 1e-4}),
    "TorchOpt": _each({**_SOLVER, "b_tol": 1e-1}, {"tol": 1e-3}, {"tol": 1e-4}),
}
#: loops without this project that are run cold and warm
_LOOPS: dict[str, tuple[Options, ...]] = {
    "native deepinv": (
        *_each({"eps": 1e-12}, {"thres_conv": 1e-3}, {"thres_conv": 1e-4}, {"thres_conv": 1e-5}),
        *_each({"eps": None}, {"thres_conv": 1e-3}, {"thres_conv": 1e-4}, {"thres_conv": 1e-5}),
    ),
    "native deepinv, Jacobian-free": _each(
        {"eps": 1e-12, "jacobian_free": True}, {"thres_conv": 1e-3}, {"thres_conv": 1e-4}
    ),
    "native torchdeq": (
        *_each({"lam": 0.0}, {"tol": 1e-3}, {"tol": 1e-2}, {"tol": 1e-4}),
        {"lam": 1e-4, "tol": 1e-3},
        {"solver": "fixed_point_iter", "tol": 1e-3},
    ),
    "equilibrium() on deepinv's layer": _BOTH[:2],
}
#: plugins that carry over what they need whatever they are told, or nothing
_ONE_WAY = (
    Method("Single-Loop", "warm", tuple({"inner_steps": n} for n in (5, 2, 1, 10))),
    Method("SABA", "warm", ({"inner_steps": 5},)),
    Method("Grid-Search", "cold", ({},), (None,)),
    Method("TPE", "cold", ({},), (None,)),
)


def methods() -> Iterator[Method]:
    """All of them, what is compared first, first."""
    for name, settings in (*_LOOPS.items(), *_BOTH_WAYS.items()):
        for start in ("warm", "cold"):
            warm = {"warm_start": start == "warm"}
            yield Method(name, start, tuple(warm | own for own in settings))
    yield Method("MAID", "warm", _each(_SOLVER, {"first_tol": 1e-3}, {"first_tol": 1e-2}), (None,))
    yield from _ONE_WAY


#: of which the cost of an outer step is told, once training has settled
SETTLED = (
    ("JFB", {**_SOLVER, "warm_start": True, "tol": 1e-3}),
    *(("DEQ", {**_SOLVER, "warm_start": True, **own}) for own in _BOTH),
    ("HOAG", {**_SOLVER, "warm_start": True, "first_tol": 1e-2}),
    ("Recycled-DEQ", {**_SOLVER, "warm_start": True, **_BOTH[0]}),
    *(("Single-Loop", {"inner_steps": n}) for n in (1, 2, 5)),
)
