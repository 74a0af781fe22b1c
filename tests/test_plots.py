"""benchopt's pages show the report's numbers, whatever they are asked to draw."""

from __future__ import annotations

import functools
import json

import numpy as np
import pandas as pd
import pytest
from benchopt.plotting.helpers import update_plot_data_style
from made_up import (
    DENOISING,
    STUDY,
    load_plot,
    run,
    study,
    sweep,
)

from benchmark.report.frame import tidied, tidy
from benchmark.report.style import KNOWN


@functools.cache
def hostile_frames() -> dict[str, pd.DataFrame]:
    """What a page may be asked to draw."""
    rows = study(methods=STUDY[1:3], tasks=[DENOISING])
    names = ["objective_name", "solver_name", "dataset_name"]
    numbers = [name for name in rows.select_dtypes("number") if name.startswith("objective_")]
    return {
        "study": rows,
        "sweep": sweep(tasks=[DENOISING], depths=(1, 10)),
        "one row": rows.head(1),
        "names only": rows[names],
        "not finite": rows.assign(**dict(zip(numbers, [np.nan, np.inf] * 20, strict=False))),
        "failed": pd.DataFrame(run("DEQ", {}, task=DENOISING, status="oom")[-1:]),
    }


PLOTS = ("accuracy", "gradient_error", "memory", "summary")


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for i, name in enumerate(PLOTS) for kind in [*hostile_frames()][i % 2 :: 2]],
)
def test_plots_survive_anything_and_are_json(name, kind):
    plot = load_plot(name)
    plot._check()
    data, _ = plot._get_all_plots(hostile_frames()[kind])
    styled = update_plot_data_style({name: data}, plotly=True)
    assert json.loads(json.dumps(styled, allow_nan=False))
    if kind == "study":
        assert any(entry["data"] for entry in data.values())


def test_rows_are_made_tidy_once_for_all_plots_of_a_page():
    rows, others = (study(methods=STUDY[at : at + 1], tasks=[DENOISING]) for at in (1, 2))
    found = tidied(rows)
    assert tidied(rows) is found and found.equals(tidy(rows))
    assert set(tidied(others)["method"]) == {"Restarted-JFB"}
    assert set(tidied(rows)["method"]) == {"JFB"}


def test_plots_show_the_report_s_numbers():
    rows = study(methods=STUDY[1:3])
    objective, dataset = rows["objective_name"].iloc[0], rows["dataset_name"].iloc[0]
    traces = load_plot("accuracy").plot(rows, dataset, objective, "objective_value", "steps")
    assert [trace["label"] for trace in traces] == ["JFB", "Restarted-JFB (layers=10, restarts=5)"]
    assert traces[0]["x"] == [10.0 * index for index in range(8)]
    assert traces[0]["color"] == KNOWN["JFB"].color
    (bar, _) = load_plot("memory").plot(rows, dataset, objective)
    assert bar["label"] == "JFB" and bar["y"] == [6.5, 6.5]
