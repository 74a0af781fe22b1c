"""What the report's figures draw, on made-up results."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_up import (
    DENOISING,
    DEPTHS,
    INPAINTING,
    STUDY,
    TASKS,
    gradient_error,
    image,
    one_task,
    run,
    study,
    sweep,
    texts,
)

from benchmark.report import drawing, figures, pictures, tables
from benchmark.report.drawing import Page
from benchmark.report.frame import tidy, traces, trained
from benchmark.report.style import labelled_styles, method_styles


@pytest.fixture(scope="module")
def frame():
    """The tidy frame of the study and the whole sweep."""
    return tidy(pd.concat([study(), sweep()]))


def drawn_lines(rows, *, label, by, x, y, ends=()) -> dict[str, dict]:
    """The curves as benchopt's page gets them, by label."""
    looks = labelled_styles(rows, label, method_styles(rows["method"]))
    return {trace["label"]: trace for trace in traces(rows, (label, by), x, y, looks, ends)}


def test_curves_over_training(frame):
    rows = trained(one_task(frame, "denoising"))
    lines = drawn_lines(rows, label="configuration", by="outer_step", x="seconds", y="value")
    line = lines["Restarted-JFB (layers=10, restarts=5)"]
    raw = study()
    raw = raw[
        (raw["objective_method"] == "Restarted-JFB") & (raw["p_dataset_degradation"] == DENOISING)
    ]
    pairs = raw.pivot(index="stop_val", columns="idx_rep", values="objective_value")
    assert line["y"] == pytest.approx(pairs.mean(axis=1).tolist())  # the median of two
    low = 0.75 * pairs.min(axis=1) + 0.25 * pairs.max(axis=1)
    assert line["y_low"] == pytest.approx(low.tolist())
    assert line["x"] == pytest.approx([10 * index * 0.8 * 1.05 for index in range(8)])
    assert all(type(value) is float for value in (*line["x"], *line["y"], *line["y_high"]))


def test_figures_draw_the_same_curves(frame):
    """Medians as lines, quartiles as bands, those of the values also where the axis is a log."""
    part = one_task(frame, "denoising")
    with drawing.look():
        figure = figures.accuracy(part, Page(method_styles(frame["method"]))).figure
    rows = trained(part)
    for axis, y in zip(figure.axes[::3], figures.ACCURACY, strict=True):
        lines = drawn_lines(rows, label="configuration", by="outer_step", x="seconds", y=y)
        colors = {line["color"]: line for line in lines.values()}
        assert len(axis.lines) - (y == "value") == len(axis.collections) == len(lines)
        for line, band in zip(axis.lines, axis.collections, strict=False):
            expected = colors[line.get_color()]
            assert list(line.get_ydata()) == pytest.approx(expected["y"])
            bounds = {round(float(v), 9) for path in band.get_paths() for v in path.vertices[:, 1]}
            for bound in (*expected["y_low"], *expected["y_high"]):
                assert min(abs(bound - v) for v in bounds) < 1e-8


def test_failure_is_at_the_last_finite_point(frame):
    rows, styles = one_task(frame, "inpainting"), method_styles(frame["method"])
    steps = figures.accuracy(rows, Page(styles)).figure.axes[2]
    (end,) = (line for line in steps.lines if line.get_marker() == drawing.FAILED["marker"])
    assert end.get_color() == styles["DEQ"].color and end.get_xdata()[0] == 30.0
    raw = study()
    raw = raw[(raw["objective_method"] == "DEQ") & (raw["idx_rep"] == 1)]
    raw = raw[raw["p_dataset_degradation"].str.startswith("inpainting")]
    assert end.get_ydata()[0] == raw["objective_value"].dropna().iloc[-1]


def test_curves_over_depth(frame):
    rows = one_task(frame[frame["steps"] == 0], "inpainting")
    options = {"label": "series", "by": "layers", "x": "layers", "y": "gradient_error"}
    lines = drawn_lines(rows, **options, ends=(1.0, 50.0))
    assert set(lines) == {
        "Unrolling",
        "JFB",
        "DEQ",
        *(f"Restarted-JFB (restarts={n})" for n in (1, 5, 20)),
    }
    expected = [gradient_error("Unrolling", {"layers": depth}, 0.93) for depth in DEPTHS]
    assert lines["Unrolling"]["x"] == list(DEPTHS)
    assert lines["Unrolling"]["y"] == pytest.approx(expected)
    assert lines["DEQ"]["x"] == [1, 50]
    assert "DEQ" not in drawn_lines(rows, **options)


def test_depths_of_different_methods_are_no_sweep(frame):
    rows = one_task(frame, "inpainting")
    shallow = rows[(rows["method"] == "Unrolling") & (rows["layers"] == DEPTHS[0])]
    deep = rows[(rows["method"] == "Restarted-JFB") & (rows["layers"] == DEPTHS[1])]
    assert len(shallow) and len(deep)
    both = pd.concat([shallow, deep])
    with pytest.raises(drawing.NothingToDrawError, match="two depths"):
        figures.gradient_error(both, Page(method_styles(frame["method"])))
    assert len(figures.memory(both, Page(method_styles(frame["method"]))).figure.axes) == 1


def test_slope_of_theory(frame):
    rows = one_task(frame, "inpainting")
    figure = figures.gradient_error(rows, Page(method_styles(frame["method"]))).figure
    assert "κ = 0.93" in texts(figure)
    (line,) = [line for line in figure.axes[0].lines if "theory" in str(line.get_label())]
    layers, error = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert np.log(error[-1] / error[0]) / (layers[-1] - layers[0]) == pytest.approx(np.log(0.93))
    start = gradient_error("Restarted-JFB", {"layers": 1, "restarts": 20}, 0.93)
    assert (layers[0], error[0]) == (1, pytest.approx(start))


def test_the_slope_hides_no_error_that_is_larger_elsewhere(frame):
    """At the θ that exact gradients reach, with the same axis."""
    rows = one_task(frame, "inpainting")
    rows = rows.assign(gradient_error_reached=100 * rows["gradient_error_start"])
    figure = figures.gradient_error(rows, Page(method_styles(frame["method"]))).figure
    highest = rows["gradient_error_reached"].max()
    assert all(axis.get_ylim()[1] > highest for axis in figure.axes)


def test_no_slope_without_contraction(frame):
    rows = one_task(frame, "inpainting").assign(contraction=1.0)
    made = figures.gradient_error(rows, Page(method_styles(frame["method"])))
    assert "theory" not in texts(made.figure)
    assert made.notes == ("the theory's slope (kappa = 1)",)


def test_failed_depth_is_marked():
    task = INPAINTING
    rows = run("Unrolling", {"layers": 50}, task=task, evaluations=1, status="oom")
    frame = tidy(pd.concat([sweep(tasks=[task], depths=(1, 2)), pd.DataFrame(rows)]))
    figure = figures.gradient_error(frame, Page(method_styles(frame["method"]))).figure
    assert "failed at this depth" in texts(figure)
    shown = figures.time(frame, Page(method_styles(frame["method"]))).figure
    assert "oom" in texts(shown)


def test_reconstructions_carry_the_psnr_of_the_images(frame):
    rows = one_task(frame, "inpainting")
    figure = pictures.reconstructions(rows, Page(method_styles(frame["method"]))).figure
    task = INPAINTING
    bias = 0.002 * min(1.0, gradient_error("Unrolling", {"layers": 10}, TASKS[task]))
    truth, shown = (image(task, error).astype(float) for error in (0.0, 0.05 + 10 * bias))
    psnr = 10 * np.log10(255**2 / np.mean((shown - truth) ** 2))
    assert f"Unrolling\nlayers=10\n{psnr:.2f} dB" in texts(figure)


def test_other_test_image_is_left_out_and_said(frame):
    rows = one_task(frame, "inpainting").copy()
    for index in rows.index[rows["method"] == "DEQ"]:
        if rows.at[index, "truth"] is not None:
            rows.at[index, "truth"] = np.zeros((32, 32, 3), dtype=np.uint8)
    kept = rows[rows["method"].isin(["DEQ", "JFB", "Unrolling"])]
    made = pictures.reconstructions(kept, Page(method_styles(frame["method"])))
    assert len(made.notes) == 1 and "another test image" in made.notes[0]


def test_unknown_method_is_everywhere():
    others = [("Shiny-New", {"layers": depth, "memory": 4}) for depth in (1, 10)]
    frame = tidy(study(methods=[*STUDY, *others], tasks=[DENOISING]))
    page = Page(method_styles(frame["method"]))
    drawn = (figures.accuracy, figures.gradient_error, figures.time, figures.memory)
    for draw in (*drawn, pictures.reconstructions):
        assert "Shiny-New" in texts(draw(frame, page).figure), draw.__name__
    assert "Shiny-New (layers=10)" in set(tables.summary(frame)["configuration"])


@pytest.mark.parametrize(
    "draw",
    [
        figures.accuracy,
        figures.gradient_error,
        figures.time,
        figures.memory,
        pictures.reconstructions,
    ],
)
def test_nothing_to_draw_is_said(draw):
    rows = pd.DataFrame(run("JFB", {}, task=DENOISING, status="error")[-1:])
    frame = tidy(rows)
    with pytest.raises(drawing.NothingToDrawError, match=r"needs|no "):
        draw(frame, Page(method_styles(frame["method"])))
