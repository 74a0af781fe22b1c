"""Figures of accuracy, θ, gradient error, time and memory, from the tidy frame of tasks.

Each returns a ``Drawing``, or raises ``NothingToDrawError`` with the reason; the captions are in
``pages/figures.csv``.
"""

from __future__ import annotations

import json
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
MOST = 48  # configurations up to which a page has room for a panel of each
OTHERS = {"color": "#cccccc", "linewidth": 0.6, "zorder": 0.5}
#: a parameter is stored as a function of what it stands for
SCALES = {"log_": "natural log", "_logit": "logit"}
ENTRY = ["configuration", "parameter", "entry", "outer_step"]


def accuracy(frame: pd.DataFrame, page: Page) -> Drawing:
    """Accuracy along training, of one task; of more than ``MANY`` configurations F alone."""
    runs, label = trained(frame), "configuration"
    known = runs.dropna(subset=["outer_step", "value"]).groupby(label)["outer_step"].nunique()
    if not (known > 1).any():
        raise NothingToDrawError("needs at least two evaluations of a run")
    count = frame["solver_name"].nunique() - runs["solver_name"].nunique()
    untrained = [f"{count} configurations evaluated only once, without training"] if count else []
    runs, fewer = _best(runs)
    looks, untrained = page.looks(runs, label), [*fewer, *untrained]
    if len(looks) > MANY:
        return _apart(runs, page, looks, untrained)
    points, ends = known.index[known < 3], endings(runs, label)
    ends |= {name: f"{ends[name]}: start and end" for name in known.index[known == 2]}
    against = TRAINING[::2] if page.narrow else TRAINING
    notes = [f"{AXES[x]}: {drawing.WIDER}" for x in TRAINING if x not in against]
    known = runs[extra(runs)].notna().any()
    notes += [f"{called(name, runs, AXES)}: not measured" for name in known.index[~known]]
    measures, below = [*ACCURACY, *known.index[known]], [AXES[x] for x in against]
    if runs["training_vjp_evals"].isna().all():
        below = [name.replace("+ products", "(products not recorded)") for name in below]
    options = {"sharex": "col", "sharey": "row", "below": below}
    options["left"] = [called(y, runs, AXES) for y in measures]
    size = (page.width, 0.5 + 1.55 * len(measures))
    figure, axes = grid(len(measures), len(against), size, **options)
    for row, y in zip(axes, measures, strict=True):
        for axis, x in zip(row, against, strict=True):
            _along(axis, runs, x, y, looks)
        if higher_is_better(y, runs) is False:  # better is up for every metric, as for PSNR
            row[0].invert_yaxis()
    for axis in axes[-1]:
        drawing.spread(axis)
    handles = [*entries(looks, ends, points=points), *_least(axes[0], runs, apart=0)]
    return finish(figure, frame["task"].iloc[0], handles, [*notes, *untrained])


def _apart(
    runs: pd.DataFrame, page: Page, looks: Mapping[str, Style], notes: Sequence[str]
) -> Drawing:
    """F against work, a panel for each of many configurations, with the medians of all in grey."""
    x = "training_evals" if runs["training_evals"].notna().any() else "outer_step"
    across, abreast = ("configuration", "outer_step"), 3 if page.narrow else 6
    size, ends = (page.width, 0.8, 1.15), endings(runs, "configuration")
    figure, panels = drawing.wrapped(len(looks), abreast, size, AXES[x], sharey=True)
    every = traces(runs, across, x, "value", looks)
    for axis, (name, look) in zip(panels, looks.items(), strict=True):
        for trace in every:
            axis.plot(trace["x"], trace["y"], **OTHERS)
        _along(axis, runs[runs["configuration"] == name], x, "value", {name: look})
        title = "\n".join(textwrap.wrap(name + ends[name], width=18))
        axis.set_title(drawing.plain(title), loc="left", fontsize=6)
    drawing.spread(panels[0])
    figure.supylabel(called("value", runs, AXES), fontsize=7.5)
    handles = [Line2D([], [], label="medians of all", **OTHERS), *_least(panels, runs, apart=10)]
    others = ", ".join(called(name, runs, AXES) for name in (*ACCURACY[1:], *extra(runs)))
    many = f"{others}, and F against other axes: {len(looks)} configurations are too many curves"
    return finish(figure, runs["task"].iloc[0], handles, [many, *notes])


def _best(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The runs, and nothing; of more than ``MOST`` configurations those of each method's that comes
    to the least F (median), and what is said of the others.
    """
    if (count := runs["configuration"].nunique()) <= MOST:
        return runs, []
    ends = last_rows(runs, "value").groupby(["method", "configuration"])["value"].median()
    kept = [name for _, name in ends.groupby("method").idxmin()]
    note = f"{count - len(kept)} of {count} configurations: each method's with the least F is shown"
    return part(runs, runs["configuration"].isin(kept)), [note]


def _along(axis: Axes, runs: pd.DataFrame, x: str, y: str, looks: Mapping[str, Style]) -> None:
    """Curves along training, a cross at the last point of each run that failed or was cut."""
    drawing.curves(axis, runs, ("configuration", "outer_step"), x, y, looks)
    cut = runs[runs["ending"] != "ok"].dropna(subset=[x, y])
    for _, end in last_rows(cut).iterrows():
        drawing.cross(axis, end[x], end[y], looks[end["configuration"]])


def _least(axes: Sequence[Axes], runs: pd.DataFrame, *, apart: float) -> list[Line2D]:
    """The least F as a line, on a log axis where others are ``apart`` times it; legend entries."""
    least = runs.groupby("repetition")["value"].min().median()
    line, *_ = (axis.axhline(least, **REFERENCE, label="least F of all") for axis in axes)
    if least > 0 and runs["value"].max() > apart * least:
        axes[0].set_yscale("log")
    label = "last point of a run that failed or was cut"
    there = (runs["ending"] != "ok").any()
    return [line, Line2D([], [], label=label, **drawing.FAILED)] if there else [line]


def memory_over_time(samples: pd.DataFrame | None, page: Page) -> Drawing:
    """Memory of the process during training: samples with the columns ``method, seconds, mib``."""
    if samples is None:
        raise NothingToDrawError("no --memory-curve was given")
    figure, ((axis,),) = grid(1, 1, (min(page.width, 0.7 * drawing.TWO_COLUMNS), 2.6))
    looks = {method: page.styles[method] for method in method_order(samples["method"])}
    runs = samples.sort_values("seconds", kind="stable").set_index("method")
    for method, look in looks.items():
        run = runs.loc[[method]]
        axis.plot(run["seconds"], run["mib"], markevery=max(1, len(run) // 8), **look.line)
    axis.set(xlabel="time since the start of training (s)", ylim=(0, None))
    axis.set_ylabel("memory of the process\nabove the start (MiB)")
    return finish(figure, handles=entries(looks))


def gradient_error(frame: pd.DataFrame, page: Page) -> Drawing:
    """Error of the hypergradient, of one task, at each θ that all methods have in common."""
    rows, notes, lines = last_rows(frame), [], {}
    for place in PLACES:
        y = f"gradient_error_{place}"
        if len(exact := rows[rows[y] == 0]):
            said = f"an error of exactly 0 ({', '.join(sorted(set(exact['series'])))})"
            notes.append(f"{len(exact)} rows with {said}: the axis is a log")
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
    """Memory of one hypergradient, of all tasks; its growth with depth, if there are several."""
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
        own = frame[frame["task"] == task]
        found = tidied.costs(own, y)  # of each configuration the median, in a row per method
        values = found["values"].map(lambda cost: [np.median(cost)] if cost else [])
        table = values.groupby(found["method"]).sum().rename_axis(None).to_frame("values")
        table["failed"] = pd.Series(endings(own, "method")).str.removeprefix(", ")
        table = table.assign(method=table.index).loc[method_order(table.index)]
        drawing.dots(axis, page, table, middle=False, above=0.5, below=0.5)
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


def learned(frame: pd.DataFrame, page: Page) -> Drawing:
    """Learned parameters, of one task; of more than ``MANY`` configurations no ranges."""
    runs, notes = _best(trained(frame))
    runs = part(runs, runs["learned"].notna())
    theta = medians(runs)
    if theta.empty:
        raise NothingToDrawError("no learned parameters in the rows")
    looks = page.looks(runs, "configuration")
    panels = list(theta.groupby("parameter"))
    abreast = 1 if page.narrow else min(2, len(panels))
    width = page.width if abreast > 1 else min(page.width, 1.4 * drawing.ONE_COLUMN)
    size = (width, 0.5, 2.0)
    figure, shown = drawing.wrapped(len(panels), abreast, size, AXES["outer_step"])
    for axis, (parameter, own) in zip(shown, panels, strict=True):
        axis.set_ylabel(label(parameter))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        for name, look in looks.items():
            _parameter(axis, own[own["configuration"] == name], look, ranges=len(looks) <= MANY)
        count, what = own["entry"].nunique(), "median and range" if len(looks) <= MANY else "median"
        many = f"{what} of {count} entries" if count > FEW else f"{count} entries"
        axis.set_title(many if count > 1 else "one entry", loc="left", fontsize=6.5)
    handles = entries(looks, endings(runs, "configuration"))
    return finish(figure, frame["task"].iloc[0], handles, notes)


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
    few = table.shape[1] <= FEW
    axis.plot(table if few else table.median(axis="columns"), **look.line)
    if ranges and not few:
        low, high = table.min(axis="columns"), table.max(axis="columns")
        axis.fill_between(table.index, low, high, color=look.color, alpha=0.06, linewidth=0)
        for bound in (low, high):
            axis.plot(bound, color=look.color, linewidth=0.5, linestyle=look.line["linestyle"])
