"""One figure that tells the story: what a gradient is worth, and what is learned with it.

A column for each file, of its last task by name with that degradation. Above, the relative error of
one hypergradient at the common start against its layers and products from a cold start; below, test
PSNR at the true equilibrium against the time of training. Medians over repetitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmark.report import drawing
from benchmark.report.drawing import entries, finish, grid
from benchmark.report.frame import last_rows, tidy, trained
from benchmark.report.reading import ReportError, read, writable
from benchmark.report.style import Style, method_order, method_styles

SPENT = ("layer_evals_start", "vjp_evals_start")


def report(parquet: Sequence[Path], *, degradation: str, out: Path) -> None:
    """Write the figure to ``out``, a PNG, and as a PDF beside it; a ReportError if a file cannot be
    read or holds no task with the degradation.
    """
    tasks = [_task(path, degradation) for path in parquet]
    styles = method_styles({name for frame in tasks for name in frame["method"]})
    with writable(out), drawing.look():
        out.parent.mkdir(parents=True, exist_ok=True)
        made = drawing.save(draw(tasks, styles), out.with_suffix(""))
    print(f"story: {', '.join(made)}")


def _task(path: Path, degradation: str) -> pd.DataFrame:
    """The rows of the last task of a file, by name, that has the degradation."""
    frame = tidy(read([path]).rows)
    found = sorted(name for name in frame["task"].unique() if degradation in name)
    if not found:
        raise ReportError(f"{path}: no task with the degradation {degradation!r}")
    return frame[frame["task"] == found[-1]]


def draw(tasks: Sequence[pd.DataFrame], styles: dict[str, Style]) -> Figure:
    """The panels of all tasks, a column each."""
    left = ["relative gradient error\nat the start", "test PSNR (dB)"]
    figure, axes = grid(2, len(tasks), (drawing.TWO_COLUMNS, 4.4), left=left)
    drawn = set()
    for (above, below), frame in zip(axes.T, tasks, strict=True):
        above.set_title(drawing.plain(frame["task"].iloc[0].partition(" (")[0]))
        above.set(xscale="log", yscale="log", xlabel="layers + products")
        below.set(xscale="symlog", xlabel="training time (s)")
        runs = trained(frame)
        looks = runs.set_index("configuration")["method"].map(styles).to_dict()
        drawing.curves(below, runs, ("configuration", "outer_step"), "seconds", "test_psnr", looks)
        drawing.spread(below)
        ends = last_rows(frame)
        ends = ends.assign(spent=ends[[*SPENT]].sum(axis=1, min_count=2))
        known = ends[(ends["gradient_error_start"] > 0) & (ends["spent"] > 0)]
        known = known.groupby(["method", "configuration"])[["spent", "gradient_error_start"]]
        for (method, _), point in known.median().iterrows():
            above.plot([point["spent"]], [point["gradient_error_start"]], **styles[method].dots)
            drawn.add(method)
        drawn |= set(runs["method"])
    handles = entries({name: styles[name] for name in method_order(drawn)})
    return finish(figure, handles=handles).figure
