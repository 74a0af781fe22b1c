"""Error of the hypergradient at the first θ against depth, time or memory of one hypergradient."""

from __future__ import annotations

from benchopt import BasePlot

from benchmark.report.frame import (
    across,
    curves_over_depth,
    depths,
    first_rows,
    labelled_styles,
    select,
    tidy,
    traces,
)
from benchmark.report.style import method_styles

AXES = {
    "depth": ("layers", "layers differentiated, K"),
    "time": ("gradient_seconds", "seconds of one hypergradient"),
    "memory": ("peak_memory_mib", "peak memory (MiB)"),
}


class Plot(BasePlot):
    """A line per method and number of restarts; methods without a depth are horizontal lines."""

    name = "Gradient error"
    type = "scatter"
    options = {"dataset": ..., "objective": ..., "x": [*AXES]}

    def plot(self, df, dataset, objective, x):
        frame = tidy(df)
        styles = method_styles(frame["method"])
        rows = first_rows(select(frame, objective=objective, dataset=dataset))
        known = depths(rows, y="gradient_error") or [1.0]
        curves = [
            across(curve, start=known[0], stop=known[-1])
            for curve in curves_over_depth(rows, x=AXES[x][0], y="gradient_error")
        ]
        return traces(curves, styles=labelled_styles(rows, name="series", styles=styles))

    def get_metadata(self, df, dataset, objective, x):
        return {
            "title": f"{objective}\n{dataset}",
            "xlabel": AXES[x][1],
            "ylabel": "relative gradient error",
            "scale": "loglog",
        }
