"""One run of ``time_to_train``: followed step by step, F looked at while its clock stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import inf, isfinite

from native_loops import Moment
from torch import Tensor
from training_settings import Options

from benchmark.measure.reference import true_equilibrium
from benchmark.measure.truth import at_theta
from benchmark.problems.bilevel import BilevelTask, upper_loss

#: relative, above the best known F
TARGETS = (1e-2, 1e-3)
#: outer steps, layers and products, and seconds of the processor of a run at most
STEPS, BUDGET, SECONDS = 100, 5000, 300.0
#: outer steps at which F is evaluated; so many without 1e-4 less, the last of them after ``EARLY``
#: steps, and it has settled
CHECKS, UNCHANGED, EARLY = (0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, STEPS), 5, 20
#: relative: what F may change by in a decade of residuals, ten times what is then wrong with it;
#: and how far below the last target a run goes, lest the best known F fall beneath it
EXACT, BEYOND = 1e-4, 5e-4
#: options that settings of a method share
HIDDEN = ("equilibrium_solver", "f_solver", "b_solver", "warm_start", "anderson")


@dataclass
class Trial:
    """A run: of every outer step the seconds so far, by the clock and of the processor, layers and
    products; F at some of them; why it ended.
    """

    settings: Options
    rate: float | None
    seconds: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    products: list[int] = field(default_factory=list)
    values: dict[int, float] = field(default_factory=dict)
    end: str = "failed"

    @property
    def least(self) -> float:
        return min(self.values.values(), default=inf)

    @classmethod
    def of_json(cls, kept: Mapping[str, object]) -> Trial:
        values = {int(step): value for step, value in kept["values"].items()}
        return cls(**{**kept, "values": values})


def crossing(values: Mapping[int, float], limit: float) -> int | None:
    """The first step at which F was seen to be at most ``limit``; None: never."""
    return min((step for step, value in values.items() if value <= limit), default=None)


def first_below(value: Callable[[int], float], above: int, below: int, limit: float) -> int:
    """The first step after ``above`` with F of at most ``limit``, by bisection: it is more at
    ``above``, not at ``below``, and taken to cross it once between.

    Examples
    --------
    >>> first_below(lambda step: 10 - step, 0, 10, limit=7)
    3
    """
    while below - above > 1:
        middle = (above + below) // 2
        above, below = (above, middle) if value(middle) <= limit else (middle, below)
    return below


def rank(trial: Trial, best: float) -> tuple[float, ...]:
    """What sorts trials: more targets reached, then sooner; none reached, then by the least F."""
    steps = [crossing(trial.values, (1 + target) * best) for target in TARGETS]
    reached = [step for step in steps if step is not None]
    seconds = trial.busy[reached[-1]] if reached else trial.least
    return (-len(reached), seconds)


def settled(values: Mapping[int, float]) -> bool:
    """Whether the last ``UNCHANGED`` values are no less than what was before, by 1e-4."""
    steps = [step for step in sorted(values) if step in CHECKS]
    if len(steps) <= UNCHANGED or steps[-1] < EARLY:
        return False
    before, after = steps[:-UNCHANGED], steps[-UNCHANGED:]
    return min(map(values.get, after)) > (1 - 1e-4) * min(map(values.get, before))


def followed(
    trial: Trial,
    course: Iterable[Moment],
    loss: Callable[[Tensor], float],
    *,
    best: float,
    most_seconds: float = inf,
) -> Trial:
    """``trial`` with what became of ``course``; F is evaluated while its clock stands."""
    thetas, last = [], 0

    def value(step: int) -> float:
        if step not in trial.values:
            trial.values[step] = loss(thetas[step])
        return trial.values[step]

    for step, moment in enumerate(islice(course, STEPS + 1)):
        thetas.append(moment.theta)
        trial.seconds.append(moment.seconds)
        trial.busy.append(moment.busy)
        trial.layers.append(moment.layers)
        trial.products.append(moment.products)
        slower = moment.busy > most_seconds
        spent = moment.busy > SECONDS or moment.layers + moment.products > BUDGET
        if not (step in CHECKS or slower or spent):
            continue
        now = value(step)
        for limit in ((1 + target) * best for target in TARGETS):
            if now <= limit and crossing(trial.values, limit) == step:
                first_below(value, last, step, limit)
        last = step
        ends = {
            "reached": now <= (1 + TARGETS[-1] - BEYOND) * best,
            "diverged": not isfinite(now),
            "slower": slower,
            "budget": spent or step == STEPS,
            "settled": settled(trial.values),
        }
        if any(ends.values()):
            trial.end = next(end for end, there in ends.items() if there)
            break
    return trial


class TrainingLoss:
    """F(θ) on the training set at the true equilibrium, in float64, from where the last θ's was."""

    def __init__(self, exact: BilevelTask) -> None:
        self.task, self.x = exact, None

    def __call__(self, theta: Tensor) -> float:
        if not theta.isfinite().all():
            return inf
        lower, batch = at_theta(self.task.lower, {"log_weights": theta}), self.task.train
        tol, before, now = 1e-5, inf, inf
        while not abs(before - now) <= EXACT * now and tol >= 1e-9:
            found = true_equilibrium(lower, batch.observation, tol=tol, x0=self.x)
            before, now, self.x = now, float(upper_loss(lower, found.x, batch)), found.x
            tol /= 10
        return now


def told(key: str, trial: Trial, best: float) -> str:
    """A line on a trial: what it was, how it ended, and when it was where."""
    options = {name: v for name, v in trial.settings.items() if name not in HIDDEN}
    texts = [f"{key} {options} rate {trial.rate}: {trial.end}, F {trial.least / best - 1:+.2%}"]
    seconds = f"{trial.busy[-1]:.1f} s of {trial.seconds[-1]:.1f} s"
    texts += [f"{seconds}, {trial.layers[-1]} + {trial.products[-1]}"]
    for target in TARGETS:
        step = crossing(trial.values, (1 + target) * best)
        found = "never" if step is None else f"step {step}, {trial.busy[step]:.2f} s"
        texts.append(f"{target:.1%}: {found}")
    return "; ".join(texts)
