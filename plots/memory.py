"""Peak memory of one hypergradient."""

from __future__ import annotations

from benchopt import BasePlot

from benchmark.report.frame import costs, select, tidied
from benchmark.report.style import method_styles


class Plot(BasePlot):
    """A bar per configuration (those whose memory was measured), a mark per run."""

    name = "Memory"
    type = "bar_chart"
    options = {"dataset": ..., "objective": ...}

    def plot(self, df, dataset, objective):
        frame = tidied(df)
        styles = method_styles(frame["method"])
        rows = select(frame, objective=objective, dataset=dataset)
        return [
            {
                "y": cost["values"],
                "text": "",
                "label": str(label),
                "color": styles[cost.method].color,
            }
            for label, cost in costs(rows, column="peak_memory_mib").iterrows()
            if cost["values"]
        ]

    def get_metadata(self, df, dataset, objective):
        return {
            "title": f"{objective}\n{dataset}",
            "ylabel": "peak memory of one hypergradient (MiB)",
        }
