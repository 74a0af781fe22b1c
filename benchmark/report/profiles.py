"""What accuracy costs: time-to-accuracy, performance profiles, and fronts of error against cost.

A run reaches the accuracy ε if the relative error of its hypergradient at the first θ is at most
ε. A performance profile (Dolan and Moré, Mathematical Programming 2002) gives for each method the
share of problems that it solves at no more than τ times the cost of the best; a method that does
not reach ε never does. Costs are compared within one file and one repetition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from benchmark.report.figures import (
    TWO_COLUMNS,
    Drawing,
    NothingToDrawError,
    artist,
    finish,
    handle,
    in_a_line,
)
from benchmark.report.frame import RUN, first_rows, measured_rows
from benchmark.report.style import Style, method_order
from benchmark.report.tables import measured

ACCURACIES = (1e-2, 1e-4, 1e-6)
COSTS = {"gradient_seconds": "time", "evals": "layer + vjp evals"}
ALONE = "needs two methods, one of them with several configurations"
SPENT = ("gradient_seconds", "layer_evals", "vjp_evals", "peak_memory_mib")
PROBLEM = ["source", "task", "repetition"]
FRONT = {"drawstyle": "steps-post", "color": "#aaaaaa", "linewidth": 2.5, "zorder": 1}
FRONT_AXES = {
    "gradient_seconds": "seconds of one hypergradient",
    "peak_memory_mib": "peak memory (MiB)",
}


@dataclass(frozen=True)
class Profile:
    """One method: the share of problems solved within each ratio τ of the best."""

    method: str
    ratios: tuple[float, ...]
    shares: tuple[float, ...]


def hypergradients(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per run: its error at the first θ, and what a hypergradient of it cost.

    Costs are measured in the last row of a run; ``evals`` sums calls of T and products. A run that
    failed before it had both is there too, without them: it reaches nothing.
    """
    errors = first_rows(frame).set_index(RUN)
    spent = measured_rows(frame, "gradient_seconds").set_index(RUN)[list(SPENT)]
    rows = errors.drop(columns=list(SPENT)).join(spent).reset_index()
    known = (rows["gradient_error"] >= 0) & rows["gradient_seconds"].notna()
    rows = rows[known | (rows["status"] != "ok")]
    return rows.assign(evals=rows["layer_evals"] + rows["vjp_evals"])


def cheapest(rows: pd.DataFrame, *, accuracy: float, cost: str) -> pd.DataFrame:
    """Of each problem and method the run of least cost that reaches the accuracy.

    A problem is a task, in one file and repetition. ``rows`` are ``hypergradients``; methods that
    never reach it are in no row.
    """
    reached = rows[(rows["gradient_error"] <= accuracy) & rows[cost].notna()]
    ordered = reached.sort_values([cost, "configuration"], kind="stable")
    return ordered.groupby([*PROBLEM, "method"], sort=True).head(1)


def performance_profile(costs: pd.DataFrame) -> list[Profile]:
    """Profiles from columns ``problem, method, cost``; a missing or infinite cost is a failure.

    Of several costs of a method on a problem the least counts. A problem that no method solves
    counts against all.
    """
    ratios = _ratios(costs)
    return [
        Profile(
            method=str(method),
            ratios=(known := tuple(sorted(float(ratio) for ratio in ratios[method].dropna()))),
            shares=tuple((position + 1) / len(ratios) for position in range(len(known))),
        )
        for method in ratios.columns
    ]


def time_to_accuracy(frame: pd.DataFrame) -> pd.DataFrame:
    """Per task, accuracy and method: the fastest configuration that reaches it.

    ``ratio`` is to the fastest method of the same file and repetition; numbers are medians over
    files and repetitions; a method that does not reach the accuracy has a row of NaN.
    """
    rows = hypergradients(frame)
    entries = []
    for task, group in rows.groupby("task", sort=True):
        problems = len(group[["source", "repetition"]].drop_duplicates())
        for accuracy in ACCURACIES:
            best = cheapest(group, accuracy=accuracy, cost="gradient_seconds")
            fastest = best.groupby(["source", "repetition"])["gradient_seconds"].transform("min")
            best = best.assign(ratio=best["gradient_seconds"] / fastest)
            for method in method_order(group["method"]):
                own = best[best["method"] == method]
                entry = {"task": task, "accuracy": accuracy, "method": method}
                entry["configuration"] = "; ".join(sorted(set(own["gradient"])))
                entry["reached"] = f"{len(own)}/{problems}"
                numbers = {name: own[name].median() for name in ("ratio", *SPENT)}
                entries.append(entry | numbers)
    names = ["task", "accuracy", "method", "configuration", "reached", "ratio", *SPENT]
    return pd.DataFrame(entries, columns=names)


def formatted(numbers: pd.DataFrame) -> pd.DataFrame:
    """``time_to_accuracy`` as text, a dash for never."""
    decimals = {"ratio": 2, "layer_evals": 0, "vjp_evals": 0, "peak_memory_mib": 1}
    headers = {
        "ratio": "time / fastest",
        "gradient_seconds": "hypergradient (s)",
        "layer_evals": "layer evals",
        "vjp_evals": "vjp evals",
        "peak_memory_mib": "peak memory (MiB)",
    }
    named = [
        name or method
        for name, method in zip(numbers["configuration"], numbers["method"], strict=True)
    ]
    table = {"task": numbers["task"], "configuration": named}
    table["gradient error at most"] = [f"{accuracy:g}" for accuracy in numbers["accuracy"]]
    for name, header in headers.items():
        table[header] = [
            measured(value, math.nan, decimals=decimals.get(name)) for value in numbers[name]
        ]
    return pd.DataFrame({**table, "reached": numbers["reached"]}, dtype=str)


def ranking(frame: pd.DataFrame) -> pd.DataFrame:
    """Per accuracy and method, over all problems: how many it solves, and at what price.

    ``time_ratio`` and ``evals_ratio`` are the medians over problems of the least time, or layers
    and products, over the least of all methods; never counts as infinite. ``worst_time_ratio`` is
    the largest. ``fastest`` counts the problems on which no method was faster. Ordered by
    accuracy and then by ``time_ratio``.
    """
    rows = hypergradients(frame)
    tables = []
    for accuracy in ACCURACIES:
        time, evals = (
            _ratios(_problems(rows, accuracy=accuracy, cost=cost)).fillna(math.inf)
            for cost in ("gradient_seconds", "evals")
        )
        table = pd.DataFrame(
            {
                "solved": np.isfinite(time).sum(),
                "problems": len(time),
                "fastest": (time == 1).sum(),
                "time_ratio": time.median(),
                "worst_time_ratio": time.max(),
                "evals_ratio": evals.median(),
            }
        )
        table = table.sort_values(["time_ratio", "solved"], ascending=[True, False], kind="stable")
        tables.append(table.rename_axis("method").reset_index().assign(accuracy=accuracy))
    names = ["accuracy", "method", "solved", "problems", "fastest"]
    names += ["time_ratio", "worst_time_ratio", "evals_ratio"]
    return pd.concat(tables)[names].reset_index(drop=True)


def formatted_ranking(numbers: pd.DataFrame) -> pd.DataFrame:
    """``ranking`` as text."""
    ratios = {
        "median time / fastest": "time_ratio",
        "largest": "worst_time_ratio",
        "median evals / fewest": "evals_ratio",
    }
    solved = zip(numbers["solved"], numbers["problems"], strict=True)
    return pd.DataFrame(
        {
            "gradient error": [f"at most {accuracy:g}" for accuracy in numbers["accuracy"]],
            "method": numbers["method"],
            "problems solved": [f"{own}/{every}" for own, every in solved],
            "fastest on": numbers["fastest"].astype(str),
            **{
                header: [f"{ratio:.2f}" if ratio < math.inf else "never" for ratio in numbers[name]]
                for header, name in ratios.items()
            },
        },
        dtype=str,
    )


def comparable(frame: pd.DataFrame) -> bool:
    """Whether there are two methods, one of them with several configurations, and their costs."""
    rows = hypergradients(frame)
    configurations = rows.groupby("method")["gradient"].nunique()
    return len(configurations) > 1 and bool((configurations > 1).any())


# --- figures ---------------------------------------------------------------------------------


def performance(
    frame: pd.DataFrame, *, styles: Mapping[str, Style], width: float = TWO_COLUMNS
) -> Drawing:
    """All tasks: performance profiles in time and in evaluations, a column per accuracy."""
    if not comparable(frame):
        raise NothingToDrawError(ALONE)
    rows = hypergradients(frame)
    methods = method_order(rows["method"])
    panels = {
        (cost, accuracy): performance_profile(_problems(rows, accuracy=accuracy, cost=cost))
        for cost in COSTS
        for accuracy in ACCURACIES
    }
    count = len(rows[PROBLEM].drop_duplicates())
    top = max([2.0, *(ratio for found in panels.values() for one in found for ratio in one.ratios)])
    narrow = width < TWO_COLUMNS
    shape = (len(ACCURACIES), len(COSTS)) if narrow else (len(COSTS), len(ACCURACIES))
    figure = Figure(
        figsize=(width, (1.8 if narrow else 1.7) * shape[0] + 0.2), layout="constrained"
    )
    axes = figure.subplots(*shape, sharex=True, sharey=True)
    cells = (axes.T if narrow else axes).flat
    for axis, ((cost, accuracy), found) in zip(cells, panels.items(), strict=True):
        between = "\n" if narrow else ", "
        axis.set_title(f"{COSTS[cost]}{between}error ≤ {_power(accuracy)}", loc="left")
        axis.set(xscale="log", xlim=(0.93, 1.3 * top), ylim=(-0.08, 1.1))
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1])
        for position, one in enumerate(found):
            apart = min(1.7, 9 / len(found)) * (position - (len(found) - 1) / 2)
            _steps(axis, one, styles[one.method], stop=1.3 * top, apart=apart)
    for line in axes:
        line[0].set_ylabel(f"share of {count} problem{'s' if count > 1 else ''}")
    for axis in axes[-1]:
        axis.set_xlabel("cost / least cost, τ")
    finish(figure, handles=[handle(method, styles[method]) for method in methods])
    return Drawing(figure)


def pareto(
    frame: pd.DataFrame, *, styles: Mapping[str, Style], width: float = TWO_COLUMNS
) -> Drawing:
    """One task: gradient error against time and memory of every configuration, and their front.

    A dot is the median over runs. On the grey line are the configurations that no other beats in
    both error and cost.
    """
    rows = hypergradients(frame)
    rows = rows[rows["gradient_error"] > 0]
    costs = rows.groupby(["method", "gradient"], sort=False)[["gradient_error", *FRONT_AXES]]
    points = costs.median().dropna().reset_index()
    if len(points) < 4:
        raise NothingToDrawError("needs at least four configurations with error, time and memory")
    figure, axes = in_a_line(len(FRONT_AXES), width=width, height=2.8)
    for axis in axes if width < TWO_COLUMNS else axes[:1]:
        axis.set_ylabel("relative gradient error")
    for axis, (cost, label) in zip(axes, FRONT_AXES.items(), strict=True):
        axis.set(xscale="log", yscale="log", xlabel=label)
        edge = front(points[cost], points["gradient_error"])
        axis.plot(*zip(*edge, strict=True), **FRONT)
        for method, own in points.groupby("method", sort=False):
            dots = {**artist(styles[method]), "linestyle": "none"}
            axis.plot(own[cost], own["gradient_error"], **dots)
        axis.margins(0.06)
    methods = method_order(points["method"])
    handles = [handle(method, styles[method], line=False) for method in methods]
    handles.append(Line2D([], [], label="not beaten in both", **FRONT))
    finish(figure, title=str(frame["task"].iloc[0]), handles=handles)
    return Drawing(figure)


def front(costs: Sequence[float], errors: Sequence[float]) -> list[tuple[float, float]]:
    """The points that no other equals or beats in both, from the cheapest to the most exact."""
    kept: list[tuple[float, float]] = []
    for cost, error in sorted(zip(costs, errors, strict=True)):
        if not kept or error < kept[-1][1]:
            kept.append((float(cost), float(error)))
    return kept


def _problems(rows: pd.DataFrame, *, accuracy: float, cost: str) -> pd.DataFrame:
    """Every problem with every method: its least cost at an accuracy, NaN for never."""
    methods = pd.DataFrame({"method": sorted(set(rows["method"]))})
    every = rows[PROBLEM].drop_duplicates().merge(methods, how="cross")
    reached = cheapest(rows, accuracy=accuracy, cost=cost)[[*PROBLEM, "method", cost]]
    found = every.merge(reached, on=[*PROBLEM, "method"], how="left")
    problem = found[PROBLEM].astype(str).agg("\n".join, axis=1)
    return pd.DataFrame({"problem": problem, "method": found["method"], "cost": found[cost]})


def _ratios(costs: pd.DataFrame) -> pd.DataFrame:
    """A row per problem, a column per method, as for ``performance_profile``: the least cost of the
    method over the least of all; NaN for never.
    """
    table = costs.pivot_table(
        index="problem", columns="method", values="cost", aggfunc="min", dropna=False
    )
    table = table.reindex(sorted(set(costs["problem"]))).reindex(
        columns=method_order(costs["method"])
    )
    table = table.where(np.isfinite(table))
    return table.div(table.min(axis="columns"), axis="index")


def _steps(axis: Axes, profile: Profile, style: Style, *, stop: float, apart: float) -> None:
    """A profile as steps from τ = 1 to the end of the axis; a line at 0 for never.

    It is drawn ``apart`` points higher, so that equal profiles can be told from each other.
    """
    at_once = sum(ratio <= 1 for ratio in profile.ratios) * (profile.shares or (0.0,))[0]
    last = profile.shares[-1] if profile.shares else 0.0
    later = [pair for pair in zip(profile.ratios, profile.shares, strict=True) if pair[0] > 1]
    x, y = zip((1.0, at_once), *later, (stop, last), strict=True)
    higher = ScaledTranslation(0, apart / 72, axis.get_figure().dpi_scale_trans)
    axis.plot(
        x,
        y,
        drawstyle="steps-post",
        **artist(style),
        markevery=range(len(x) - 1),
        transform=axis.transData + higher,
    )


def _power(accuracy: float) -> str:
    """1e-4 as 10⁻⁴."""
    return rf"$10^{{{round(math.log10(accuracy))}}}$"
