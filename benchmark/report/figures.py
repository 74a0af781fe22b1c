"""Figures of accuracy, θ, gradient error, time and memory, from the tidy frame of tasks.

Each returns a ``Drawing``, or raises ``NothingToDrawError`` with the reason; the captions are in
``pages/figures.csv``.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from benchmark.report import drawing
from benchmark.report.drawing import Drawing, NothingToDrawError, Page, entries, finish, grid
from benchmark.report.frame import (
    RUN,
    costs,
    depths,
    first_rows,
    last_rows,
    measured_rows,
    trained,
)
from benchmark.report.metrics import called, extra, higher_is_better
from benchmark.report.style import AXES, Style, method_order

TRAINING = ("seconds", "training_layer_evals", "outer_step")
ACCURACY = ("suboptimality", "test_psnr", "test_ssim")
COSTS = ("layers", "gradient_seconds", "peak_memory_mib")
FEW = 3  # entries of a parameter up to which each has a line of its own
#: a parameter is stored as a function of what it stands for
SCALES = {"log_": "natural log", "_logit": "logit"}
ENTRY = ["configuration", "parameter", "entry", "outer_step"]


def accuracy(frame: pd.DataFrame, page: Page) -> Drawing:
    """Accuracy along training.

    Of one task, F and the metrics of the test set. The axis of a metric that is better when lower
    is turned, so that better is up for every metric, as for PSNR. One column of a page has no room
    for layer applications.
    """
    runs, label = trained(frame), "configuration"
    evaluated = runs.dropna(subset=["outer_step", "value"]).groupby(label)["outer_step"]
    if not (evaluated.nunique() > 1).any():
        raise NothingToDrawError("needs at least two evaluations of a run")
    runs = runs.assign(suboptimality=suboptimality(runs))
    looks = page.looks(runs, label)
    against = TRAINING[::2] if page.narrow else TRAINING
    notes = [f"{AXES[x]}: {drawing.WIDER}" for x in TRAINING if x not in against]
    measures = [*ACCURACY, *(name for name in extra(runs) if runs[name].notna().any())]
    empty = [name for name in extra(runs) if name not in measures]
    notes += [f"{called(name, runs, AXES)}: not measured" for name in empty]
    size = (page.width, 0.5 + 1.55 * len(measures))
    left = [called(y, runs, AXES) for y in measures]
    shape = len(measures), len(against)
    labels = {"below": [AXES[x] for x in against], "left": left}
    figure, axes = grid(*shape, size, **labels, sharex="col", sharey="row")
    for row, y in zip(axes, measures, strict=True):
        for axis, x in zip(row, against, strict=True):
            drawing.curves(axis, runs, (label, "outer_step"), x, y, looks)
            for end in failures(runs, x=x, y=y).itertuples():
                drawing.cross(axis, end.x, end.y, looks[end.configuration])
        if higher_is_better(y, runs) is False:
            row[0].invert_yaxis()
    for axis in axes[-1]:
        drawing.spread(axis)
    if (runs["suboptimality"] > 0).any():
        axes[0, 0].set_yscale("log")
    ends = last_rows(runs)
    endings = ends.groupby(label)["status"].agg(_ending)
    handles = entries({name + endings[name]: look for name, look in looks.items()})
    handles += [drawing.failed_entry()] if (ends["status"] != "ok").any() else []
    if left_out := frame["solver_name"].nunique() - runs["solver_name"].nunique():
        notes.append(f"{left_out} configurations evaluated only once, without training")
    return finish(figure, frame["task"].iloc[0], handles, notes)


def suboptimality(runs: pd.DataFrame) -> pd.Series:
    """F less the least F of the same task and repetition; NaN where it is the least itself."""
    gap = runs["value"] - runs.groupby(["task", "repetition"])["value"].transform("min")
    return gap.where(gap > 0)


def failures(frame: pd.DataFrame, *, x: str, y: str) -> pd.DataFrame:
    """The last finite point of each run that failed (none for a run without one)."""
    failed = frame.groupby(RUN)["status"].transform("last") != "ok"
    points = last_rows(frame[failed & frame[[x, y]].notna().all(axis=1)])
    return points[["configuration", "method"]].assign(x=points[x], y=points[y])


def memory_over_time(samples: pd.DataFrame | None, page: Page) -> Drawing:
    """Memory during training: samples with the columns ``method, seconds, mib``."""
    if samples is None:
        raise NothingToDrawError("no --memory-curve was given")
    figure, ((axis,),) = grid(1, 1, (min(page.width, 0.7 * drawing.TWO_COLUMNS), 2.6))
    looks = {method: page.styles[method] for method in method_order(samples["method"])}
    for method, look in looks.items():
        run = samples[samples["method"] == method].sort_values("seconds", kind="stable")
        axis.plot(run["seconds"], run["mib"], markevery=max(1, len(run) // 8), **look.line)
    axis.set(xlabel="time since the start of training (s)", ylabel="memory above the start (MiB)")
    axis.set_ylim(bottom=0)
    return finish(figure, handles=entries(looks))


def gradient_error(frame: pd.DataFrame, page: Page) -> Drawing:
    """Error of the hypergradient.

    Of one task, at the first θ of a run. The line starts at the first point of Restarted-JFB with
    the most restarts, κ being the median of the measured contraction factors; it is not drawn where
    κ ≥ 1. Crosses at the top are depths at which a run failed.
    """
    rows, y, notes = first_rows(frame), "gradient_error", []
    shown = rows.assign(gradient_error=rows[y].where(rows[y] > 0))
    known = depths(shown, y=y)
    if len(known) < 2:
        raise NothingToDrawError("needs at least two depths")
    exact = rows.loc[rows[y] == 0, "series"]
    if len(exact):
        names = ", ".join(sorted(set(exact)))
        notes.append(f"{len(exact)} rows with an error of exactly 0 ({names}): the axis is a log")
    looks, ends = page.looks(shown, "series"), (known[0], known[-1])
    figure, axes = drawing.in_a_line(page, COSTS, height=2.6)
    for axis, x in zip(axes, COSTS, strict=True):
        drawing.curves(axis, shown, ("series", "layers"), x, y, looks, ends)
    drawing.ticks(axes[0], sorted({float(layers) for layers in rows["layers"].dropna()}))
    axes[0].yaxis.set_minor_locator(NullLocator())
    handles = entries(looks)
    failed = rows[(rows["status"] != "ok") & rows["layers"].notna()]
    for row in failed.itertuples():
        drawing.cross(axes[0], row.layers, 1.0, looks[row.series], at_top=True)
    theory = _theory(axes[0], shown, stop=known[-1])
    (notes if isinstance(theory, str) else handles).append(theory)
    handles += [drawing.failed_entry("failed at this depth")] if len(failed) else []
    return finish(figure, frame["task"].iloc[0], handles, notes)


def _theory(axis: Axes, rows: pd.DataFrame, stop: float) -> Line2D | str:
    """Draw κᴷ without changing the axis; the handle names κ. Or why it is not drawn."""
    own = rows[rows["method"] == "Restarted-JFB"].dropna(subset=["layers", "gradient_error"])
    kappa = float(rows["contraction"].median())
    if own.empty:
        return "the theory's slope (no point of Restarted-JFB to start from)"
    if not 0 < kappa < 1:
        return f"the theory's slope (kappa = {kappa:.3g})"
    errors = own.fillna({"restarts": 0}).groupby(["restarts", "layers"])["gradient_error"].median()
    most = errors[errors.index[-1][0]]
    limits, layers = axis.get_ylim(), np.geomspace(most.index[0], stop, 200)
    look = {"color": "#777777", "linewidth": 1, "linestyle": (0, (2, 1)), "zorder": 1}
    look |= {"label": rf"theory: $\kappa^K$, κ = {kappa:.3g}"}
    (line,) = axis.plot(layers, most.iloc[0] * kappa ** (layers - layers[0]), **look)
    axis.set_ylim(limits)
    return line


def time(frame: pd.DataFrame, page: Page) -> Drawing:
    """Time of one hypergradient.

    Of all tasks, at the last evaluation of a run. One column of a page has room for the seconds
    alone.
    """
    if not frame["gradient_seconds"].notna().any():
        raise NothingToDrawError("no time of a hypergradient in the data")
    panels = {None: AXES["gradient_seconds"], "layer_seconds": "in applications of one layer"}
    notes = (f"{panels['layer_seconds']}: {drawing.WIDER}",) if page.narrow else ()
    panels = {None: "seconds"} if page.narrow else panels
    counts = frame.groupby("task", sort=False)["gradient"].nunique()
    size = (page.width, 0.5 + sum(0.55 + 0.17 * counts))
    options = {"sharex": "col", "sharey": "row", "height_ratios": counts + 1.5}
    figure, axes = grid(len(counts), len(panels), size, below=[*panels.values()], **options)
    for row, task in zip(axes, counts.index, strict=True):
        row[0].set_title(task, loc="left")
        for axis, per in zip(row, panels, strict=True):
            found = costs(frame[frame["task"] == task], column="gradient_seconds", per=per)
            drawing.dots(axis, page, found, middle=True, above=0.6, below=0.4)
    for axis in axes[-1]:
        drawing.room(axis, share=0.25 * drawing.TWO_COLUMNS / page.width)
    return finish(figure, notes=notes)


def memory(frame: pd.DataFrame, page: Page) -> Drawing:
    """Memory of one hypergradient.

    Of all tasks. On the left a dot per configuration, at the last evaluation; on the right its
    growth with depth, only where the data have several depths.
    """
    y = "peak_memory_mib"
    rows = measured_rows(frame, y)
    if rows.empty:
        raise NothingToDrawError("no peak memory in the data")
    known = depths(rows, y=y)
    looks = page.looks(rows, "series") if len(known) > 1 else {}
    tasks = list(dict.fromkeys(frame["task"]))
    shape = (len(tasks), 2 if looks else 1)
    lines = (shape[0] * shape[1], 1) if page.narrow else shape
    high = 0.4 + lines[0] * max(1.7, 0.35 + 0.15 * frame["method"].nunique())
    figure, axes = grid(*lines, (page.width if looks or page.narrow else page.width / 2, high))
    axes = axes.reshape(shape)
    for row, task in zip(axes, tasks, strict=True):
        _by_method(row[0], frame[frame["task"] == task], page)
        if looks:
            own, against = rows[rows["task"] == task], ("series", "layers")
            drawing.curves(row[1], own, against, "layers", y, looks, (known[0], known[-1]))
            row[1].set_ylabel(AXES[y])
            drawing.ticks(row[1], known)
        for axis in row if page.narrow else row[:1]:
            axis.set_title(task, loc="left")
    labels = ("peak memory of one hypergradient (MiB)", AXES["layers"])
    for column, label in zip(axes.T, labels, strict=False):
        for axis in column[1:]:
            axis.sharex(column[0])
        column[0].autoscale(axis="x")
        for axis in column if page.narrow else column[-1:]:
            axis.set_xlabel(label)
        for axis in column[:-1]:
            axis.tick_params(labelbottom=page.narrow)
    drawing.room(axes.flat[0], share=0.5)
    return finish(figure, handles=entries(looks))


def _by_method(axis: Axes, frame: pd.DataFrame, page: Page) -> None:
    """A row per method: a dot for the median of each configuration."""
    endings = last_rows(frame).groupby("method")["status"].agg(_ending).str.removeprefix(", ")
    found = costs(frame, column="peak_memory_mib")
    medians = found["values"].map(lambda values: float(np.median(values)) if values else np.nan)
    rows = pd.DataFrame({"method": endings.index, "failed": endings}, index=endings.index)
    values = medians.dropna().groupby(found["method"]).agg(list)
    rows["values"] = [values.get(method, []) for method in rows.index]
    drawing.dots(axis, page, rows.loc[method_order(rows.index)], middle=False, above=0.5, below=0.5)


def _ending(statuses: pd.Series) -> str:
    """How the failed runs ended, for the legend: ``, 1 of 2 diverged``."""
    failed = statuses[statuses != "ok"].value_counts().sort_index()
    return "".join(f", {count} of {len(statuses)} {status}" for status, count in failed.items())


def learned(frame: pd.DataFrame, page: Page) -> Drawing:
    """Learned parameters.

    Of one task and each configuration; up to ``FEW`` entries have a line each.
    """
    runs = trained(frame)
    runs = runs[runs["learned"].notna()]
    theta = medians(runs)
    if theta.empty:
        raise NothingToDrawError("no learned parameters in the rows")
    looks = page.looks(runs, "configuration")
    panels = list(theta.groupby("parameter"))
    abreast = 1 if page.narrow else min(2, len(panels))
    lines = math.ceil(len(panels) / abreast)
    width = page.width if abreast > 1 else min(page.width, 1.4 * drawing.ONE_COLUMN)
    figure, axes = grid(lines, abreast, (width, 0.5 + 2.0 * lines), sharex=True)
    axes = axes.ravel()
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis in axes[max(0, len(panels) - abreast) : len(panels)]:
        # the last of its column, which need not be in the last line
        axis.set_xlabel("outer steps")
        axis.tick_params(labelbottom=True)
    for axis, (name, own) in zip(axes, panels, strict=False):
        axis.set_ylabel(label(name))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        for configuration, look in looks.items():
            _parameter(axis, own[own["configuration"] == configuration], look)
        count = own["entry"].nunique()
        many = f"median and range of {count} entries" if count > FEW else f"{count} entries"
        axis.set_title(many if count > 1 else "one entry", loc="left", fontsize=6.5)
    return finish(figure, frame["task"].iloc[0], entries(looks))


def medians(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per configuration, parameter, entry and outer step: the median over repetitions."""
    known = runs[["configuration", "outer_step", "learned"]].itertuples(index=False)
    rows = [
        (configuration, parameter, position, step, float(value))
        for configuration, step, text in known
        for parameter, values in json.loads(text).items()
        for position, value in enumerate(np.ravel(values))
    ]
    found = pd.DataFrame(rows, columns=[*ENTRY, "value"]).dropna()
    return found.groupby(ENTRY, sort=True)["value"].median().reset_index()


def label(parameter: str) -> str:
    """``log_weights`` as ``weights (natural log)``."""
    for sign, scale in SCALES.items():
        if parameter.startswith(sign) or parameter.endswith(sign):
            plain = parameter.removeprefix(sign).removesuffix(sign).replace("_", " ")
            return f"{plain} ({scale})"
    return parameter.replace("_", " ")


def _parameter(axis: Axes, theta: pd.DataFrame, look: Style) -> None:
    """One parameter of one configuration."""
    table = theta.pivot_table(index="outer_step", columns="entry", values="value")
    if table.shape[1] <= FEW:
        axis.plot(table, **look.line)
        return
    axis.plot(table.median(axis="columns"), **look.line)
    low, high = table.min(axis="columns"), table.max(axis="columns")
    axis.fill_between(table.index, low, high, color=look.color, alpha=0.06, linewidth=0)
    for bound in (low, high):
        axis.plot(bound, color=look.color, linewidth=0.5, linestyle=look.line["linestyle"])
