"""The report's summary table: the last evaluation, mean ± standard deviation over repetitions."""

from __future__ import annotations

from benchopt import BasePlot

from benchmark.report.frame import select, tidy
from benchmark.report.tables import HEADERS, summarised

COLUMNS = ["configuration", *HEADERS, "status"]


class Plot(BasePlot):
    """A row per configuration; those whose runs failed say so in the last column."""

    name = "Summary"
    type = "table"
    options = {"dataset": ..., "objective": ...}

    def plot(self, df, dataset, objective):
        rows = select(tidy(df), objective=objective, dataset=dataset)
        return summarised(rows).text[COLUMNS].to_numpy().tolist()

    def get_metadata(self, df, dataset, objective):
        return {"title": f"{objective}\n{dataset}", "columns": COLUMNS}
