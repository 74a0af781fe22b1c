"""Figures of accuracy, gradient error, time and memory, from the tidy frame of one task or of all.

Each returns a ``Drawing``, or raises ``NothingToDrawError`` with the reason. The first line of its
docstring and the paragraph after it are the title and the caption of the figure on a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from benchmark.report.drawing import (
    TWO_COLUMNS,
    Drawing,
    NothingToDrawError,
    beside,
    cross,
    curves,
    curves_over_depth,
    entries,
    failed_entry,
    finish,
    grid,
    in_a_line,
    named_rows,
    room,
    spread,
    task_of,
    ticks,
    unmeasured,
)
from benchmark.report.frame import (
    RUN,
    costs,
    depths,
    first_rows,
    last_rows,
    measured_rows,
    placed,
    trained,
)
from benchmark.report.style import Style, labelled_styles, method_order

TRAINING_AXES = {
    "seconds": "training time (s)",
    "training_layer_evals": "layer applications",
    "outer_step": "outer steps",
}
ACCURACY_AXES = {
    "suboptimality": "F(θ) − least F (MSE)",
    "test_psnr": "test PSNR (dB)",
    "test_ssim": "test SSIM",
}
COST_AXES = {
    "layers": "layers differentiated, K",
    "gradient_seconds": "seconds of one hypergradient",
    "peak_memory_mib": "peak memory (MiB)",
}


# --- along training ----------------------------------------------------------------------------


def accuracy(
    frame: pd.DataFrame, *, styles: Mapping[str, Style], width: float = TWO_COLUMNS
) -> Drawing:
    """Accuracy along training

    Loss and test quality of the true equilibrium against training time, layer applications and
    outer steps: the median over repetitions, the quartiles as a band. The loss is shown above the
    least that any run of the repetition reached; that point itself is off the log axis. A cross
    marks the last finite point of a failed run.

    Of one task. One column of a page has no room for layer applications.
    """
    runs = trained(frame)
    evaluated = runs.dropna(subset=["outer_step", "value"]).groupby("configuration")["outer_step"]
    if not (evaluated.nunique() > 1).any():
        raise NothingToDrawError("needs at least two evaluations of a run")
    runs = runs.assign(suboptimality=suboptimality(runs))
    looks = labelled_styles(runs, name="configuration", styles=styles)
    against, notes = dict(TRAINING_AXES), []
    if width < TWO_COLUMNS:
        notes.append(f"{against.pop('training_layer_evals')}: in the version for two columns")
    shape = (len(ACCURACY_AXES), len(against))
    figure, axes = grid(*shape, size=(width, 0.5 + 1.55 * shape[0]), sharex="col", sharey="row")
    for row, (y, label) in zip(axes, ACCURACY_AXES.items(), strict=True):
        row[0].set_ylabel(label)
        for axis, x in zip(row, against, strict=True):
            points = placed(runs, label="configuration", by="outer_step", x=x, y=y)
            curves(axis, points, label="configuration", y=y, looks=looks)
            for end in failures(runs, x=x, y=y).itertuples():
                cross(axis, end.x, end.y, looks[end.configuration])
    for axis, label in zip(axes[-1], against.values(), strict=True):
        axis.set_xlabel(label)
        spread(axis)
    if (runs["suboptimality"] > 0).any():
        axes[0, 0].set_yscale("log")
    ends = last_rows(runs)
    endings = ends.groupby("configuration")["status"].agg(_ending)
    handles = entries({label + endings[label]: look for label, look in looks.items()})
    handles += [failed_entry()] if (ends["status"] != "ok").any() else []
    finish(figure, title=task_of(frame), handles=handles)
    if left_out := frame["solver_name"].nunique() - runs["solver_name"].nunique():
        notes.append(f"{left_out} configurations evaluated only once, without training")
    return Drawing(figure, tuple(notes))


def suboptimality(runs: pd.DataFrame) -> pd.Series:
    """F less the least F of the same task and repetition; NaN where it is the least itself."""
    gap = runs["value"] - runs.groupby(["task", "repetition"])["value"].transform("min")
    return gap.where(gap > 0)


def failures(frame: pd.DataFrame, *, x: str, y: str) -> pd.DataFrame:
    """The last finite point of each run that failed (none for a run without one)."""
    ended = frame.assign(status=frame.groupby(RUN)["status"].transform("last"))
    known = (ended["status"] != "ok") & ended[[x, y]].notna().all(axis=1)
    points = last_rows(ended[known])
    return points[["configuration", "method", "status"]].assign(x=points[x], y=points[y])


def memory_over_time(
    samples: pd.DataFrame | None, *, styles: Mapping[str, Style], width: float = TWO_COLUMNS
) -> Drawing:
    """Memory during training

    Sampled over one training run of each method, above what was held at the start.

    Columns ``method, seconds, mib``.
    """
    if samples is None:
        raise NothingToDrawError("no --memory-curve was given")
    figure, ((axis,),) = grid(1, 1, size=(min(width, TWO_COLUMNS * 0.7), 2.6))
    methods = method_order(samples["method"])
    for method in methods:
        run = samples[samples["method"] == method].sort_values("seconds", kind="stable")
        every = max(1, len(run) // 8)
        axis.plot(run["seconds"], run["mib"], markevery=every, **styles[method].line)
    axis.set(xlabel="time since the start of training (s)", ylabel="memory above the start (MiB)")
    axis.set_ylim(bottom=0)
    finish(figure, handles=entries({method: styles[method] for method in methods}))
    return Drawing(figure)


# --- the error of a hypergradient --------------------------------------------------------------


def gradient_error(
    frame: pd.DataFrame, *, styles: Mapping[str, Style], width: float = TWO_COLUMNS
) -> Drawing:
    """Error of the hypergradient

    Relative error against the float64 reference, all methods at the same θ, over the layers
    differentiated, time and memory. The dashed grey line falls as κᴷ, κ measured.

    Of one task, at the first θ of a run. The line starts at the first point of Restarted-JFB with
    the most restarts, κ being the median of the measured contraction factors; it is not drawn where
    κ ≥ 1. Crosses at the top are depths at which a run failed.
    """
    rows = first_rows(frame)
    shown = rows.assign(gradient_error=rows["gradient_error"].where(rows["gradient_error"] > 0))
    known = depths(shown, y="gradient_error")
    if len(known) < 2:
        raise NothingToDrawError("needs at least two depths")
    notes = []
    exact = rows.loc[rows["gradient_error"] == 0, "series"]
    if len(exact):
        names = ", ".join(sorted(set(exact)))
        notes.append(f"{len(exact)} rows with an error of exactly 0 ({names}): the axis is a log")
    looks = labelled_styles(shown, name="series", styles=styles)
    labels, y = list(COST_AXES.values()), "gradient_error"
    figure, axes = in_a_line(labels, ylabel="relative gradient error", width=width, height=2.6)
    for axis, x in zip(axes, COST_AXES, strict=True):
        points = placed(shown, label="series", by="layers", x=x, y=y)
        ends = (known[0], known[-1])
        curves_over_depth(axis, points, label="series", y=y, looks=looks, ends=ends)
    ticks(axes[0], sorted({float(layers) for layers in rows["layers"].dropna()}))
    axes[0].yaxis.set_minor_locator(NullLocator())
    handles = entries(looks)
    failed = rows[(rows["status"] != "ok") & rows["layers"].notna()]
    for row in failed.itertuples():
        cross(axes[0], row.layers, 1.0, looks[row.series], at_top=True)
    kappa, start = float(shown["contraction"].median()), _first_restarted(shown)
    if start is not None and 0 < kappa < 1:
        handles.append(_slope(axes[0], start, kappa=kappa, stop=known[-1]))
    else:
        why = f"kappa = {kappa:.3g}" if start else "no point of Restarted-JFB to start from"
        notes.append(f"the theory's slope ({why})")
    handles += [failed_entry("failed at this depth")] if len(failed) else []
    finish(figure, title=task_of(frame), handles=handles)
    return Drawing(figure, tuple(notes))


def _first_restarted(rows: pd.DataFrame) -> tuple[float, float] | None:
    """Depth and error of Restarted-JFB's first point, of the series with the most restarts."""
    own = rows[rows["method"] == "Restarted-JFB"].dropna(subset=["layers", "gradient_error"])
    if own.empty:
        return None
    errors = own.fillna({"restarts": 0}).groupby(["restarts", "layers"])["gradient_error"].median()
    most = errors[errors.index[-1][0]]
    return float(most.index[0]), float(most.iloc[0])


def _slope(axis: Axes, start: tuple[float, float], *, kappa: float, stop: float) -> Line2D:
    """Draw κᴷ through a point without changing the axis; the handle names κ."""
    limits = axis.get_ylim()
    layers = np.geomspace(start[0], stop, 200)
    (line,) = axis.plot(
        layers,
        start[1] * kappa ** (layers - start[0]),
        color="#777777",
        linewidth=1,
        linestyle=(0, (2, 1)),
        label=rf"theory: $\kappa^K$, κ = {kappa:.3g}",
        zorder=1,
    )
    axis.set_ylim(limits)
    return line


# --- the cost of a hypergradient ---------------------------------------------------------------


def time(
    frame: pd.DataFrame, *, styles: Mapping[str, Style], width: float = TWO_COLUMNS
) -> Drawing:
    """Time of one hypergradient

    The median over runs and their range; on the right in applications of one layer, timed in the
    same rounds. Compare times within one study only.

    Of all tasks, at the last evaluation of a run. One column of a page has room for the seconds
    alone.
    """
    if not frame["gradient_seconds"].notna().any():
        raise NothingToDrawError("no time of a hypergradient in the data")
    panels = {None: "seconds of one hypergradient", "layer_seconds": "in applications of one layer"}
    notes = ()
    if width < TWO_COLUMNS:
        notes = (f"{panels['layer_seconds']}: in the version for two columns",)
        panels = {None: "seconds"}
    counts = frame.groupby("task", sort=False)["gradient"].nunique()
    figure, axes = grid(
        len(counts),
        len(panels),
        size=(width, 0.5 + sum(0.55 + 0.17 * n for n in counts)),
        sharex="col",
        sharey="row",
        height_ratios=[n + 1.5 for n in counts],
    )
    for row, task in zip(axes, counts.index, strict=True):
        for axis, per in zip(row, panels, strict=True):
            group = frame[frame["task"] == task]
            _dots(axis, costs(group, column="gradient_seconds", per=per), styles=styles)
        row[0].set_title(task, loc="left")
    for axis, label in zip(axes[-1], panels.values(), strict=True):
        axis.set_xlabel(label)
        room(axis, share=0.25 * TWO_COLUMNS / width)
    finish(figure)
    return Drawing(figure, notes)


def _dots(axis: Axes, found: pd.DataFrame, *, styles: Mapping[str, Style]) -> None:
    """A row per configuration: its range, its median and the number written beside it."""
    named_rows(axis, found.index, above=0.6, below=0.4)
    for position, cost in enumerate(found.itertuples()):
        look = styles[cost.method]
        if not cost.values:
            unmeasured(axis, position, look, note=cost.failed)
            continue
        least, middle, most = np.quantile(cost.values, [0, 0.5, 1])
        axis.plot([least, most], [position] * 2, color=look.color, linewidth=3, alpha=0.3)
        axis.plot([middle], [position], **look.dots)
        beside(axis, most, position, [middle], note=cost.failed)


def memory(
    frame: pd.DataFrame, *, styles: Mapping[str, Style], width: float = TWO_COLUMNS
) -> Drawing:
    """Memory of one hypergradient

    Peak of live tensor bytes: the same on every machine.

    Of all tasks. On the left a dot per configuration, at the last evaluation; on the right its
    growth with depth, only where the data have several depths.
    """
    rows = measured_rows(frame, "peak_memory_mib")
    if rows.empty:
        raise NothingToDrawError("no peak memory in the data")
    known = depths(rows, y="peak_memory_mib")
    looks = labelled_styles(rows, name="series", styles=styles) if len(known) > 1 else {}
    tasks = list(dict.fromkeys(frame["task"]))
    narrow = width < TWO_COLUMNS
    shape = (len(tasks), 2 if looks else 1)
    lines = (shape[0] * shape[1], 1) if narrow else shape
    high = 0.4 + lines[0] * max(1.7, 0.35 + 0.15 * frame["method"].nunique())
    figure, axes = grid(*lines, size=(width if looks or narrow else width / 2, high))
    axes = axes.reshape(shape)
    for row, task in zip(axes, tasks, strict=True):
        group = rows[rows["task"] == task]
        _by_method(row[0], group, everything=frame[frame["task"] == task], styles=styles)
        if looks:
            _growth(row[1], group, known=known, looks=looks)
        for axis in row if narrow else row[:1]:
            axis.set_title(task, loc="left")
    labels = ("peak memory of one hypergradient (MiB)", COST_AXES["layers"])
    for column, label in zip(axes.T, labels, strict=False):
        for axis in column[1:]:
            axis.sharex(column[0])
        column[0].autoscale(axis="x")
        for axis in column if narrow else column[-1:]:
            axis.set_xlabel(label)
        for axis in column[:-1]:
            axis.tick_params(labelbottom=narrow)
    room(axes.flat[0], share=0.5)
    finish(figure, handles=entries(looks))
    return Drawing(figure)


def _by_method(
    axis: Axes, rows: pd.DataFrame, *, everything: pd.DataFrame, styles: Mapping[str, Style]
) -> None:
    """A row per method: a dot per configuration, the least and the most written out."""
    endings = last_rows(everything).groupby("method")["status"].agg(_ending)
    methods = method_order(endings.index)
    named_rows(axis, methods, above=0.5, below=0.5)
    found = costs(rows, column="peak_memory_mib")
    for position, method in enumerate(methods):
        medians = [np.median(own) for own in found.loc[found["method"] == method, "values"] if own]
        look, note = styles[method], endings[method].removeprefix(", ")
        if not medians:
            unmeasured(axis, position, look, note=note)
            continue
        ends = [min(medians), max(medians)]
        axis.plot(ends, [position] * 2, color=look.color, alpha=0.4)
        axis.plot(medians, [position] * len(medians), **look.dots)
        beside(axis, ends[1], position, ends, note=note)


def _growth(
    axis: Axes, rows: pd.DataFrame, *, known: Sequence[float], looks: Mapping[str, Style]
) -> None:
    """Memory against depth, from the first to the last of the known depths."""
    y, ends = "peak_memory_mib", (known[0], known[-1])
    points = placed(rows, label="series", by="layers", x="layers", y=y)
    curves_over_depth(axis, points, label="series", y=y, looks=looks, ends=ends)
    axis.set_ylabel("peak memory (MiB)")
    ticks(axis, known)


def _ending(statuses: pd.Series) -> str:
    """How the failed runs ended, for the legend: ``, 1 of 2 diverged``."""
    failed = statuses[statuses != "ok"].value_counts().sort_index()
    return "".join(f", {count} of {len(statuses)} {status}" for status, count in failed.items())
