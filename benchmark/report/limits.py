"""Where the last K layers stop working: a map over K and κ."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from benchmark.options.spec import split_call
from benchmark.report import drawing
from benchmark.report.drawing import Drawing, NothingToDrawError, Page
from benchmark.report.frame import first_rows, last_rows
from benchmark.report.hypotheses import MARGINS, ended

METHODS = ("JFB", "Restarted-JFB")
#: what a cell says, by the number of it, and its colour
KINDS = {
    "works": "#e8e8e8",
    f"F above DEQ's by more than {MARGINS['limits']:.0%}": "#E69F00",
    "uphill: cosine at most 0": "#D55E00",
}


def limits(frame: pd.DataFrame, page: Page) -> Drawing:
    """Where restarted JFB stops working, of all tasks: a panel for each family of layers, η."""
    cells = stopped(frame)
    if cells.empty or cells["at"].nunique() < 2 or cells["depth"].nunique() < 2:
        raise NothingToDrawError("needs restarted JFB of several K on layers of several strengths")
    depths = sorted(cells["depth"].unique())
    panels = list(cells.groupby("panel", sort=True))
    lines, columns = (len(panels), 1) if page.narrow else (1, len(panels))
    size = (page.width, (0.9 + 0.24 * len(depths)) * lines + 0.25)
    left = ["layers differentiated, K"] * lines
    figure, axes = drawing.grid(lines, columns, size, left=left, sharey=True)
    for axis, (name, own) in zip(axes.flat, panels, strict=True):
        _map(axis, own, depths)
        axis.set_title(drawing.plain(name), loc="left")
    handles = [Patch(color=color, label=name) for name, color in KINDS.items()]
    return drawing.finish(figure, handles=handles)


def stopped(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each layer, in a ``panel`` ``at`` a place with a ``label``, and ``depth`` K (0:
    JFB, that of 1 at the exact equilibrium): of ``repetitions`` those ``uphill``, where the
    cosine at the start is at most 0, and those others ``above``, where the trained F is more than
    the margin above DEQ's of the same images.
    """
    run = ["task", "source", "repetition", "solver_name"]
    first, last = first_rows(frame), ended(frame).set_index(run)
    deq = last[last["method"] == "DEQ"].groupby(run[:3])["value"].min()
    own = first[first["method"].isin(METHODS) & first["gradient_cosine"].notna()]
    own = own.join(last["value"].groupby(run).last().rename("end"), on=run)
    own = own.join(deq.rename("exact"), on=run[:3]).join(_places(frame), on="task")
    own = own[own["at"].notna()]
    uphill, over = own["gradient_cosine"] <= 0, own["end"] > (1 + MARGINS["limits"]) * own["exact"]
    depth = own["layers"].where(own["method"] == METHODS[1], 0.0)
    own = own.assign(depth=depth, uphill=uphill, above=over & ~uphill, repetitions=1)
    by = ["panel", "at", "label", "depth"]
    counted = own.groupby(by, dropna=False)[["uphill", "above", "repetitions"]]
    return counted.sum().reset_index()


def _places(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each task the ``panel``, the place ``at`` and its ``label``: κ, and ‖J‖ below it.
    Prescribed layers stand by their spectral radius, others by their strength, or nowhere.
    """
    first, rows = first_rows(frame).groupby("task"), {}
    norm = last_rows(frame, "jacobian_norm_start").groupby("task")["jacobian_norm_start"]
    known = pd.DataFrame({"radius": first["contraction"].median(), "norm": norm.median()})
    for task, name in first["objective_name"].first().items():
        lower, options = split_call(split_call(name)[1].get("lower", task))
        label = "{radius:.2f}\n{norm:.2g}".format(**known.loc[task])
        weight, radius = options.get("weight", "nan"), options.get("radius")
        rows[task] = (lower, float(weight), f"{label}\nλ = {weight}")
        if radius is not None:
            rows[task] = (f"{lower}, η = {options.get('departure', 0)}", float(radius), label)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["panel", "at", "label"])


def _map(axis: Axes, cells: pd.DataFrame, depths: list[float]) -> None:
    """A cell for each place and depth; in it, in how many repetitions the method stops working."""
    stops = cells["uphill"] + cells["above"]
    kinds = np.select([stops == 0, cells["uphill"] >= cells["above"]], [0.0, 2.0], 1.0)
    cells, key = cells.assign(stops=stops, kind=kinds), ["depth", "at"]
    table = cells.groupby(key)["kind"].last().unstack().reindex(depths)
    for cell in cells[stops > 0].itertuples():
        at = (table.columns.get_loc(cell.at) + 0.5, table.index.get_loc(cell.depth) + 0.5)
        axis.text(*at, f"{cell.stops}/{cell.repetitions}", ha="center", va="center", fontsize=6)
    look = {"cmap": ListedColormap([*KINDS.values()]), "edgecolors": "white"}
    axis.pcolormesh(np.ma.masked_invalid(table.to_numpy()), vmin=-0.5, vmax=2.5, **look)
    labels = cells.groupby("at")["label"].first()
    axis.set_xticks(np.arange(len(labels)) + 0.5, labels)
    names = ["JFB" if depth == 0 else f"{depth:g}" for depth in depths]
    axis.set_yticks(np.arange(len(depths)) + 0.5, names)
    axis.grid(visible=False)
    axis.set_xlabel("spectral radius of J\n‖J‖")
