"""F(θ) or test PSNR against time, layer applications or outer steps of training."""

from __future__ import annotations

from benchopt import BasePlot

from benchmark.report.frame import (
    curves_over_training,
    labelled_styles,
    select,
    tidy,
    traces,
    trained,
)
from benchmark.report.style import method_styles

COLUMNS = {"objective_value": "F(θ), true equilibrium", "objective_test_psnr": "PSNR (dB)"}
AXES = {
    "time": ("seconds", "training time (s)"),
    "layers": ("training_layer_evals", "layer applications"),
    "steps": ("outer_step", "outer steps"),
}


class Plot(BasePlot):
    """A line per configuration, the median over repetitions; empty for runs without training."""

    name = "Accuracy"
    type = "scatter"
    options = {"dataset": ..., "objective": ..., "column": [*COLUMNS], "x": [*AXES]}

    def plot(self, df, dataset, objective, column, x):
        frame = tidy(df)
        styles = method_styles(frame["method"])
        rows = trained(select(frame, objective=objective, dataset=dataset))
        y = column.removeprefix("objective_")
        curves = curves_over_training(rows, x=AXES[x][0], y=y)
        looks = labelled_styles(rows, name="configuration", styles=styles)
        return traces(curves, styles=looks)

    def get_metadata(self, df, dataset, objective, column, x):
        return {
            "title": f"{objective}\n{dataset}",
            "xlabel": AXES[x][1],
            "ylabel": COLUMNS[column],
            "scale": "linear",
        }
