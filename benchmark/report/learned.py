"""What was learned: θ along training, where it is small enough to be in the rows."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from benchmark.report import drawing
from benchmark.report.drawing import Drawing, NothingToDrawError, Page
from benchmark.report.frame import trained
from benchmark.report.style import Style

FEW = 3  # entries of a parameter up to which each has a line of its own
#: a parameter is stored as a function of what it stands for
SCALES = {"log_": "natural log", "_logit": "logit"}
ENTRY = ["configuration", "parameter", "entry", "outer_step"]


def learned(frame: pd.DataFrame, page: Page) -> Drawing:
    """Learned parameters

    θ along training, a panel per parameter on the scale on which it is learned: a line per entry,
    or of many entries their median and, as a band, their range; entries are medians over
    repetitions.

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
    figure, axes = drawing.grid(lines, abreast, (width, 0.5 + 2.0 * lines), sharex=True)
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
    drawing.finish(figure, frame["task"].iloc[0], drawing.entries(looks))
    return Drawing(figure)


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
