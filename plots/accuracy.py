"""F(θ), test PSNR or a metric against time, layer applications or outer steps of training."""

from __future__ import annotations

from benchopt import BasePlot

from benchmark.report.frame import select, tidied, traces, trained
from benchmark.report.names import called
from benchmark.report.reading import METRIC
from benchmark.report.style import labelled_styles, method_styles

COLUMNS = {"value": "F(θ), true equilibrium", "test_psnr": "PSNR (dB)"}
AXES = {
    "time": ("seconds", "training time (s)"),
    "layers": ("training_evals", "layers + products"),
    "steps": ("outer_step", "outer steps"),
}


def columns(df):
    """What is drawn, by benchopt's names: F, test PSNR and the metrics that are there."""
    metrics = [name for name in df if name.startswith(f"objective_{METRIC}")]
    return [*(f"objective_{name}" for name in COLUMNS), *metrics]


class Plot(BasePlot):
    """A line per configuration, the median over repetitions; empty for runs without training."""

    name = "Accuracy"
    type = "scatter"
    options = {"dataset": ..., "objective": ..., "column": columns, "x": [*AXES]}

    def plot(self, df, dataset, objective, column, x):
        frame = tidied(df)
        styles = method_styles(frame["method"])
        rows = trained(select(frame, objective=objective, dataset=dataset))
        y = column.removeprefix("objective_")
        rows = rows[rows["outer_step"].notna()]
        looks = labelled_styles(rows, "configuration", styles)
        return traces(rows, ("configuration", "outer_step"), AXES[x][0], y, looks)

    def get_metadata(self, df, dataset, objective, column, x):
        rows = select(tidied(df), objective=objective, dataset=dataset)
        return {
            "title": f"{objective}\n{dataset}",
            "xlabel": AXES[x][1],
            "ylabel": called(column.removeprefix("objective_"), rows, COLUMNS),
            "scale": "linear",
        }
