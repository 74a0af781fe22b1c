"""The report's summary table: the last evaluation, mean ± standard deviation over repetitions."""

from __future__ import annotations

from benchopt import BasePlot

from benchmark.report.frame import select, tidied
from benchmark.report.tables import summarised


class Plot(BasePlot):
    """A row per configuration; those whose runs failed say so in the last column."""

    name = "Summary"
    type = "table"
    options = {"dataset": ..., "objective": ...}

    def plot(self, df, dataset, objective):
        return self.table(df, dataset, objective).to_numpy().tolist()

    def get_metadata(self, df, dataset, objective):
        columns = self.table(df, dataset, objective).columns
        return {"title": f"{objective}\n{dataset}", "columns": [*columns]}

    def table(self, df, dataset, objective):
        """The table of one task, whose name stands above it."""
        rows = select(tidied(df), objective=objective, dataset=dataset)
        return summarised(rows).text.drop(columns="task")
