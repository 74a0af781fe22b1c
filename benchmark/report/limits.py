"""Where the last K layers stop working: a map over K and κ."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from benchmark.options.spec import split_call
from benchmark.report import drawing
from benchmark.report.drawing import Drawing, NothingToDrawError, Page
from benchmark.report.frame import first_rows, measured_rows
from benchmark.report.hypotheses import MARGINS, ended

METHODS = ("JFB", "Restarted-JFB")
#: what a cell says, by the number of it
KINDS = ("works", "F above DEQ's by more", "uphill: cosine at most 0")
COLORS = ("#e8e8e8", "#E69F00", "#D55E00")


def limits(frame: pd.DataFrame, page: Page) -> Drawing:
    """Where restarted JFB stops working.

    Of all tasks, a panel for each family of layers, and departure from normality.
    """
    cells = stopped(frame)
    if cells.empty or cells["at"].nunique() < 2 or cells["depth"].nunique() < 2:
        raise NothingToDrawError("needs restarted JFB of several K on layers of several strengths")
    depths = sorted(cells["depth"].unique())
    panels = dict(list(cells.groupby("panel", sort=True)))
    lines, columns = (len(panels), 1) if page.narrow else (1, len(panels))
    size = (page.width, (0.9 + 0.24 * len(depths)) * lines + 0.4)
    figure, axes = drawing.grid(lines, columns, size, sharey=True)
    for axis, (name, own) in zip(axes.flat, panels.items(), strict=True):
        _map(axis, own, depths)
        axis.set_title(drawing.plain(name), loc="left")
    for axis in axes[:, 0]:
        axis.set_ylabel("layers differentiated, K")
    margin = f"{MARGINS['limits']:.0%}"
    names = (KINDS[0], f"{KINDS[1]} than {margin}", KINDS[2])
    handles = [Patch(color=color, label=name) for color, name in zip(COLORS, names, strict=True)]
    made = drawing.finish(figure)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return made


def stopped(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each layer and depth: how it ends, and in how many repetitions.

    Columns: ``panel``, ``at`` (its place there), ``label`` (of the place), ``depth`` (K; JFB is
    that of 1 at the exact equilibrium, 0 here), ``uphill`` and ``above``, of ``repetitions``: those
    in which the cosine at the start is at most 0, and those others in which the trained F is more
    than the margin above DEQ's of the same images.
    """
    first, last = first_rows(frame), ended(frame)
    key = ["task", "source", "repetition"]
    deq = last[last["method"] == "DEQ"].groupby(key)["value"].min()
    run = [*key, "solver_name"]
    last = last.set_index(run)["value"]
    own = first[first["method"].isin(METHODS) & first["gradient_cosine"].notna()]
    own = own.assign(
        depth=own["layers"].where(own["method"] == METHODS[1], 0.0),
        uphill=own["gradient_cosine"] <= 0,
        end=pd.MultiIndex.from_frame(own[run]).map(last.to_dict()),
        exact=pd.MultiIndex.from_frame(own[key]).map(deq.to_dict()),
    )
    over = own["end"] > (1 + MARGINS["limits"]) * own["exact"]
    own = own.assign(above=over & ~own["uphill"]).join(_places(frame), on="task")
    own = own[own["at"].notna()]
    by = ["panel", "at", "label", "depth"]
    found = own.groupby(by, dropna=False)[["uphill", "above"]].sum()
    return found.assign(repetitions=own.groupby(by, dropna=False).size()).reset_index()


def _places(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each task the ``panel``, the place ``at`` and its ``label``: κ, and ‖J‖ below it."""
    known = frame.drop_duplicates("task").set_index("task")["objective_name"]
    norm = measured_rows(frame, "jacobian_norm_start").groupby("task")["jacobian_norm_start"]
    measured = {"radius": first_rows(frame).groupby("task")["contraction"].median()}
    measured["norm"] = norm.median()
    rows = {}
    for task, name in known.items():
        lower, options = split_call(split_call(name)[1].get("lower", task))
        radius, own = (float(measured[kind].get(task, np.nan)) for kind in ("radius", "norm"))
        rows[task] = _placed(lower, options, f"{radius:.2f}\n{own:.2g}")
    return pd.DataFrame.from_dict(rows, orient="index", columns=["panel", "at", "label"])


def _placed(lower: str, options: Mapping[str, str], label: str) -> tuple[str, float, str]:
    """Prescribed layers stand by their spectral radius, others by their strength, or nowhere."""
    if "radius" in options:
        return f"{lower}, η = {options.get('departure', 0)}", float(options["radius"]), label
    weight = options.get("weight", "nan")
    return lower, float(weight), f"{label}\nλ = {weight}"


def _map(axis: Axes, cells: pd.DataFrame, depths: list[float]) -> None:
    """A cell for each place and depth; in it, in how many repetitions the method stops working."""
    places = cells.drop_duplicates("at").sort_values("at")
    shape = (len(depths), len(places))
    kinds = np.ma.masked_all(shape)
    for cell in cells.itertuples():
        at = (depths.index(cell.depth), list(places["at"]).index(cell.at))
        stops = cell.uphill + cell.above
        kinds[at] = 0 if stops == 0 else 2 if cell.uphill >= cell.above else 1
        if stops:
            text = f"{stops}/{cell.repetitions}"
            axis.text(at[1] + 0.5, at[0] + 0.5, text, ha="center", va="center", fontsize=6)
    axis.pcolormesh(kinds, cmap=ListedColormap(COLORS), vmin=-0.5, vmax=2.5, edgecolors="white")
    axis.set_xticks(np.arange(len(places)) + 0.5, places["label"])
    names = ["JFB" if depth == 0 else f"{depth:g}" for depth in depths]
    axis.set_yticks(np.arange(len(depths)) + 0.5, names)
    axis.grid(visible=False)
    axis.set_xlabel("spectral radius of J\n‖J‖")
