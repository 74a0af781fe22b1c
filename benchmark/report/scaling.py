"""What one hypergradient costs against image size, batch, depth and contraction.

In a panel one quantity varies and the others are held, at the values at which it takes the most
values in the data; the panel names them. Costs are compared within one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from benchmark.report import drawing
from benchmark.report.drawing import Drawing, NothingToDrawError, Page
from benchmark.report.frame import endings, timed_rows
from benchmark.report.style import AXES, method_order

COSTS = ["gradient_seconds", "peak_memory_mib", "evals"]
PROBLEM = ("source", "setting", "size", "batch", "ridge")
HELD = {"size": "{0:g} × {0:g}", "batch": "batch {:g}", "ridge": "ridge {:g}"}
#: what panels are drawn against: the column that is varied, and the one on the axis
QUANTITIES = {
    "image size": ("size", "pixels"),
    "batch": ("batch", "batch"),
    "depth": ("layers", "layers"),
    "contraction": ("ridge", "slowness"),
}


class Panels(NamedTuple):
    """The rows in which one quantity varies, at what the others are ``held`` (as text), and how
    many ``others`` they could be held at.
    """

    varied: str
    x: str
    rows: pd.DataFrame
    held: str
    setting: str
    others: int


def scaling(frame: pd.DataFrame, page: Page) -> Drawing:
    """Scaling, of all tasks: of a method its middle configuration; against depth, all its depths.
    In one column of a page the quantities are stacked, and evaluations left out.
    """
    rows = timed_rows(frame)
    if rows.empty:
        raise NothingToDrawError("no time of a hypergradient in the data")
    kappa = rows["contraction"].where(rows["contraction"].between(0, 1, inclusive="neither"))
    evals = rows["layer_evals"] + rows["vjp_evals"]
    rows = rows.assign(pixels=rows["size"] ** 2, evals=evals, slowness=1 / (1 - kappa))
    rows = rows.fillna(dict.fromkeys(("size", "batch", "ridge"), 0.0))
    middle = {method: middle_configuration(group) for method, group in rows.groupby("method")}
    found, notes = [], []
    for noun, (varied, x) in QUANTITIES.items():
        panels = select(rows, varied, x, middle)
        if panels is None:
            notes.append(f"against {noun}: it does not vary while the others are held")
            continue
        found.append(panels)
        if panels.others:
            plural = "s" if panels.others > 1 else ""
            notes.append(f"against {noun}: {panels.others} other problem{plural}")
    if not found:
        raise NothingToDrawError("neither image size, batch, depth nor contraction varies alone")
    if page.narrow:
        notes.append(f"{AXES[COSTS[-1]]}: {drawing.WIDER}")
    settings = {panels.setting for panels in found}
    figure = _drawn(found, page, named=len(settings) > 1)
    if all(panels.varied == "layers" for panels in found):
        names = rows.set_index("gradient")["series"].to_dict()
        middle = {method: names[name] for method, name in middle.items()}
    methods = method_order(method for panels in found for method in panels.rows["method"])
    ended = endings(frame, "method")
    looks = {middle[method]: page.styles[method] for method in methods}
    ends = {middle[method]: ended[method] for method in methods}
    title = ", ".join(["one hypergradient", *(settings if len(settings) == 1 else ())])
    return drawing.finish(figure, title, drawing.entries(looks, ends), notes)


def middle_configuration(rows: pd.DataFrame) -> str:
    """Of one method's configurations the middle one: by depth, then restarts, then name."""
    known = rows.drop_duplicates("gradient")
    for name in ("layers", "restarts", "gradient"):
        if values := sorted(known[name].dropna().unique()):
            known = known[known[name] == values[(len(values) - 1) // 2]]
    return str(known["gradient"].iloc[0])


def select(rows: pd.DataFrame, varied: str, x: str, middle: Mapping[str, str]) -> Panels | None:
    """The rows in which one quantity varies alone; None if it does not. Of several problems the one
    in which it takes the most values, then that whose other values are the most frequent.
    """
    own = rows[rows["gradient"] == rows["method"].map(middle)]
    if varied == "layers":  # all depths of these
        own = rows[rows["series"].isin(own["series"])]
    held = [name for name in PROBLEM if name != varied]
    frequent = sum(own[name].map(rows[name].value_counts()) for name in held)
    candidates = []
    for values, group in own.groupby(held, sort=True):
        at = group[group[COSTS].notna().any(axis=1)]
        # by itself, in one method: two methods with a depth of their own are no sweep
        count = at[at[x] > 0].groupby("method")[varied].nunique().max()
        if count > 1:
            candidates.append(((count, frequent[group.index[0]]), values, at))
    if not candidates:
        return None
    _, values, group = max(candidates, key=lambda candidate: candidate[0])
    fixed = dict(zip(held, values, strict=True))
    words = ", ".join(text.format(fixed[name]) for name, text in HELD.items() if fixed.get(name))
    return Panels(varied, x, group, words, str(fixed["setting"]), len(candidates) - 1)


def _drawn(found: list[Panels], page: Page, *, named: bool) -> Figure:
    """A column of panels per quantity, or in one column of a page a line; ``named`` by setting."""
    costs, quantities = COSTS[: 2 if page.narrow else 3], len(found)
    if page.narrow:
        size = (page.width, 0.3 + 1.5 * quantities)
        figure, axes = drawing.grid(quantities, len(costs), size, sharex="row")
    else:
        share = (0.6 + max(2, quantities)) / (0.6 + len(QUANTITIES))
        size = (page.width * share, 0.5 + 1.25 * len(costs))
        figure, axes = drawing.grid(len(costs), quantities, size, sharex="col", sharey="row")
        axes = axes.T
    for cells, (varied, x, rows, held, setting, _) in zip(axes, found, strict=True):
        cells[0].set_title(f"{setting}\n{held}" if named else held, fontsize=6.5, loc="left")
        ends = (rows["layers"].min(), rows["layers"].max())
        at = rows[rows[x] > 0].groupby(varied)[x].median()
        at = sorted(float(f"{value:.2g}") if x == "slowness" else value for value in at)
        for axis, cost in zip(cells, costs, strict=True):
            drawing.curves(axis, rows, ("method", varied), x, cost, page.styles, ends)
            drawing.ticks(axis, at)
            if page.narrow or rows is found[0].rows:
                label = "seconds" if cost == "gradient_seconds" else AXES[cost]
                axis.set_ylabel(label.removeprefix("peak " if page.narrow else ""))
            if page.narrow or axis is cells[-1]:
                axis.set_xlabel(AXES[x])
    return figure
