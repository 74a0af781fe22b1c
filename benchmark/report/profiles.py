"""What accuracy costs: time-to-accuracy, performance profiles, and fronts of error against cost.

A run reaches the accuracy ε if the relative error of its hypergradient at the first θ is at most
ε. A performance profile (Dolan and Moré, Mathematical Programming 2002) gives for each method the
share of problems that it solves at no more than τ times the cost of the best; a method that does
not reach ε never does. Costs are compared within one file and one repetition.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from scipy import stats

from benchmark.report import drawing
from benchmark.report.drawing import Drawing, NothingToDrawError, Page
from benchmark.report.frame import RUN, SPENT, cost_column, endings, first_rows, timed_rows
from benchmark.report.names import IN_ORDER, mixed
from benchmark.report.statistics import LEVEL
from benchmark.report.style import NOTES, method_order
from benchmark.report.tables import Table, spelled, taken_over

ACCURACIES = (1e-2, 1e-4, 1e-6)
COSTS = {"gradient_seconds": "time", "evals": "layer + vjp evals"}
SAME = 1.05  # times closer than that are ties: repeated, they differ by as much
CLOSE, NEVER = 0.05, "never"
ALONE = "needs two methods, one of them with several configurations"
PROBLEM = ["source", "task", "repetition"]
#: markers of a curve at most: of many they hide the curves
MARKERS = 8
FRONT = {"drawstyle": "steps-post", "color": "#aaaaaa", "linewidth": 2.5, "zorder": 1}
FRONT_AXES = ["gradient_seconds", "evals", "peak_memory_mib"]


def hypergradients(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per run: its error at the first θ, and ``SPENT`` on a hypergradient of it there. A run
    that failed before it had both reaches nothing; what a sweep has not timed has no seconds.
    """
    errors = first_rows(frame).set_index(RUN)
    spent = timed_rows(frame).set_index(RUN)[SPENT].reindex(errors.index).fillna(errors[SPENT])
    rows = errors.drop(columns=SPENT).join(spent).reset_index()
    costly = rows[["gradient_seconds", "layer_evals"]].notna().any(axis="columns")
    rows = rows[(rows["gradient_error"] >= 0) & costly | (rows["status"] != "ok")]
    return rows.assign(evals=rows["layer_evals"] + rows["vjp_evals"])


def cheapest(rows: pd.DataFrame, accuracy: float, cost: str) -> pd.DataFrame:
    """Of each ``PROBLEM`` and method the ``hypergradients`` of least cost that are so accurate."""
    reached = rows[(rows["gradient_error"] <= accuracy) & rows[cost].notna()]
    ordered = reached.sort_values([cost, "configuration"], kind="stable")
    return ordered.groupby([*PROBLEM, "method"], sort=True).head(1)


def ratios(rows: pd.DataFrame, accuracy: float, cost: str) -> pd.DataFrame:
    """By problem and method, the least cost at an accuracy over that of the best; NaN for never."""
    reached = cheapest(rows, accuracy, cost).set_index([*PROBLEM, "method"])[cost]
    every = pd.MultiIndex.from_frame(rows[PROBLEM].drop_duplicates())
    table = reached.unstack("method").reindex(index=every, columns=method_order(rows["method"]))
    return table.div(table.min(axis="columns"), axis="index")


def performance_profile(ratios: pd.DataFrame) -> dict[str, pd.Series]:
    """For each method the share of all problems solved, by the ratios τ at which it grows."""
    return {
        method: found.value_counts().sort_index().cumsum() / len(ratios)
        for method, found in ratios.items()
    }


def comparable(frame: pd.DataFrame) -> bool:
    """Whether there are two methods, one of them with several configurations, and their costs."""
    configurations = hypergradients(frame).groupby("method")["gradient"].nunique()
    return len(configurations) > 1 and bool((configurations > 1).any())


def time_to_accuracy(frame: pd.DataFrame) -> Table:
    """Per task, accuracy and method: the fastest configuration that reaches it. ``ratio`` is to the
    fastest method of the same problem; numbers are medians over files and repetitions, or NaN.
    """
    found = []
    for (task, rows), accuracy in product(hypergradients(frame).groupby("task"), ACCURACIES):
        ended = endings(frame[frame["task"] == task], "gradient")
        best = cheapest(rows, accuracy, "gradient_seconds")
        fastest = best.groupby(PROBLEM)["gradient_seconds"].transform("min")
        best = best.assign(ratio=best["gradient_seconds"] / fastest)
        for method in method_order(rows["method"]):
            own = best[best["method"] == method]
            names = sorted(set(own["gradient"]), key=IN_ORDER)
            entry = {"task": task, "accuracy": accuracy, "method": method}
            entry["configuration"] = "; ".join(name + ended[name] for name in names)
            entry["reached"] = f"{len(own)}/{len(rows[PROBLEM].drop_duplicates())}"
            found.append(entry | own[["ratio", *SPENT]].median().to_dict())
    names = ["task", "accuracy", "method", "configuration", "reached", "ratio", *SPENT]
    numbers = pd.DataFrame(found, columns=names)
    at = {"ratio": "time_ratio"} | {name: cost_column(frame, name) for name in SPENT}
    ever = numbers["configuration"] != ""
    text = {
        "task": numbers["task"],
        "configuration": numbers["configuration"].where(ever, numbers["method"]),
        "gradient error at most": numbers["accuracy"].map("{:g}".format),
        **spelled(numbers.rename(columns=at), at.values()),
        "reached": numbers["reached"],
    }
    return Table("time_to_accuracy", numbers, pd.DataFrame(text, dtype=str), note=taken_over(frame))


def ranking(frame: pd.DataFrame) -> Table:
    """Per accuracy and method, over all tasks: how many it solves, and at what price.

    A task counts by its medians over files and repetitions. ``time_ratio`` and ``evals_ratio`` are
    medians over tasks of the least cost over that of the best method, never counting as infinite;
    ``low`` and ``high`` bound the former (NaN below six tasks), ``worst_time_ratio`` is the
    largest. ``fastest``: on how many tasks no method was faster by more than ``SAME``. ``rank`` is
    one more than the methods told to be faster (``ranks``): ties are called ties.
    """
    rows, parts = hypergradients(frame), []
    for accuracy in ACCURACIES:
        time, evals = (ratios(rows, accuracy, cost).fillna(math.inf) for cost in COSTS)
        of_tasks = time.groupby("task").median()
        price = {"accuracy": accuracy, "method": time.columns}
        price |= {"solved": np.isfinite(of_tasks).sum(), "problems": len(of_tasks)}
        price |= {"fastest": (of_tasks <= SAME).sum()}
        price |= {"time_ratio": of_tasks.median(), "worst_time_ratio": of_tasks.max()}
        bounds = [median_bounds(own) for _, own in of_tasks.items()]
        price |= dict(zip(("low", "high"), np.transpose(bounds), strict=True))
        price |= {"evals_ratio": evals.groupby("task").median().median(), "rank": ranks(time)}
        order = {"by": ["rank", "time_ratio", "solved"], "ascending": [True, True, False]}
        parts.append(pd.DataFrame(price).sort_values(**order, kind="stable"))
    numbers = pd.concat(parts, ignore_index=True)
    prices = numbers[["time_ratio", "worst_time_ratio", "evals_ratio", "low", "high"]]
    prices = prices.map("{:.2f}".format).where(np.isfinite(prices), NEVER)
    bounds = ("[" + prices["low"] + ", " + prices["high"] + "]").where(numbers["low"].notna(), "—")
    shared = numbers.duplicated(["accuracy", "rank"], keep=False).map({True: " (tie)", False: ""})
    counts = numbers[["solved", "problems", "fastest", "rank"]].astype(str)
    text = {
        "gradient error": numbers["accuracy"].map("at most {:g}".format),
        "rank": counts["rank"] + shared,
        "method": numbers["method"] + numbers["method"].map(endings(frame, "method")),
        f"problems solved{mixed(rows)}": counts["solved"] + "/" + counts["problems"],
        f"fastest (within {SAME - 1:.0%}) on": counts["fastest"],
        "median time / fastest": prices["time_ratio"],
        "95 % interval": bounds,
        "largest": prices["worst_time_ratio"],
        "median evals / fewest": prices["evals_ratio"],
    }
    return Table("ranking", numbers, pd.DataFrame(text, dtype=str), note=taken_over(frame))


def work(frame: pd.DataFrame) -> Table:
    """Per task and configuration the layers and products of training until F is ``CLOSE``: but for
    this share of the way from F at the start to the least that any run of the same images reached.
    Medians over the repetitions, never counting as infinite.
    """
    rows = frame[frame["value"].notna() & (frame["status"] == "ok")]
    start = rows[rows["outer_step"] == 0].groupby(PROBLEM)["value"].first()
    least = rows.groupby(PROBLEM)["value"].min()
    target = (least + CLOSE * (start - least)).rename("target")
    there = rows.join(target, on=PROBLEM).query("value <= target")
    key = ["task", "configuration", *PROBLEM[::2]]
    spent = there.groupby(key)["training_evals"].min()
    every = rows.groupby(key, sort=False).size().index
    by = spent.reindex(every).fillna(math.inf).groupby(key[:2], sort=False)
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
    note = f"{NOTES['work'].format(CLOSE)} {taken_over(frame)}"
    return Table("work", numbers, pd.DataFrame(text, dtype=str), note=note)


def median_bounds(found: pd.Series) -> tuple[float, float]:
    """The exact 95 % interval of a median, by its order statistics; NaN for too few numbers."""
    low, high = stats.quantile_test(found.to_numpy()).confidence_interval(LEVEL)
    return (math.nan, math.nan) if np.isnan([low, high]).any() else (float(low), float(high))


def ranks(ratios: pd.DataFrame) -> pd.Series:
    """One more than the methods that are told to be faster: on more than half of all tasks, by the
    sign test, at 5 % for all comparisons of a method together. A task counts by the median over its
    repetitions; what neither solves is for neither.
    """
    tasks = ratios.groupby("task").median()
    wins = pd.DataFrame({one: tasks.gt(tasks[one], axis="index").sum() for one in tasks})
    chance = stats.binom.sf(wins - 1, len(tasks), 0.5)  # of as many wins, or more, by luck
    faster = chance <= (1 - LEVEL) / max(1, len(wins) - 1)
    return pd.Series(1 + faster.sum(axis=1), index=wins.index)


def performance(frame: pd.DataFrame, page: Page) -> Drawing:
    """Performance profiles, of all tasks, in time and evaluations, at each of ``ACCURACIES``."""
    if not comparable(frame):
        raise NothingToDrawError(ALONE)
    rows, panels = hypergradients(frame), list(product(COSTS, ACCURACIES))
    profiles = [performance_profile(ratios(rows, accuracy, cost)) for cost, accuracy in panels]
    ends = [shares.index.max() for found in profiles for shares in found.values()]
    stop, count = 1.3 * np.nanmax([2.0, *ends]), rows["task"].nunique()
    shape = (len(COSTS), len(ACCURACIES))
    lines, columns = shape[::-1] if page.narrow else shape
    labels = {"left": [f"share of {count} problem{'s' if count > 1 else ''}{mixed(rows)}"] * lines}
    labels["below"] = ["cost / least cost, τ"] * columns
    size = (page.width, 1.8 * lines + 0.3)
    figure, axes = drawing.grid(lines, columns, size, **labels, sharex=True, sharey=True)
    cells = (axes.T if page.narrow else axes).flat
    for axis, (cost, accuracy), found in zip(cells, panels, profiles, strict=True):
        power = round(math.log10(accuracy))
        axis.set_title(f"{COSTS[cost]}\nerror ≤ $10^{{{power}}}$", loc="left")
        axis.set(xscale="log", xlim=(0.93, stop), ylim=(0, 1))
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1])
        for position, (method, shares) in enumerate(found.items()):
            # later ones are thinner: where profiles are equal all are seen
            width = 1.2 + 4 * (1 - (position + 1) / len(found))
            later = shares[shares.index > 1]
            x, y = [1.0, *later.index, stop], [shares.get(1.0, 0.0), *later, shares.max()]
            marked = range(0, len(x) - 1, math.ceil(len(x) / MARKERS))
            own = {"markevery": marked, "linewidth": width, "clip_on": False}
            own |= page.styles[method].line | {"drawstyle": "steps-post"}
            axis.plot(x, np.nan_to_num(y), **own)
    looks = page.looks(rows, "method")
    return drawing.finish(figure, "", drawing.entries(looks, endings(frame, "method")))


def pareto(frame: pd.DataFrame, page: Page) -> Drawing:
    """Error against cost, of one task: medians over runs, and the front of each method."""
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
        lines = {"": known} | dict(list(known.groupby("method", sort=False)))
        for method, own in lines.items():
            best = front(own, cost)
            look = page.styles[method].line | {"linewidth": 0.8} if method else FRONT
            axis.plot(best[cost], best["gradient_error"], **look)
        axis.margins(0.06)
    handles = drawing.entries(page.looks(rows, "method"), endings(frame, "method"))
    handles.append(Line2D([], [], label="not beaten by any", **FRONT))
    return drawing.finish(figure, frame["task"].iloc[0], handles)


def front(points: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The points that no other equals or beats in both, from the cheapest to the most exact."""
    ordered = points.sort_values([cost, "gradient_error"])
    errors = ordered["gradient_error"]
    return ordered[errors < errors.cummin().shift(fill_value=math.inf)]
