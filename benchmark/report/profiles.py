"""What accuracy costs: time-to-accuracy, performance profiles, and fronts of error against cost.

A run reaches the accuracy ε if the relative error of its hypergradient at the first θ is at most
ε. A performance profile (Dolan and Moré, Mathematical Programming 2002) gives for each method the
share of problems that it solves at no more than τ times the cost of the best; a method that does
not reach ε never does. Costs are compared within one file and one repetition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy import stats

from benchmark.report import drawing
from benchmark.report.drawing import Drawing, NothingToDrawError, Page
from benchmark.report.frame import RUN, cost_column, endings, first_rows, measured_rows
from benchmark.report.metrics import mixed
from benchmark.report.names import IN_ORDER
from benchmark.report.statistics import LEVEL
from benchmark.report.style import Style, method_order
from benchmark.report.tables import Table, spelled, taken_over

ACCURACIES = (1e-2, 1e-4, 1e-6)
COSTS = {"gradient_seconds": "time", "evals": "layer + vjp evals"}
SAME = 1.05  # times closer than that are ties: repeated, they differ by as much
CLOSE, NEVER = 0.05, "never"
ALONE = "needs two methods, one of them with several configurations"
SPENT = ["gradient_seconds", "layer_evals", "vjp_evals", "peak_memory_mib"]
PROBLEM = ["source", "task", "repetition"]
FRONT = {"drawstyle": "steps-post", "color": "#aaaaaa", "linewidth": 2.5, "zorder": 1}
FRONT_AXES = ["gradient_seconds", "evals", "peak_memory_mib"]


def hypergradients(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per run: its error at the first θ, and what a hypergradient of it cost there.

    Costs are measured in the last row of a run, at the first θ or, in files of earlier versions, at
    that row's own (``frame.cost_column``); ``evals`` sums calls of T and products. A run that
    failed before it had both is there too, without them: it reaches nothing. What a sweep has tried
    and not timed has no seconds.
    """
    errors = first_rows(frame).set_index(RUN)
    spent = measured_rows(frame, cost_column(frame, "gradient_seconds")).set_index(RUN)
    spent = pd.DataFrame({name: spent[cost_column(frame, name)] for name in SPENT})
    spent = spent.reindex(errors.index).fillna(errors[SPENT])
    rows = errors.drop(columns=SPENT).join(spent).reset_index()
    known = (rows["gradient_error"] >= 0) & rows[["gradient_seconds", "layer_evals"]].notna().any(
        axis="columns"
    )
    rows = rows[known | (rows["status"] != "ok")]
    return rows.assign(evals=rows["layer_evals"] + rows["vjp_evals"])


def cheapest(rows: pd.DataFrame, accuracy: float, cost: str) -> pd.DataFrame:
    """Of each problem and method the run of least cost that reaches the accuracy.

    A problem is a task, in one file and repetition. ``rows`` are ``hypergradients``; methods that
    never reach it are in no row.
    """
    reached = rows[(rows["gradient_error"] <= accuracy) & rows[cost].notna()]
    ordered = reached.sort_values([cost, "configuration"], kind="stable")
    return ordered.groupby([*PROBLEM, "method"], sort=True).head(1)


def ratios(rows: pd.DataFrame, accuracy: float, cost: str) -> pd.DataFrame:
    """The least cost at an accuracy over that of the best method: a row per problem, a column per
    method, NaN for never.
    """
    reached = cheapest(rows, accuracy, cost).set_index([*PROBLEM, "method"])[cost]
    every = pd.MultiIndex.from_frame(rows[PROBLEM].drop_duplicates())
    table = reached.unstack("method").reindex(index=every, columns=method_order(rows["method"]))
    return table.div(table.min(axis="columns"), axis="index")


def performance_profile(ratios: pd.DataFrame) -> dict[str, pd.Series]:
    """For each method the share of problems solved, by the ratios τ at which it grows.

    A problem that no method solves counts against all.
    """
    return {
        method: found.value_counts().sort_index().cumsum() / len(ratios)
        for method, found in ratios.items()
    }


def comparable(frame: pd.DataFrame) -> bool:
    """Whether there are two methods, one of them with several configurations, and their costs."""
    configurations = hypergradients(frame).groupby("method")["gradient"].nunique()
    return len(configurations) > 1 and bool((configurations > 1).any())


def time_to_accuracy(frame: pd.DataFrame) -> Table:
    """Per task, accuracy and method: the fastest configuration that reaches it.

    ``ratio`` is to the fastest method of the same file and repetition; numbers are medians over
    files and repetitions; a method that does not reach the accuracy has a row of NaN.
    """
    found = []
    for task, rows in hypergradients(frame).groupby("task", sort=True):
        ended = endings(frame[frame["task"] == task], "gradient")
        problems = len(rows[PROBLEM].drop_duplicates())
        for accuracy in ACCURACIES:
            best = cheapest(rows, accuracy, "gradient_seconds")
            fastest = best.groupby(PROBLEM)["gradient_seconds"].transform("min")
            best = best.assign(ratio=best["gradient_seconds"] / fastest)
            for method in method_order(rows["method"]):
                own = best[best["method"] == method]
                entry = {"task": task, "accuracy": accuracy, "method": method}
                names = sorted(set(own["gradient"]), key=IN_ORDER)
                entry["configuration"] = "; ".join(name + ended[name] for name in names)
                entry["reached"] = f"{len(own)}/{problems}"
                found.append(entry | own[["ratio", *SPENT]].median().to_dict())
    names = ["task", "accuracy", "method", "configuration", "reached", "ratio", *SPENT]
    numbers = pd.DataFrame(found, columns=names)
    ever = numbers["configuration"] != ""
    at = {name: cost_column(frame, name) for name in SPENT}
    spent = spelled(
        numbers.rename(columns={"ratio": "time_ratio", **at}), ["time_ratio", *at.values()]
    )
    text = {
        "task": numbers["task"],
        "configuration": numbers["configuration"].where(ever, numbers["method"]),
        "gradient error at most": numbers["accuracy"].map("{:g}".format),
        **spent,
        "reached": numbers["reached"],
    }
    note = taken_over(frame)
    return Table("time_to_accuracy", numbers, pd.DataFrame(text, dtype=str), note=note)


def ranking(frame: pd.DataFrame) -> Table:
    """Per accuracy and method, over all tasks: how many it solves, and at what price.

    A task counts by its medians over files and repetitions. ``time_ratio`` and ``evals_ratio`` are
    the medians over tasks of the least time, or layers and products, over the least of all methods,
    never counting as infinite, and ``low`` and ``high`` the 95 % interval of the former (NaN below
    six tasks). ``worst_time_ratio`` is the largest. ``fastest`` counts the problems on which no
    method was faster by more than ``SAME``. ``rank`` is one more than the methods told to be faster
    (``ranks``): ties are called ties. Ordered by accuracy, rank and ``time_ratio``.
    """
    rows, parts = hypergradients(frame), []
    for accuracy in ACCURACIES:
        time, evals = (ratios(rows, accuracy, cost).fillna(math.inf) for cost in COSTS)
        of_tasks, evals = (every.groupby("task").median() for every in (time, evals))
        price = {"accuracy": accuracy, "method": time.columns}
        price |= {"solved": np.isfinite(of_tasks).sum(), "problems": len(of_tasks)}
        price |= {"fastest": (of_tasks <= SAME).sum()}
        price |= {"time_ratio": of_tasks.median(), "worst_time_ratio": of_tasks.max()}
        bounds = [median_bounds(own) for _, own in of_tasks.items()]
        price |= dict(zip(("low", "high"), np.transpose(bounds), strict=True))
        price |= {"evals_ratio": evals.median(), "rank": ranks(time)}
        order = {"by": ["rank", "time_ratio", "solved"], "ascending": [True, True, False]}
        parts.append(pd.DataFrame(price).sort_values(**order, kind="stable"))
    numbers = pd.concat(parts, ignore_index=True)
    prices = numbers[["time_ratio", "worst_time_ratio", "evals_ratio", "low", "high"]]
    prices = prices.map("{:.2f}".format).where(np.isfinite(prices), NEVER)
    bounds = ("[" + prices["low"] + ", " + prices["high"] + "]").where(numbers["low"].notna(), "—")
    shared = numbers.duplicated(["accuracy", "rank"], keep=False).map({True: " (tie)", False: ""})
    text = {
        "gradient error": numbers["accuracy"].map("at most {:g}".format),
        "rank": numbers["rank"].astype(str) + shared,
        "method": numbers["method"] + numbers["method"].map(endings(frame, "method")),
        f"problems solved{mixed(rows)}": numbers["solved"].astype(str)
        + "/"
        + numbers["problems"].astype(str),
        f"fastest (within {SAME - 1:.0%}) on": numbers["fastest"].astype(str),
        "median time / fastest": prices["time_ratio"],
        "95 % interval": bounds,
        "largest": prices["worst_time_ratio"],
        "median evals / fewest": prices["evals_ratio"],
    }
    note = taken_over(frame)
    return Table("ranking", numbers, pd.DataFrame(text, dtype=str), note=note)


def work(frame: pd.DataFrame) -> Table:
    """Per task and configuration the layers and products of training until F is ``CLOSE``.

    That is: but for this share of the way from F at the start to the least that any run of the same
    images reached; medians over the repetitions, never counting as infinite. Whatever the methods'
    defaults, they are compared at the same accuracy here.
    """
    rows = frame[frame["value"].notna() & (frame["status"] == "ok")]
    start = rows[rows["outer_step"] == 0].groupby(PROBLEM)["value"].first()
    least = rows.groupby(PROBLEM)["value"].min()
    target = (least + CLOSE * (start - least)).rename("target")
    there = rows.join(target, on=PROBLEM).query("value <= target")
    spent = there.groupby(["configuration", *PROBLEM])["training_evals"].min()
    runs = rows.groupby(["task", "configuration", *PROBLEM[::2]], sort=False).size().index
    runs = runs.to_frame(index=False)
    key = pd.MultiIndex.from_frame(runs[["configuration", *PROBLEM]])
    runs["evals"] = spent.reindex(key).fillna(math.inf).to_numpy()
    by = runs.groupby(["task", "configuration"], sort=False)["evals"]
    numbers = by.agg(["median", "min", "max", lambda own: np.isfinite(own).sum(), "size"])
    numbers = numbers.set_axis(["evals", "least", "most", "reached", "runs"], axis=1).reset_index()
    shown = numbers[["evals", "least", "most"]].map(lambda n: f"{n:.0f}" if n < math.inf else NEVER)
    text = {
        "task": numbers["task"],
        "configuration": numbers["configuration"],
        "layers + products of training": shown["evals"],
        "range": shown["least"] + " – " + shown["most"],
        "reached": numbers["reached"].astype(str) + "/" + numbers["runs"].astype(str),
    }
    note = (
        f"Until F is within {CLOSE:.0%} of the way from the start to the least F that any method "
        f"reached on the same images, as seen where it was evaluated; the median over repetitions. "
        f"{taken_over(frame)}"
    )
    return Table("work", numbers, pd.DataFrame(text, dtype=str), note=note)


def median_bounds(found: pd.Series) -> tuple[float, float]:
    """The exact 95 % interval of a median, by its order statistics; NaN for too few numbers."""
    low, high = stats.quantile_test(found.to_numpy()).confidence_interval(LEVEL)
    return (math.nan, math.nan) if np.isnan([low, high]).any() else (float(low), float(high))


def ranks(ratios: pd.DataFrame) -> pd.Series:
    """One more than the methods that are told to be faster: on more than half of all tasks.

    By the sign test, at 5 % for all comparisons of a method together. A task counts by the median
    over its repetitions; what neither solves is for neither.
    """
    most, tasks = (1 - LEVEL) / max(1, ratios.shape[1] - 1), ratios.groupby("task").median()

    def faster(one: str, other: str) -> bool:
        wins = int((tasks[one] < tasks[other]).sum())
        test = stats.binomtest(wins, len(tasks), 0.5, alternative="greater")
        return test.pvalue <= most

    return pd.Series({m: 1 + sum(faster(o, m) for o in tasks if o != m) for m in tasks})


def performance(frame: pd.DataFrame, page: Page) -> Drawing:
    """Performance profiles.

    Of all tasks, in time and in evaluations, a column per accuracy.
    """
    if not comparable(frame):
        raise NothingToDrawError(ALONE)
    rows = hypergradients(frame)
    panels = {
        (cost, accuracy): performance_profile(ratios(rows, accuracy, cost))
        for cost in COSTS
        for accuracy in ACCURACIES
    }
    ends = [shares.index.max() for found in panels.values() for shares in found.values()]
    stop, count = 1.3 * np.nanmax([2.0, *ends]), rows["task"].nunique()
    shape = (len(COSTS), len(ACCURACIES))
    lines, columns = shape[::-1] if page.narrow else shape
    size = (page.width, 1.8 * lines + 0.3)
    left = [f"share of {count} problem{'s' if count > 1 else ''}{mixed(rows)}"] * lines
    below = ["cost / least cost, τ"] * columns
    figure, axes = drawing.grid(
        lines, columns, size, left=left, below=below, sharex=True, sharey=True
    )
    cells = (axes.T if page.narrow else axes).flat
    for axis, ((cost, accuracy), found) in zip(cells, panels.items(), strict=True):
        power = round(math.log10(accuracy))
        axis.set_title(f"{COSTS[cost]}\nerror ≤ $10^{{{power}}}$", loc="left")
        axis.set(xscale="log", xlim=(0.93, stop), ylim=(0, 1))
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1])
        for position, (method, shares) in enumerate(found.items()):
            width = 1.2 + 4 * (1 - (position + 1) / len(found))
            _steps(axis, shares, page.styles[method], stop=stop, width=width)
    looks = {method: page.styles[method] for method in method_order(rows["method"])}
    return drawing.finish(figure, "", drawing.entries(looks, endings(frame, "method")))


def _steps(axis: Axes, shares: pd.Series, style: Style, *, stop: float, width: float) -> None:
    """A profile as steps from τ = 1 to the end of the axis; a line at 0 for never.

    Later ones are thinner: where profiles are equal all are seen.
    """
    later = shares[shares.index > 1]
    x, y = [1.0, *later.index, stop], [shares.get(1.0, 0.0), *later, shares.max()]
    y = np.nan_to_num(y)  # of a method that never solves one
    options = {"markevery": range(len(x) - 1), "linewidth": width, "clip_on": False}
    axis.plot(x, y, drawstyle="steps-post", **style.line, **options)


def pareto(frame: pd.DataFrame, page: Page) -> Drawing:
    """Error against cost.

    Of one task: time, layers and products, memory. A dot is the median over runs; of each method a
    line through what is not beaten by another of its own.
    """
    rows = hypergradients(frame)
    rows = rows[rows["gradient_error"] > 0]
    costs = rows.groupby(["method", "gradient"], sort=False)[["gradient_error", *FRONT_AXES]]
    points = costs.median().reset_index()
    if len(points.dropna()) < 4:
        raise NothingToDrawError("needs at least four configurations with error, time and memory")
    at = [name if name == "evals" else cost_column(frame, name) for name in FRONT_AXES]
    figure, (axes,) = drawing.in_lines(page, {"gradient_error_start": at}, height=2.8)
    for axis, cost in zip(axes, FRONT_AXES, strict=True):
        known = points[points[cost].notna()]
        axis.set(xscale="log", yscale="log")
        axis.plot(*zip(*front(known[cost], known["gradient_error"]), strict=True), **FRONT)
        for method, own in known.groupby("method", sort=False):
            best = front(own[cost], own["gradient_error"])
            axis.plot(*zip(*best, strict=True), **page.styles[method].line | {"linewidth": 0.8})
        axis.margins(0.06)
    ended = endings(frame, "method")
    looks = {method: page.styles[method] for method in method_order(points["method"])}
    handles = drawing.entries(looks, ended)
    handles.append(Line2D([], [], label="not beaten by any", **FRONT))
    return drawing.finish(figure, frame["task"].iloc[0], handles)


def front(costs: Sequence[float], errors: Sequence[float]) -> list[tuple[float, float]]:
    """The points that no other equals or beats in both, from the cheapest to the most exact."""
    kept: list[tuple[float, float]] = []
    for cost, error in sorted(zip(costs, errors, strict=True)):
        if not kept or error < kept[-1][1]:
            kept.append((float(cost), float(error)))
    return kept
