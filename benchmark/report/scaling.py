"""What one hypergradient costs against image size, batch, depth and contraction.

In a panel one quantity varies and the others are held, at the values at which it takes the most
values in the data; the panel names them. Costs are compared within one file.
"""

from __future__ import annotations

from collections.abc import Mapping

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


def scaling(frame: pd.DataFrame, page: Page) -> Drawing:
    """Scaling, of all tasks: each method in its middle configuration; against depth, all depths."""
    rows = timed_rows(frame)
    if rows.empty:
        raise NothingToDrawError("no time of a hypergradient in the data")
    kappa = rows["contraction"].where(rows["contraction"].between(0, 1, inclusive="neither"))
    evals = rows["layer_evals"] + rows["vjp_evals"]
    rows = rows.assign(pixels=rows["size"] ** 2, evals=evals, slowness=1 / (1 - kappa))
    rows = rows.fillna(dict.fromkeys(("size", "batch", "ridge"), 0.0))
    middle = {method: middle_configuration(group) for method, group in rows.groupby("method")}
    found, notes = {}, []
    for noun in QUANTITIES:
        own, others = select(rows, noun, middle)
        found |= {} if own.empty else {noun: own}
        notes += [f"against {noun}: {others}"] if others else []
    if not found:
        raise NothingToDrawError("neither image size, batch, depth nor contraction varies alone")
    if page.narrow:
        notes.append(f"{AXES[COSTS[-1]]}: {drawing.WIDER}")
    every = pd.concat(found.values())
    settings = every["setting"].unique()
    figure = _drawn(found, page, named=len(settings) > 1)
    if [*found] == ["depth"]:
        names = rows.set_index("gradient")["series"].to_dict()
        middle = {method: names[name] for method, name in middle.items()}
    looks = {middle[method]: page.styles[method] for method in method_order(every["method"])}
    ends = {middle.get(method): how for method, how in endings(frame, "method").items()}
    title = ", ".join(["one hypergradient", *(settings if len(settings) == 1 else ())])
    return drawing.finish(figure, title, drawing.entries(looks, ends), notes)


def middle_configuration(rows: pd.DataFrame) -> str:
    """Of one method's configurations the middle one: by depth, then restarts, then name."""
    known = rows.drop_duplicates("gradient")
    for name in ("layers", "restarts", "gradient"):
        if values := sorted(known[name].dropna().unique()):
            known = known[known[name] == values[(len(values) - 1) // 2]]
    return str(known["gradient"].iloc[0])


def select(rows: pd.DataFrame, noun: str, middle: Mapping[str, str]) -> tuple[pd.DataFrame, str]:
    """The rows in which one quantity varies alone, none if it does not, with the text at what the
    others are ``held``; and what is left out. Of several problems it is the one in which it takes
    the most values, then that whose other values are the most frequent.
    """
    varied, x = QUANTITIES[noun]
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
        return rows.iloc[:0], "it does not vary while the others are held"
    _, values, group = max(candidates, key=lambda candidate: candidate[0])
    fixed = dict(zip(held, values, strict=True))
    words = ", ".join(text.format(fixed[name]) for name, text in HELD.items() if fixed.get(name))
    others = len(candidates) - 1
    said = f"{others} other problem{'s' if others > 1 else ''}" if others else ""
    return group.assign(held=words), said


def _drawn(found: Mapping[str, pd.DataFrame], page: Page, *, named: bool) -> Figure:
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
    for cells, (noun, rows) in zip(axes, found.items(), strict=True):
        (varied, x), (setting, held) = QUANTITIES[noun], rows[["setting", "held"]].iloc[0]
        cells[0].set_title(f"{setting}\n{held}" if named else held, fontsize=6.5, loc="left")
        ends = (rows["layers"].min(), rows["layers"].max())
        at = rows[rows[x] > 0].groupby(varied)[x].median()
        at = sorted(float(f"{value:.2g}") if x == "slowness" else value for value in at)
        for axis, cost in zip(cells, costs, strict=True):
            drawing.curves(axis, rows, ("method", varied), x, cost, page.styles, ends)
            drawing.ticks(axis, at)
            if page.narrow or noun == next(iter(found)):
                label = "seconds" if cost == "gradient_seconds" else AXES[cost]
                axis.set_ylabel(label.removeprefix("peak " if page.narrow else ""))
            if page.narrow or axis is cells[-1]:
                axis.set_xlabel(AXES[x])
    return figure
