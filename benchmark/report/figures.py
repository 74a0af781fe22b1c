"""Figures of accuracy, θ, gradient error, time and memory, from the tidy frame of tasks.

Each returns a ``Drawing``, or raises ``NothingToDrawError`` with the reason; the captions are in
``pages/figures.csv``.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from benchmark.report import drawing
from benchmark.report import frame as tidied
from benchmark.report.drawing import Drawing, NothingToDrawError, Page, entries, finish, grid
from benchmark.report.frame import cost_column, depths, endings, last_rows, part, traces, trained
from benchmark.report.names import called, extra, higher_is_better
from benchmark.report.style import AXES, Style, method_order

TRAINING = ("seconds", "training_evals", "outer_step")
ACCURACY = ("value", "test_psnr", "test_ssim")
COSTS = ("gradient_seconds", "peak_memory_mib")
#: the θ that all methods have in common
PLACES = ("start", "reached")
REFERENCE = {"color": "#777777", "linewidth": 1, "linestyle": (0, (2, 1)), "zorder": 1}
FEW = 3  # entries of a parameter up to which each has a line of its own
MANY = 8  # configurations up to which curves with bands are told apart in one panel
OTHERS = {"color": "#cccccc", "linewidth": 0.6, "zorder": 0.5}
#: a parameter is stored as a function of what it stands for
SCALES = {"log_": "natural log", "_logit": "logit"}
ENTRY = ["configuration", "parameter", "entry", "outer_step"]


def accuracy(frame: pd.DataFrame, page: Page) -> Drawing:
    """Accuracy along training, of one task: F and the metrics of the test set; of more than
    ``MANY`` configurations F alone, a panel each.
    """
    runs, label = trained(frame), "configuration"
    known = runs.dropna(subset=["outer_step", "value"]).groupby(label)["outer_step"].nunique()
    if not (known > 1).any():
        raise NothingToDrawError("needs at least two evaluations of a run")
    looks = page.looks(runs, label)
    if len(looks) > MANY:
        return _apart(runs, page, looks, _untrained(frame, runs))
    points, ends = known.index[known < 3], endings(runs, label)
    ends |= {name: f"{ends[name]}: start and end" for name in known.index[known == 2]}
    against = TRAINING[::2] if page.narrow else TRAINING
    notes = [f"{AXES[x]}: {drawing.WIDER}" for x in TRAINING if x not in against]
    known = runs[extra(runs)].notna().any()
    notes += [f"{called(name, runs, AXES)}: not measured" for name in known.index[~known]]
    measures, below = [*ACCURACY, *known.index[known]], [AXES[x] for x in against]
    if runs["training_vjp_evals"].isna().all():
        below = [name.replace("+ products", "(products not recorded)") for name in below]
    size = (page.width, 0.5 + 1.55 * len(measures))
    labels = {"below": below, "left": [called(y, runs, AXES) for y in measures]}
    figure, axes = grid(len(measures), len(against), size, **labels, sharex="col", sharey="row")
    for row, y in zip(axes, measures, strict=True):
        for axis, x in zip(row, against, strict=True):
            drawing.curves(axis, runs, (label, "outer_step"), x, y, looks)
            for end in unfinished(runs, x=x, y=y).itertuples():
                drawing.cross(axis, end.x, end.y, looks[end.configuration])
        if higher_is_better(y, runs) is False:  # better is up for every metric, as for PSNR
            row[0].invert_yaxis()
    for axis in axes[-1]:
        drawing.spread(axis)
    least = runs.groupby("repetition")["value"].min().median()
    lines = [axis.axhline(least, **REFERENCE, label="least F of all") for axis in axes[0]]
    if least > 0:
        axes[0, 0].set_yscale("log")
    handles = [*entries(looks, ends, points=points), lines[0], *_cut(runs)]
    return finish(figure, frame["task"].iloc[0], handles, [*notes, *_untrained(frame, runs)])


def _apart(
    runs: pd.DataFrame, page: Page, looks: Mapping[str, Style], notes: Sequence[str]
) -> Drawing:
    """F against work, a panel for each of many configurations, with the medians of all in grey."""
    x = "training_evals" if runs["training_evals"].notna().any() else "outer_step"
    across, abreast = ("configuration", "outer_step"), 3 if page.narrow else 6
    lines, ends = math.ceil(len(looks) / abreast), endings(runs, "configuration")
    size = (page.width, 0.8 + 1.15 * lines)
    figure, axes = grid(lines, abreast, size, sharex=True, sharey=True)
    panels, unused = np.split(axes.ravel(), [len(looks)])
    for axis in unused:
        axis.remove()
    every = traces(runs, across, x, "value", looks)
    least = runs.groupby("repetition")["value"].min().median()
    for axis, (name, look) in zip(panels, looks.items(), strict=True):
        for trace in every:
            axis.plot(trace["x"], trace["y"], **OTHERS)
        own = runs[runs["configuration"] == name]
        drawing.curves(axis, own, across, x, "value", {name: look})
        for end in unfinished(own, x=x, y="value").itertuples():
            drawing.cross(axis, end.x, end.y, look)
        title = "\n".join(textwrap.wrap(name + ends[name], width=18))
        axis.set_title(drawing.plain(title), loc="left", fontsize=6)
    drawing.spread(panels[0])
    references = [axis.axhline(least, **REFERENCE, label="least F of all") for axis in panels]
    if runs["value"].max() > 10 * least > 0:
        panels[0].set_yscale("log")
    for axis in panels[-abreast:]:  # the last of its column, which need not be in the last line
        axis.set_xlabel(AXES[x])
        axis.tick_params(labelbottom=True)
    figure.supylabel(called("value", runs, AXES), fontsize=7.5)
    handles = [Line2D([], [], label="medians of all", **OTHERS), references[0], *_cut(runs)]
    others = ", ".join(called(name, runs, AXES) for name in (*ACCURACY[1:], *extra(runs)))
    many = f"{others}, and F against other axes: {len(looks)} configurations are too many curves"
    return finish(figure, runs["task"].iloc[0], handles, [many, *notes])


def _cut(runs: pd.DataFrame) -> list[Line2D]:
    """The entry of a legend for the crosses, where there are any."""
    label = "last point of a run that failed or was cut"
    there = (runs["ending"] != "ok").any()
    return [Line2D([], [], label=label, **drawing.FAILED)] if there else []


def _untrained(frame: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """What is said of the configurations of a sweep, which have no curve."""
    count = frame["solver_name"].nunique() - runs["solver_name"].nunique()
    return [f"{count} configurations evaluated only once, without training"] if count else []


def unfinished(frame: pd.DataFrame, *, x: str, y: str) -> pd.DataFrame:
    """The last finite point of each run that failed or was cut (none for a run without one)."""
    points = last_rows(frame[frame["ending"] != "ok"].dropna(subset=[x, y]))
    return points[["configuration", "method"]].assign(x=points[x], y=points[y])


def memory_over_time(samples: pd.DataFrame | None, page: Page) -> Drawing:
    """Memory of the process during training: samples with the columns ``method, seconds, mib``."""
    if samples is None:
        raise NothingToDrawError("no --memory-curve was given")
    figure, ((axis,),) = grid(1, 1, (min(page.width, 0.7 * drawing.TWO_COLUMNS), 2.6))
    looks = {method: page.styles[method] for method in method_order(samples["method"])}
    for method, look in looks.items():
        run = samples[samples["method"] == method].sort_values("seconds", kind="stable")
        axis.plot(run["seconds"], run["mib"], markevery=max(1, len(run) // 8), **look.line)
    axis.set(xlabel="time since the start of training (s)", ylim=(0, None))
    axis.set_ylabel("memory of the process\nabove the start (MiB)")
    return finish(figure, handles=entries(looks))


def gradient_error(frame: pd.DataFrame, page: Page) -> Drawing:
    """Error of the hypergradient, of one task, at the θ that all methods have in common; crosses at
    the top are depths at which a run failed.
    """
    rows, notes, lines = last_rows(frame), [], {}
    for place in PLACES:
        y = f"gradient_error_{place}"
        if exact := sorted(set(rows.loc[rows[y] == 0, "series"])):
            count, names = int((rows[y] == 0).sum()), ", ".join(exact)
            notes.append(f"{count} rows with an error of exactly 0 ({names}): the axis is a log")
        rows = rows.assign(**{y: rows[y].where(rows[y] > 0)})
        if depths(rows, y=y):
            there = {f"{name}_{place}": name for name in COSTS}
            known = (x if rows[x].notna().any() else own for x, own in there.items())
            lines[y] = ["layers", *known]
    if not lines:
        raise NothingToDrawError("needs at least two depths")
    looks, handles = page.looks(rows, "series"), []
    figure, axes = drawing.in_lines(page, lines, height=2.6)
    failed = rows[(rows["status"] != "ok") & rows["layers"].notna()]
    for row, (y, against) in zip(axes, lines.items(), strict=True):
        known = depths(rows, y=y)
        for axis, x in zip(row, against, strict=True):
            drawing.curves(axis, rows, ("series", "layers"), x, y, looks, (known[0], known[-1]))
        drawing.ticks(row[0], sorted(set(rows["layers"].dropna())))
        row[0].yaxis.set_minor_locator(NullLocator())
        for end in failed.itertuples():
            drawing.cross(row[0], end.layers, 1.0, looks[end.series], at_top=True)
    if "gradient_error_start" in lines:  # the first; when all else is drawn, which sets the limits
        kappa = float(frame.groupby("run")["contraction"].first().median())
        theory = _theory(axes[0][0], rows, kappa)
        (notes if isinstance(theory, str) else handles).append(theory)
    handles = [*entries(looks, endings(frame, "series")), *handles]
    if len(failed):
        handles.append(Line2D([], [], label="failed at this depth", **drawing.FAILED))
    return finish(figure, frame["task"].iloc[0], handles, notes)


def _theory(axis: Axes, rows: pd.DataFrame, kappa: float) -> Line2D | str:
    """Draw κᴷ from the first point of Restarted-JFB with the most restarts, or say why not."""
    y = "gradient_error_start"
    own = rows[rows["method"] == "Restarted-JFB"].dropna(subset=["layers", y])
    if own.empty:
        return "the theory's slope (no point of Restarted-JFB to start from)"
    if not 0 < kappa < 1:
        return f"the theory's slope (kappa = {kappa:.3g})"
    errors = own.fillna({"restarts": 0}).groupby(["restarts", "layers"])[y].median()
    most = errors[errors.index[-1][0]]
    limits, layers = axis.get_ylim(), np.geomspace(most.index[0], depths(rows, y)[-1], 200)
    label = rf"theory: $\kappa^K$, κ = {kappa:.3g}"
    error = most.iloc[0] * kappa ** (layers - layers[0])
    (line,) = axis.plot(layers, error, **REFERENCE, label=label)
    axis.set_ylim(limits)
    return line


def time(frame: pd.DataFrame, page: Page) -> Drawing:
    """Time of one hypergradient, of all tasks; in one column of a page the seconds alone."""
    column = cost_column(frame, "gradient_seconds")
    if frame[column].isna().all():
        raise NothingToDrawError("no time of a hypergradient in the data")
    panels, notes = {None: AXES[column], "layer_seconds": "in applications of one layer"}, ()
    if page.narrow:
        panels, notes = {None: "seconds"}, (f"{panels['layer_seconds']}: {drawing.WIDER}",)
    counts = frame.groupby("task", sort=False)["gradient"].nunique()
    size = (page.width, 0.5 + sum(0.55 + 0.17 * counts))
    options = {"sharex": "col", "sharey": "row", "height_ratios": counts + 1.5}
    figure, axes = grid(len(counts), len(panels), size, below=[*panels.values()], **options)
    for row, task in zip(axes, counts.index, strict=True):
        row[0].set_title(drawing.plain(task), loc="left")
        for axis, per in zip(row, panels, strict=True):
            found = tidied.costs(frame[frame["task"] == task], column, per)
            drawing.dots(axis, page, found, middle=True, above=0.6, below=0.4)
    for axis in axes[-1]:
        drawing.room(axis, share=0.25 * drawing.TWO_COLUMNS / page.width)
    return finish(figure, notes=notes)


def memory(frame: pd.DataFrame, page: Page) -> Drawing:
    """Memory of one hypergradient, of all tasks: a dot per configuration; on the right its growth
    with depth, where there are several. In one column of a page all are stacked.
    """
    y = cost_column(frame, "peak_memory_mib")
    rows = last_rows(frame, y)
    if rows.empty:
        raise NothingToDrawError("no peak memory in the data")
    known = depths(rows, y=y)
    looks = page.looks(rows, "series") if len(known) > 1 else {}
    tasks, columns = list(dict.fromkeys(frame["task"])), 2 if looks else 1
    lines = (len(tasks) * columns, 1) if page.narrow else (len(tasks), columns)
    high = 0.4 + lines[0] * max(1.7, 0.35 + 0.15 * frame["method"].nunique())
    size = (page.width if looks or page.narrow else page.width / 2, high)
    figure, axes = grid(*lines, size, sharex=False if page.narrow else "col")
    axes = axes.reshape(len(tasks), columns)
    for (axis, *right), task in zip(axes, tasks, strict=True):
        axis.set_title(drawing.plain(task), loc="left")
        found = _by_method(frame[frame["task"] == task], y)
        drawing.dots(axis, page, found, middle=False, above=0.5, below=0.5)
        for beside in right:
            own, against = rows[rows["task"] == task], ("series", "layers")
            drawing.curves(beside, own, against, "layers", y, looks, (known[0], known[-1]))
            beside.set_ylabel(AXES[y])
            drawing.ticks(beside, known)
    for row in axes if page.narrow else axes[-1:]:
        for axis, label in zip(row, (AXES[y], AXES["layers"]), strict=False):
            axis.set_xlabel(label)
        drawing.room(row[0], share=0.5)
    return finish(figure, handles=entries(looks, endings(frame, "series")))


def _by_method(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """``frame.costs`` with a row per method: of each configuration the median."""
    found = tidied.costs(frame, column)
    medians = found["values"].map(lambda values: [np.median(values)] if values else [])
    values = medians.groupby(found["method"]).sum()
    ended = pd.Series(endings(frame, "method")).str.removeprefix(", ")
    rows = pd.DataFrame({"method": values.index, "values": values, "failed": ended})
    return rows.loc[method_order(rows.index)]


def learned(frame: pd.DataFrame, page: Page) -> Drawing:
    """Learned parameters, of one task: up to ``FEW`` entries have a line each; of more than
    ``MANY`` configurations no ranges.
    """
    runs = trained(frame)
    runs = part(runs, runs["learned"].notna())
    theta = medians(runs)
    if theta.empty:
        raise NothingToDrawError("no learned parameters in the rows")
    looks = page.looks(runs, "configuration")
    panels = list(theta.groupby("parameter"))
    abreast = 1 if page.narrow else min(2, len(panels))
    lines = math.ceil(len(panels) / abreast)
    width = page.width if abreast > 1 else min(page.width, 1.4 * drawing.ONE_COLUMN)
    figure, axes = grid(lines, abreast, (width, 0.5 + 2.0 * lines), sharex=True)
    shown, unused = np.split(axes.ravel(), [len(panels)])
    for axis in unused:
        axis.remove()
    for axis in shown[-abreast:]:  # the last of its column, which need not be in the last line
        axis.set_xlabel("outer steps")
        axis.tick_params(labelbottom=True)
    for axis, (parameter, own) in zip(shown, panels, strict=True):
        axis.set_ylabel(label(parameter))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        for name, look in looks.items():
            _parameter(axis, own[own["configuration"] == name], look, ranges=len(looks) <= MANY)
        count, what = own["entry"].nunique(), "median and range" if len(looks) <= MANY else "median"
        many = f"{what} of {count} entries" if count > FEW else f"{count} entries"
        axis.set_title(many if count > 1 else "one entry", loc="left", fontsize=6.5)
    return finish(figure, frame["task"].iloc[0], entries(looks, endings(runs, "configuration")))


def medians(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per configuration, parameter, entry and outer step: the median over repetitions."""
    parts = {}
    for name, own in runs[["configuration", "outer_step", "learned"]].groupby("configuration"):
        codes, texts = pd.factorize(own["learned"])
        read = [json.loads(text) for text in texts]
        for parameter in sorted(set().union(*read)):
            values = [np.ravel(theta.get(parameter, ())).tolist() for theta in read]
            table = pd.DataFrame(values, dtype=float).take(codes)
            parts[name, parameter] = table.groupby(own["outer_step"].to_numpy()).median().unstack()
    if not parts:
        return pd.DataFrame(columns=[*ENTRY, "value"])
    return pd.concat(parts).rename_axis(ENTRY).dropna().rename("value").reset_index()


def label(parameter: str) -> str:
    """``log_weights`` as ``weights (natural log)``."""
    for sign, scale in SCALES.items():
        if parameter.startswith(sign) or parameter.endswith(sign):
            plain = parameter.removeprefix(sign).removesuffix(sign).replace("_", " ")
            return f"{plain} ({scale})"
    return parameter.replace("_", " ")


def _parameter(axis: Axes, theta: pd.DataFrame, look: Style, *, ranges: bool) -> None:
    """One parameter of one configuration: a line per entry, or of many the median, and range."""
    table = theta.pivot(index="outer_step", columns="entry", values="value")
    if table.shape[1] <= FEW:
        axis.plot(table, **look.line)
        return
    low, high = table.min(axis="columns"), table.max(axis="columns")
    axis.plot(table.median(axis="columns"), **look.line)
    if not ranges:
        return
    axis.fill_between(table.index, low, high, color=look.color, alpha=0.06, linewidth=0)
    for bound in (low, high):
        axis.plot(bound, color=look.color, linewidth=0.5, linestyle=look.line["linestyle"])
