"""What ``time_to_train`` found, as files: every trial, every round, and a page of tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Protocol

import pandas as pd
import training_settings
from training_course import HIDDEN, TARGETS, Trial, crossing

from benchmark.report.tables import to_markdown

#: how the names of methods begin that are another library's, or no method of ``solvers/``
OTHERS = ("native", "equilibrium()", "torchdeq", "deepinv", "TorchOpt")
#: what stands in the place of a time that there is none of
NEVER, UNTIMED = "never", "not timed"


class Found(Protocol):
    """A problem with what ``time_to_train`` has kept of it."""

    number: int
    cell: object
    best: float
    kept: dict[str, object]

    def trials(self, key: str) -> list[Trial]:
        """Those of a method, "NAME, warm" or "NAME, cold"."""

    def chosen(self, key: str) -> list[Trial]:
        """The fastest for each target that the method reaches."""


def trials(problems: Sequence[Found]) -> pd.DataFrame:
    """A row for each trial: what was run, how it ended, and when it was at each target."""
    rows = []
    for problem in problems:
        for key in problem.kept["trials"]:
            for trial in problem.trials(key):
                row = {
                    "problem": problem.number,
                    **vars(problem.cell),
                    "method": key,
                    "settings": json.dumps(trial.settings),
                    "learning_rate": trial.rate,
                    "end": trial.end,
                    "outer_steps": len(trial.busy) - 1,
                    "F_over_best": trial.least / problem.best,
                }
                for target in TARGETS:
                    step = crossing(trial.values, (1 + target) * problem.best)
                    for what in ("seconds", "busy", "layers", "products"):
                        found = None if step is None else getattr(trial, what)[step]
                        row[f"{what}_to_{target:g}"] = found
                    row[f"step_to_{target:g}"] = step
                rows.append(row)
    return pd.DataFrame(rows)


def rounds(problems: Sequence[Found]) -> pd.DataFrame:
    """A row for each problem, round, run and target, and those of an outer step once settled."""
    rows = []
    for problem in problems:
        for number, found in enumerate(problem.kept["rounds"]):
            for name, times in found.items():
                key, settings, rate = json.loads(name)
                own = {"method": key, "settings": json.dumps(settings), "learning_rate": rate}
                for target, pair in zip(TARGETS, times, strict=True):
                    seconds, busy = pair or (None, None)
                    to = {"to": target, "seconds": seconds, "busy": busy}
                    rows.append({"problem": problem.number, "round": number, **own, **to})
        for name, found in problem.kept["settled"].items():
            key, settings = json.loads(name)
            own = {"method": key, "settings": json.dumps(settings), "to": "outer step, settled"}
            for number in range(len(found["seconds"])):
                costs = {w: found[w][number] for w in ("seconds", "busy", "layers", "products")}
                costs |= {"gradient_error": found.get("error")}
                rows.append({"problem": problem.number, "round": number, **own, **costs})
    return pd.DataFrame(rows)


def times(problem: Found, key: str, target: float, clock: int) -> list[float]:
    """Seconds of each round of a method's fastest run to ``target``; none where it was not timed.

    clock : 0 that of the wall, 1 that of the processor.
    """
    trial = fastest(problem, key, target)
    if trial is None:
        return []
    name, at = json.dumps((key, trial.settings, trial.rate)), TARGETS.index(target)
    found = [of_one[name][at] for of_one in problem.kept["rounds"] if name in of_one]
    return [pair[clock] for pair in found if pair is not None]


def fastest(problem: Found, key: str, target: float) -> Trial | None:
    """The run of a method that was at ``target`` with the fewest seconds of the processor."""
    limit = (1 + target) * problem.best
    there = [t for t in problem.chosen(key) if crossing(t.values, limit) is not None]
    return min(there, key=lambda t: t.busy[crossing(t.values, limit)], default=None)


def ratio(own: Sequence[float], other: Sequence[float]) -> str:
    """own/other: the median over the rounds of their ratios, and the smallest and largest.

    Examples
    --------
    >>> ratio([2.0, 4.0, 9.0], [1.0, 1.0, 3.0])
    '3.0 (2.0 to 4.0)'
    """
    each = [a / b for a, b in zip(own, other, strict=False)]
    if not each:
        return UNTIMED
    return f"{median(each):.1f} ({min(each):.1f} to {max(each):.1f})"


def page(problems: Sequence[Found], digest: str) -> str:
    """The tables of all problems, in Markdown."""
    parts = ["# Time to train", f"{_EXPLAINED} Sources {digest}."]
    for problem in problems:
        cell = problem.cell
        best, off = problem.best, problem.kept["disagreement"]
        parts += [
            f"## {problem.number}: {cell.degradation}, {cell.images} × {cell.size}²",
            f"Best known F {best:.6g}, of L-BFGS {problem.kept['reference'] / best - 1:+.3%}; "
            f"deepinv's F at the same θ is ours {off:+.1e}. {contended(problem)}",
            to_markdown(methods(problem)),
            f"Not tried on it: {untried(problem)}.",
        ]
        if len(loops := against(problem)):
            parts += [_LOOPS, to_markdown(loops)]
        if problem.kept["settled"]:
            parts += [_STEPS, to_markdown(steps(problem))]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


_EXPLAINED = (
    "`python tools/time_to_train.py`: what each method takes until F is near the best known, at "
    "its best setting, the fastest first. Training alone, float32, one thread: "
    "seconds of the processor, then in brackets of the clock; medians over the rounds, or of the "
    "trial where a run was not timed again (*). Layers + products are those of that run, of all "
    "images at once. Never: at none of the settings and rates that were tried "
    "(`time_to_train/trials.csv`); in brackets the least F, above the best known."
)
_LOOPS = (
    "Times of loops without this project, in those of its fastest method: the median of the rounds "
    "(the least to the most)."
)
_STEPS = (
    "An outer step once training has settled, each method at the θ that it has come to: seconds of "
    "the processor, and in JFB's the median of the rounds (the least to the most); the error is "
    "that of the gradient that the next step would follow, against one refined to 1e-3."
)


def contended(problem: Found) -> str:
    """What share of the clock's seconds the runs of the rounds had the processor for."""
    known = [pair for r in problem.kept["rounds"] for t in r.values() for pair in t if pair]
    if not known:
        return "No round was timed: all times are those of trials."
    wall, busy = map(sum, zip(*known, strict=True))
    rounds = sum(bool(found) for found in problem.kept["rounds"])
    return f"Rounds: {rounds}; their runs had the processor for {busy / wall:.0%} of the time."


def untried(problem: Found) -> str:
    """The methods of the study that have no trial on the problem."""
    known = problem.kept["trials"]
    return "; ".join(m.key for m in training_settings.methods() if not known.get(m.key)) or "none"


def methods(problem: Found) -> pd.DataFrame:
    """A row for each method: what it takes to each target at its best setting, and which it is."""
    rows = []
    for key in filter(problem.trials, problem.kept["trials"]):
        row, order = {"method": key}, []
        for target in TARGETS:
            trial = fastest(problem, key, target)
            if trial is None:
                least = min(t.least for t in problem.trials(key))
                row[within(target)] = f"{NEVER} ({least / problem.best - 1:+.2%})"
                row[f"{within(target)}, how"] = ""
                order.append(float("inf"))
                continue
            step = crossing(trial.values, (1 + target) * problem.best)
            busy, wall = (times(problem, key, target, clock) for clock in (1, 0))
            pair = (median(busy), median(wall)) if busy else (trial.busy[step], trial.seconds[step])
            work = f"{trial.layers[step]} + {trial.products[step]}"
            row[within(target)] = f"{pair[0]:.2f} ({pair[1]:.2f}) s{'' if busy else '*'}, {work}"
            row[f"{within(target)}, how"] = f"{shown(trial)}; {step} steps"
            order.append(pair[0])
        rows.append((order[::-1], row))
    rows.sort(key=lambda pair: pair[0])
    return pd.DataFrame([row for _, row in rows])


def within(target: float) -> str:
    """The name of a target.

    Examples
    --------
    >>> within(0.001)
    'within 0.1 %'
    """
    return f"within {100 * target:g} %"


def shown(trial: Trial) -> str:
    """Its settings, without what all of the method share."""
    own = [f"{name}={value}" for name, value in trial.settings.items() if name not in HIDDEN]
    return ", ".join([*own, *([] if trial.rate is None else [f"rate {trial.rate:g}"])])


def against(problem: Found) -> pd.DataFrame:
    """Ratios, round by round, of the loops of others to the fastest method of ``solvers/``."""
    keys = [*filter(problem.trials, problem.kept["trials"])]
    ours = [key for key in keys if not key.startswith(OTHERS)]
    rows = []
    for target in TARGETS:
        known = {key: median(found) for key in ours if (found := times(problem, key, target, 1))}
        best = min(known, key=known.get, default=None)
        if best is None:
            continue
        for key in keys:
            if not key.startswith(("native", "equilibrium()")):
                continue
            row = {"to": within(target), "loop": key, "fastest method": best}
            for clock, name in ((1, "processor"), (0, "wall")):
                own = times(problem, key, target, clock)
                known = ratio(own, times(problem, best, target, clock))
                row[name] = known if fastest(problem, key, target) else NEVER
            rows.append(row)
    return pd.DataFrame(rows)


def steps(problem: Found) -> pd.DataFrame:
    """What an outer step costs once training has settled, and in units of JFB's."""
    found = {name: own for name, own in problem.kept["settled"].items() if own.get("busy")}
    jfb = next((own for name, own in found.items() if json.loads(name)[0] == "JFB"), None)
    rows = []
    for name, own in sorted(found.items(), key=lambda pair: median(pair[1]["busy"])):
        method, settings = json.loads(name)
        texts = [f"{n}={v}" for n, v in settings.items() if n not in HIDDEN]
        rows.append(
            {
                "method": f"{method} ({', '.join(texts)})",
                "ms of the processor": f"{1e3 * median(own['busy']):.1f}",
                "in JFB's": ratio(own["busy"], jfb["busy"]) if jfb else "",
                "layers + products": f"{own['layers'][0]:.1f} + {own['products'][0]:.1f}",
                "gradient error": f"{own['error']:.1e}" if "error" in own else "",
            }
        )
    return pd.DataFrame(rows)


def write(problems: Sequence[Found], out: Path, digest: str) -> None:
    """``trials.csv`` and ``rounds.csv`` into the folder ``out``, the page beside it."""
    out.mkdir(parents=True, exist_ok=True)
    trials(problems).to_csv(out / "trials.csv", index=False)
    rounds(problems).to_csv(out / "rounds.csv", index=False)
    file = out.with_suffix(".md")
    file.write_text(page(problems, digest), encoding="utf-8")
    print(file)
