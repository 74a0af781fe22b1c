"""The figures of a report, each from the tidy frame of one task or of all.

A function returns a ``Drawing``, or raises ``NothingToDrawError`` with the reason; ``save`` writes
one. ``width`` is in inches: that of one column of a page, where panels are stacked, or of both.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmark.report.frame import (
    Cost,
    Curve,
    across,
    costs,
    curves_over_depth,
    curves_over_training,
    depths,
    failures,
    first_rows,
    labelled_styles,
    last_rows,
    measured_rows,
    trained,
)
from benchmark.report.style import Style, method_order

DPI = 200
# inches: one column of a page, or both
ONE_COLUMN = 3.4
TWO_COLUMNS = 7.1
LOOK = {
    **sns.axes_style("ticks"),
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.titlesize": 8,
    "figure.titlesize": 8.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "pdf.fonttype": 42,
    "figure.dpi": 100,
}
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
FAILED = {"marker": "X", "markersize": 7.5, "markeredgecolor": "white", "linestyle": "none"}
COST_AXES = {
    "layers": "layers differentiated, K",
    "gradient_seconds": "seconds of one hypergradient",
    "peak_memory_mib": "peak memory (MiB)",
}


@dataclass(frozen=True)
class Drawing:
    """A figure, and what was left out of it and why (one line each)."""

    figure: Figure
    notes: tuple[str, ...] = ()


class NothingToDrawError(Exception):
    """There is nothing to draw; the message says why."""


def look() -> AbstractContextManager[None]:
    """The settings under which figures are both made and saved."""
    return mpl.rc_context(LOOK)


def save(figure: Figure, *, stem: Path) -> list[str]:
    """Write ``stem``.png and ``stem``.pdf, without dates; returns the file names."""
    png, pdf = (stem.parent / f"{stem.name}.{kind}" for kind in ("png", "pdf"))
    figure.savefig(png, dpi=DPI, metadata={"Software": None})
    figure.set_layout_engine("none")  # keep the layout just found
    figure.savefig(pdf, metadata={"CreationDate": None})
    return [png.name, pdf.name]


# --- figures ---------------------------------------------------------------------------------


def accuracy(
    frame: pd.DataFrame, *, styles: Mapping[str, Style], width: float = TWO_COLUMNS
) -> Drawing:
    """One task: loss and test quality against time, layer applications and outer steps of training.

    The loss is F(θ) less the least F that any run of the same repetition reaches (``suboptimality``
    below); that point itself has no place on the log axis. A line per configuration: the median
    over runs, and its quartiles as a band. A cross marks the last finite point of a run that
    failed; the legend counts the failures. One column of a page has no room for layer applications.
    """
    runs = trained(frame)
    if not any(len(curve.x) > 1 for curve in curves_over_training(runs, x="outer_step", y="value")):
        raise NothingToDrawError("needs at least two evaluations of a run")
    runs = runs.assign(suboptimality=suboptimality(runs))
    looks = labelled_styles(runs, name="configuration", styles=styles)
    against, notes = dict(TRAINING_AXES), []
    if width < TWO_COLUMNS:
        notes.append(f"{against.pop('training_layer_evals')}: in the version for two columns")
    figure = Figure(figsize=(width, 0.5 + 1.55 * len(ACCURACY_AXES)), layout="constrained")
    axes = figure.subplots(len(ACCURACY_AXES), len(against), sharex="col", sharey="row")
    for row, (y, y_label) in zip(axes, ACCURACY_AXES.items(), strict=True):
        row[0].set_ylabel(y_label)
        if y == "suboptimality" and (runs[y] > 0).any():
            row[0].set_yscale("log")
        for axis, x in zip(row, against, strict=True):
            for curve in curves_over_training(runs, x=x, y=y):
                draw_curve(axis, curve, looks[curve.label])
            for end in failures(runs, x=x, y=y):
                _cross(axis, end.x, end.y, looks[end.label])
    for axis, (x, x_label) in zip(axes[-1], against.items(), strict=True):
        axis.set_xlabel(x_label)
        _spread(axis, [curve.x for curve in curves_over_training(runs, x=x, y="value")])
    ends = last_rows(runs)
    endings = {label: _ending(group) for label, group in ends.groupby("configuration")}
    handles = [handle(label + endings[label], style) for label, style in looks.items()]
    if (ends["status"] != "ok").any():
        handles.append(_failed_handle())
    finish(figure, title=_task(frame), handles=handles)
    left_out = frame["solver_name"].nunique() - runs["solver_name"].nunique()
    if left_out:
        notes.append(f"{left_out} configurations evaluated only once, without training")
    return Drawing(figure, tuple(notes))


def suboptimality(runs: pd.DataFrame) -> pd.Series:
    """F less the least F of the same task and repetition; NaN where it is the least itself."""
    gap = runs["value"] - runs.groupby(["task", "repetition"])["value"].transform("min")
    return gap.where(gap > 0)


def gradient_error(
    frame: pd.DataFrame, *, styles: Mapping[str, Style], width: float = TWO_COLUMNS
) -> Drawing:
    """One task: error of the hypergradient against depth, time and memory, at the first θ of a run.

    The theory's slope κᴷ starts at the first point of Restarted-JFB with the most restarts, κ
    being the median of the measured contraction factors; it is not drawn where κ ≥ 1. Crosses at
    the top are depths at which a run failed.
    """
    rows = first_rows(frame)
    known = depths(rows[rows["gradient_error"] > 0], y="gradient_error")
    if len(known) < 2:
        raise NothingToDrawError("needs at least two depths")
    notes = []
    exact = rows[rows["gradient_error"] == 0]
    if len(exact):
        names = ", ".join(sorted(set(exact["series"])))
        notes.append(f"{len(exact)} rows with an error of exactly 0 ({names}): the axis is a log")
    shown = rows.assign(gradient_error=rows["gradient_error"].where(rows["gradient_error"] > 0))
    looks = labelled_styles(shown, name="series", styles=styles)
    figure, axes = in_a_line(len(COST_AXES), width=width, height=2.6)
    for axis in axes if width < TWO_COLUMNS else axes[:1]:
        axis.set_ylabel("relative gradient error")
    for axis, (x, x_label) in zip(axes, COST_AXES.items(), strict=True):
        axis.set(xscale="log", yscale="log", xlabel=x_label)
        for curve in curves_over_depth(shown, x=x, y="gradient_error"):
            flat = across(curve, start=known[0], stop=known[-1])
            draw_curve(axis, flat, looks[curve.label], markers=flat is curve)
    tried = sorted({float(layers) for layers in rows["layers"].dropna()})
    ticks(axes[0], tried)
    axes[0].yaxis.set_minor_locator(NullLocator())
    handles = [handle(label, style) for label, style in looks.items()]
    failed = rows[(rows["status"] != "ok") & rows["layers"].notna()]
    for _, row in failed.iterrows():
        _cross(axes[0], row["layers"], 1.0, looks[row["series"]], at_top=True)
    kappa = float(shown["contraction"].median())
    start = _first_restarted(shown)
    if start is None or not 0 < kappa < 1:
        why = f"kappa = {kappa:.3g}" if start else "no point of Restarted-JFB to start from"
        notes.append(f"the theory's slope ({why})")
    else:
        line = _slope(axes[0], start, kappa=kappa, stop=known[-1])
        handles.append(line)
    if len(failed):
        handles.append(_failed_handle("failed at this depth"))
    finish(figure, title=_task(frame), handles=handles)
    return Drawing(figure, tuple(notes))


def time(
    frame: pd.DataFrame, *, styles: Mapping[str, Style], width: float = TWO_COLUMNS
) -> Drawing:
    """All tasks: time of one hypergradient of each configuration, in seconds and in layers' times.

    A dot is the median over runs, the bar behind it their range; at the last evaluation of a run.
    One column of a page has room for the seconds alone.
    """
    if not frame["gradient_seconds"].notna().any():
        raise NothingToDrawError("no time of a hypergradient in the data")
    panels = [
        ("gradient_seconds", None, "seconds of one hypergradient"),
        ("gradient_seconds", "layer_seconds", "in applications of one layer"),
    ]
    notes = []
    if width < TWO_COLUMNS:
        notes.append(f"{panels.pop()[-1]}: in the version for two columns")
        panels = [("gradient_seconds", None, "seconds")]
    tasks = list(dict.fromkeys(frame["task"]))
    counts = [frame.loc[frame["task"] == task, "gradient"].nunique() for task in tasks]
    figure = Figure(
        figsize=(width, 0.5 + sum(0.55 + 0.17 * n for n in counts)), layout="constrained"
    )
    axes = figure.subplots(
        len(tasks),
        len(panels),
        squeeze=False,
        sharex="col",
        sharey="row",
        height_ratios=[n + 1.5 for n in counts],
    )
    for row, task in zip(axes, tasks, strict=True):
        group = frame[frame["task"] == task]
        for axis, (column, per, _) in zip(row, panels, strict=True):
            _dots(axis, costs(group, column=column, per=per), styles=styles)
        row[0].set_title(task, loc="left")
    for axis, (_, _, x_label) in zip(axes[-1], panels, strict=True):
        axis.set_xlabel(x_label)
        _room(axis, share=0.25 * TWO_COLUMNS / width)
    finish(figure)
    return Drawing(figure, tuple(notes))


def memory(
    frame: pd.DataFrame, *, styles: Mapping[str, Style], width: float = TWO_COLUMNS
) -> Drawing:
    """All tasks: peak memory of one hypergradient of each method, and its growth with depth.

    On the left a dot per configuration, at the last evaluation; on the right only where the data
    have several depths.
    """
    rows = measured_rows(frame, "peak_memory_mib")
    if rows.empty:
        raise NothingToDrawError("no peak memory in the data")
    deep = len(depths(rows, y="peak_memory_mib")) > 1
    tasks = list(dict.fromkeys(frame["task"]))
    high = max(1.7, 0.35 + 0.15 * frame["method"].nunique())
    narrow = width < TWO_COLUMNS
    shape = (len(tasks), 2 if deep else 1)
    stacked = (shape[0] * shape[1], 1)
    size = (width if deep or narrow else width / 2, 0.4 + high * (stacked if narrow else shape)[0])
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(*(stacked if narrow else shape), squeeze=False)
    looks = labelled_styles(rows, name="series", styles=styles)
    for row, task in zip(axes.reshape(shape), tasks, strict=True):
        group = rows[rows["task"] == task]
        _by_method(row[0], group, failed=_failed(frame[frame["task"] == task]), styles=styles)
        if deep:
            _growth(row[1], group, known=depths(rows, y="peak_memory_mib"), looks=looks)
        for axis in row[: None if narrow else 1]:
            axis.set_title(task, loc="left")
    labels = ("peak memory of one hypergradient (MiB)", COST_AXES["layers"])
    for column, label in zip(axes.reshape(shape).T, labels, strict=False):
        for axis in column[1:]:
            axis.sharex(column[0])
        column[0].autoscale(axis="x")
        for axis in column if narrow else column[-1:]:
            axis.set_xlabel(label)
        for axis in column[:-1]:
            axis.tick_params(labelbottom=narrow)
    _room(axes.flat[0], share=0.5)
    finish(figure, handles=[handle(label, look) for label, look in looks.items()] if deep else [])
    return Drawing(figure)


def memory_over_time(
    samples: pd.DataFrame | None, *, styles: Mapping[str, Style], width: float = TWO_COLUMNS
) -> Drawing:
    """Memory sampled during one training run per method: columns ``method, seconds, mib``."""
    if samples is None:
        raise NothingToDrawError("no --memory-curve was given")
    figure = Figure(figsize=(min(width, TWO_COLUMNS * 0.7), 2.6), layout="constrained")
    axis = figure.subplots()
    for method in method_order(samples["method"]):
        run = samples[samples["method"] == method].sort_values("seconds", kind="stable")
        style = styles[method]
        axis.plot(run["seconds"], run["mib"], markevery=max(1, len(run) // 8), **artist(style))
    axis.set(xlabel="time since the start of training (s)", ylabel="memory above the start (MiB)")
    axis.set_ylim(bottom=0)
    finish(figure, handles=[handle(m, styles[m]) for m in method_order(samples["method"])])
    return Drawing(figure)


# --- parts -----------------------------------------------------------------------------------


def artist(style: Style) -> dict[str, object]:
    """A style as the properties of a line."""
    return {
        "color": style.color,
        "marker": style.marker,
        "markerfacecolor": style.face,
        "linestyle": style.linestyle,
    }


def in_a_line(panels: int, *, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    """A figure of panels abreast with one y axis; in one column of a page below each other."""
    if width < TWO_COLUMNS:
        figure = Figure(figsize=(width, 0.75 * height * panels), layout="constrained")
        return figure, figure.subplots(panels, 1, squeeze=False, sharey=True)[:, 0]
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False, sharey=True)[0]


def draw_curve(axis: Axes, curve: Curve, style: Style, *, markers: bool = True) -> None:
    """The median of a curve, and its quartiles as a band where there are repetitions."""
    drawn = artist(style) if markers else {**artist(style), "marker": ""}
    axis.plot(curve.x, curve.median, **drawn)
    if curve.repetitions > 1:
        axis.fill_between(
            curve.x, curve.low, curve.high, color=style.color, alpha=0.18, linewidth=0
        )


def _cross(axis: Axes, x: float, y: float, style: Style, *, at_top: bool = False) -> None:
    transform = axis.get_xaxis_transform() if at_top else axis.transData
    axis.plot([x], [y], **FAILED, color=style.color, transform=transform, clip_on=False, zorder=5)


def handle(label: str, style: Style, *, line: bool = True) -> Line2D:
    """An entry of a legend: line and marker, or the marker alone."""
    look = artist(style) if line else {**artist(style), "linestyle": "none"}
    return Line2D([], [], label=label, **look)


def _failed_handle(label: str = "last point of a failed run") -> Line2D:
    return Line2D([], [], label=label, color="#555555", **FAILED)


def _ending(ends: pd.DataFrame) -> str:
    """How the failed runs ended, for the legend: ``, 1 of 2 diverged``."""
    failed = ends.loc[ends["status"] != "ok", "status"].value_counts().sort_index()
    return "".join(f", {count} of {len(ends)} {status}" for status, count in failed.items())


def _failed(frame: pd.DataFrame) -> dict[str, str]:
    """For each method, how its failed runs ended."""
    groups = last_rows(frame).groupby("method")
    return {method: _ending(group).removeprefix(", ") for method, group in groups}


def _spread(axis: Axes, lines: Sequence[Sequence[float]]) -> None:
    """A log axis where the lines' ends lie over a decade apart, linear before the first step."""
    seconds = [line[1] for line in lines if len(line) > 1 and line[1] > 0]
    ends = [line[-1] for line in lines if len(line) > 1 and line[-1] > 0]
    if seconds and max(ends) > 10 * min(ends):
        axis.set_xscale("symlog", linthresh=min(seconds), linscale=0.5)
        decades = range(math.ceil(math.log10(min(seconds))), math.ceil(math.log10(max(ends))) + 1)
        axis.xaxis.set_major_locator(FixedLocator([0, *(10.0**k for k in decades)]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlim(-0.15 * min(seconds), 1.3 * max(ends))


def ticks(axis: Axes, values: Sequence[float]) -> None:
    """Ticks at the values themselves, as plain numbers, those that would collide left out."""
    kept = [values[0]]
    span = np.log(values[-1] / values[0])
    for value in values[1:]:
        if np.log(value / kept[-1]) > 0.06 * span:
            kept.append(value)
    axis.xaxis.set_major_locator(FixedLocator(kept))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _first_restarted(rows: pd.DataFrame) -> tuple[float, float] | None:
    """Depth and error of Restarted-JFB's first point, of the series with the most restarts."""
    points = rows[
        (rows["method"] == "Restarted-JFB") & rows[["layers", "gradient_error"]].notna().all(axis=1)
    ]
    if points.empty:
        return None
    most = points[points["restarts"].fillna(0) == points["restarts"].fillna(0).max()]
    depth = float(most["layers"].min())
    return depth, float(most.loc[most["layers"] == depth, "gradient_error"].median())


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


def _dots(axis: Axes, found: Sequence[Cost], *, styles: Mapping[str, Style]) -> None:
    """A row per configuration: its range, its median and the number written beside it."""
    axis.set_xscale("log")
    for position, cost in enumerate(found):
        style = styles[cost.method]
        _value(axis, position, cost.values, style, note=", ".join(sorted(set(cost.failed))))
    axis.set_yticks(range(len(found)), [cost.label for cost in found])
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")


def _value(axis: Axes, position: int, values: Sequence[float], style: Style, *, note: str) -> None:
    if not values:
        axis.annotate(
            note or "not measured",
            (0.02, position),
            xycoords=axis.get_yaxis_transform(),
            va="center",
            fontsize=6,
            color=style.color,
        )
        return
    middle = float(np.median(values))
    axis.plot([min(values), max(values)], [position] * 2, color=style.color, linewidth=3, alpha=0.3)
    axis.plot([middle], [position], **{**artist(style), "linestyle": "none"})
    _beside(axis, max(values), position, _plain(middle), note=note)


def _beside(axis: Axes, x: float, position: int, text: str, *, note: str) -> None:
    """``text`` right of the dot at ``x`` in a row, and the note in brackets if there is one."""
    axis.annotate(
        text + (f" ({note})" if note else ""),
        (x, position),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=6,
    )


def _plain(value: float) -> str:
    """Three significant digits; whole numbers from a thousand to a million."""
    return f"{value:.0f}" if 1e3 <= value < 1e6 else f"{value:.3g}"


def _room(axis: Axes, *, share: float) -> None:
    """Room on the right of a log axis, a share of it, for the numbers beside the dots."""
    low, high = axis.get_xlim()
    axis.set_xlim(low, high * (high / low) ** share)


def _by_method(
    axis: Axes, rows: pd.DataFrame, *, failed: Mapping[str, str], styles: Mapping[str, Style]
) -> None:
    """A row per method: a dot per configuration, the least and the most written out."""
    axis.set_xscale("log")
    methods = method_order(failed)
    for position, method in enumerate(methods):
        found = costs(rows[rows["method"] == method], column="peak_memory_mib")
        medians = [float(np.median(cost.values)) for cost in found if cost.values]
        style, note = styles[method], failed[method]
        if not medians:
            _value(axis, position, (), style, note=note)
            continue
        axis.plot([min(medians), max(medians)], [position] * 2, color=style.color, alpha=0.4)
        axis.plot(medians, [position] * len(medians), **{**artist(style), "linestyle": "none"})
        ends = dict.fromkeys(_plain(value) for value in (min(medians), max(medians)))
        _beside(axis, max(medians), position, " – ".join(ends), note=note)
    axis.set_yticks(range(len(methods)), methods)
    axis.set_ylim(len(methods) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")


def _growth(
    axis: Axes, rows: pd.DataFrame, *, known: Sequence[float], looks: Mapping[str, Style]
) -> None:
    """Memory against depth, from the first to the last of the known depths."""
    axis.set(xscale="log", yscale="log", ylabel="peak memory (MiB)")
    for curve in curves_over_depth(rows, x="layers", y="peak_memory_mib"):
        flat = across(curve, start=known[0], stop=known[-1])
        draw_curve(axis, flat, looks[curve.label], markers=flat is curve)
    ticks(axis, known)


def _task(frame: pd.DataFrame) -> str:
    return str(frame["task"].iloc[0])


def headed(figure: Figure, title: str) -> None:
    """A title, in as many lines as the figure's width takes."""
    figure.suptitle("\n".join(textwrap.wrap(title, width=int(14 * figure.get_figwidth()))))


def finish(figure: Figure, *, title: str = "", handles: Iterable[Line2D] = ()) -> None:
    """Title, legend in room of its own below the panels, and no box around the data."""
    handles = list(handles)
    if title:
        headed(figure, title)
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        fit = max(1, int(figure.get_figwidth() / (0.55 + 0.055 * longest)))
        figure.set_figheight(figure.get_figheight() + 0.15 * math.ceil(len(handles) / fit))
        figure.legend(handles=handles, loc="outside lower center", ncols=min(fit, len(handles)))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log" and not isinstance(axis.get_major_locator(), FixedLocator):
                _decades(axis)
    sns.despine(fig=figure)


def _decades(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 of each decade, as plain numbers, where there are few decades.

    Otherwise only the decades are labelled.
    """
    low, high = axis.get_view_interval()
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
