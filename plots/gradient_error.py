"""Error of the hypergradient at the first θ against depth, time or memory of one hypergradient."""

from __future__ import annotations

from benchopt import BasePlot

from benchmark.report.frame import depths, first_rows, select, tidied, traces
from benchmark.report.style import labelled_styles, method_styles

AXES = {
    "depth": ("layers", "layers or terms, K"),
    "time": ("gradient_seconds", "seconds of one hypergradient"),
    "memory": ("peak_memory_mib", "peak memory (MiB)"),
}


class Plot(BasePlot):
    """A line per method and number of restarts; methods without a depth are horizontal lines."""

    name = "Gradient error"
    type = "scatter"
    options = {"dataset": ..., "objective": ..., "x": [*AXES]}

    def plot(self, df, dataset, objective, x):
        frame = tidied(df)
        styles = method_styles(frame["method"])
        rows = first_rows(select(frame, objective=objective, dataset=dataset))
        known = depths(rows, y="gradient_error") or [1.0]
        looks = labelled_styles(rows, "series", styles)
        ends = (known[0], known[-1])
        return traces(rows, ("series", "layers"), AXES[x][0], "gradient_error", looks, ends)

    def get_metadata(self, df, dataset, objective, x):
        return {
            "title": f"{objective}\n{dataset}",
            "xlabel": AXES[x][1],
            "ylabel": "relative gradient error",
            "scale": "loglog",
        }
