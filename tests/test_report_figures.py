"""Scaling, accuracy, learned parameters, close-ups and widths, on made-up results."""

from __future__ import annotations

import json

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from made_up import DENOISING, INPAINTING, STUDY, cli, run, save, study, sweep, texts

from benchmark.report import build, drawing, figures, pictures, profiles, scaling
from benchmark.report.build import KINDS, WIDTHS
from benchmark.report.drawing import Page
from benchmark.report.frame import run_ends, tidy
from benchmark.report.site import CAPTIONS
from benchmark.report.style import KNOWN, method_styles

BATCHES, SIZES, RIDGES, DEPTHS = (1, 2, 4, 8), (32, 64, 128), (0.3, 0.1, 0.03, 0.01), (2, 8, 32)


def problem(*, size: int, batch: int, ridge: float, n_train: int = 8) -> pd.DataFrame:
    """One hypergradient of each method on one problem; the cost is a product of powers."""
    methods = [("JFB", {}), ("DEQ", {})]
    methods += [("Unrolling", {"layers": depth}) for depth in DEPTHS]
    methods += [
        ("Restarted-JFB", {"layers": depth, "restarts": restarts})
        for depth in DEPTHS
        for restarts in (1, 5, 20)
    ]
    seen = min(batch, n_train)
    objective = {"lower": f"wavelet_l1(ridge={ridge})", "probe_size": batch}
    dataset = {"degradation": "inpainting(keep=0.5)", "size": size, "n_train": n_train}
    names = [",".join(f"{k}={v}" for k, v in found.items()) for found in (objective, dataset)]
    rows = []
    for method, parameters in methods:
        (row,) = run(method, parameters, task=INPAINTING, evaluations=1)
        depth = parameters.get("layers", 1)
        for prefix, found in (("p_obj_", objective), ("p_dataset_", dataset)):
            row |= {f"{prefix}{key}": value for key, value in found.items()}
        row |= {
            "objective_name": f"Bilevel[{names[0]}]",
            "dataset_name": f"Photographs[{names[1]}]",
            "p_solver_steps": 0,
            "objective_contraction": 1 / (1 + ridge),
            "objective_gradient_seconds": 1e-6 * size**2 * seen * depth / ridge,
            "objective_peak_memory_mib": 1e-3 * size**2 * seen * depth,
        }
        rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def varied() -> pd.DataFrame:
    """Each quantity alone: sizes with one training image, which is then all of the batch."""
    parts = [problem(size=64, batch=batch, ridge=0.1) for batch in BATCHES]
    parts += [problem(size=64, batch=2, ridge=ridge) for ridge in RIDGES if ridge != 0.1]
    parts += [problem(size=size, batch=4, ridge=0.1, n_train=1) for size in (32, 128)]
    return tidy(pd.concat(parts))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """The tidy frame of the study of denoising."""
    return tidy(study(tasks=[DENOISING]))


# --- scaling -----------------------------------------------------------------------------------


def test_problems_are_taken_apart(varied):
    assert set(varied["setting"]) == {"wavelet_l1, inpainting"}
    assert set(varied["size"]) == set(SIZES) and set(varied["ridge"]) == set(RIDGES)
    assert set(varied.loc[varied["size"] == 128, "batch"]) == {1}
    assert varied["task"].nunique() == 9


def test_scaling_holds_the_others(varied):
    drawn = scaling.scaling(varied, Page(method_styles(varied["method"])))
    axes = np.array(drawn.figure.axes).reshape(3, 4)
    held = [axis.get_title(loc="left") for axis in axes[0]]
    assert held == [
        "batch 1, ridge 0.1",
        "64 × 64, ridge 0.1",
        "64 × 64, batch 2, ridge 0.1",
        "64 × 64, batch 2",
    ]
    assert drawn.notes == ("against depth: 8 other problems",)
    lines = {line.get_color(): line for line in axes[0][0].lines}
    unrolling = lines[KNOWN["Unrolling"].color]
    assert list(unrolling.get_xdata()) == [size**2 for size in SIZES]
    expected = [1e-6 * size**2 * 8 / 0.1 for size in SIZES]  # the middle depth
    assert list(unrolling.get_ydata()) == pytest.approx(expected)
    slowness = {line.get_color(): line for line in axes[0][3].lines}[KNOWN["DEQ"].color]
    assert list(slowness.get_xdata()) == pytest.approx(
        [1 / (1 - 1 / (1 + r)) for r in RIDGES[::-1]]
    )
    assert list(slowness.get_ydata()) == pytest.approx([1e-6 * 64**2 * 2 / r for r in RIDGES[::-1]])
    depth = {line.get_color(): line for line in axes[1][2].lines}
    assert list(depth[KNOWN["Restarted-JFB"].color].get_xdata()) == list(DEPTHS)
    assert list(depth[KNOWN["JFB"].color].get_xdata()) == [2, 32]  # flat: it has no depth
    legend = texts(drawn.figure)
    assert "Restarted-JFB (layers=8, restarts=5)" in legend and "restarts=20" not in legend


def test_scaling_says_what_does_not_vary(frame):
    swept = tidy(sweep(tasks=[DENOISING]))
    drawn = scaling.scaling(swept, Page(method_styles(swept["method"])))
    assert len(drawn.figure.axes) == 3
    missing = [note for note in drawn.notes if "does not vary" in note]
    assert [note.split(":")[0] for note in missing] == [
        "against image size",
        "against batch",
        "against contraction",
    ]
    with pytest.raises(drawing.NothingToDrawError, match="neither image size"):
        scaling.scaling(frame, Page(method_styles(frame["method"])))


def test_costs_of_two_files_are_not_on_one_line(varied):
    apart = varied.assign(source=np.where(varied["size"] == 64, "a", "b"))
    drawn = scaling.scaling(apart, Page(method_styles(apart["method"])))
    titles = [axis.get_title(loc="left") for axis in drawn.figure.axes]
    line = drawn.figure.axes[0].lines[0]
    assert titles[0] == "batch 1, ridge 0.1" and list(line.get_xdata()) == [32**2, 128**2]


# --- accuracy ----------------------------------------------------------------------------------


def test_accuracy_has_loss_psnr_and_ssim_and_the_points_of_the_best(frame):
    """What was drawn was F less the least F, on a log axis: the best vanished from it."""
    drawn = figures.accuracy(frame, Page(method_styles(frame["method"])))
    axes = np.array(drawn.figure.axes).reshape(3, 3)
    *curves, reference = axes[0][0].lines
    best = {line.get_color(): line for line in curves}[KNOWN["DEQ"].color]
    medians = frame[frame["method"] == "DEQ"].groupby("outer_step")["value"].median()
    assert list(best.get_ydata()) == pytest.approx(list(medians))
    least = frame.groupby("repetition")["value"].min().median()
    assert list(reference.get_ydata()) == pytest.approx([least, least])
    assert reference.get_label() == "least F of all"
    labels = [axis.get_ylabel() for axis in axes[:, 0]]
    assert labels == ["F(θ) (MSE)", "test PSNR (dB)", "test SSIM"]
    assert [axis.get_yscale() for axis in axes[:, 0]] == ["log", "linear", "linear"]
    ssim = {line.get_color(): line for line in axes[2][2].lines}[KNOWN["JFB"].color]
    rows = frame[frame["method"] == "JFB"].groupby("outer_step")["test_ssim"].median()
    assert list(ssim.get_ydata()) == pytest.approx(list(rows))


def many(count: int) -> pd.DataFrame:
    """A study of ``count`` configurations, each with another number of layers."""
    methods = [("Unrolling", {"layers": depth}) for depth in range(1, count + 1)]
    return tidy(study(methods=methods, tasks=[DENOISING]))


def test_up_to_eight_configurations_share_panels_and_more_have_one_each():
    """Bands of 26 methods over each other were a grey area."""
    frame = many(figures.MANY)
    drawn = figures.accuracy(frame, Page(method_styles(frame["method"])))
    assert len(drawn.figure.axes) == 9
    assert all(len(axis.collections) == figures.MANY for axis in drawn.figure.axes)
    frame = many(figures.MANY + 1)
    drawn = figures.accuracy(frame, Page(method_styles(frame["method"])))
    axes = drawn.figure.axes
    names = [f"Unrolling (layers={depth})" for depth in range(1, figures.MANY + 2)]
    assert [axis.get_title(loc="left").replace("\n", " ") for axis in axes] == names
    for axis, name in zip(axes, names, strict=True):
        rows = frame[frame["configuration"] == name].groupby("outer_step")
        own = [line for line in axis.lines if line.get_marker() not in ("None", None)]
        assert len(axis.collections) == len(own) == 1
        assert list(own[0].get_xdata()) == list(rows["training_evals"].median())
        assert list(own[0].get_ydata()) == pytest.approx(list(rows["value"].median()))
        grey = [x for x in axis.lines if x.get_color() == figures.OTHERS["color"]]
        assert len(grey) == len(names)
    assert "test PSNR (dB), test SSIM" in drawn.notes[0] and "9 configurations" in drawn.notes[0]


def test_ranges_of_many_configurations_are_not_drawn_over_each_other():
    for count, lines in ((figures.MANY, 3 * figures.MANY), (figures.MANY + 1, figures.MANY + 1)):
        frame = many(count)
        drawn = figures.learned(frame, Page(method_styles(frame["method"])))
        weights, _ = drawn.figure.axes
        assert len(weights.lines) == lines
        assert bool(weights.collections) == (count <= figures.MANY)
        said = "median and range" if count <= figures.MANY else "median"
        assert weights.get_title(loc="left") == f"{said} of 6 entries"


def test_a_start_and_an_end_are_no_curve_in_the_legend_either():
    rows = study(methods=STUDY[:1], tasks=[DENOISING])
    ends = rows["objective_outer_step"].isin([0, 70])
    search = rows[ends].assign(objective_method="Grid-Search", solver_name="Grid-Search[steps=70]")
    frame = tidy(pd.concat([rows, search]))
    figure = figures.accuracy(frame, Page(method_styles(frame["method"]))).figure
    shapes = {line.get_label(): line.get_linestyle() for line in figure.legends[0].get_lines()}
    curve = shapes["Unrolling (layers=10)"]
    (points,) = (found for name, found in shapes.items() if name.endswith(": start and end"))
    assert points == "None" and curve != "None"
    color = KNOWN["Grid-Search"].color
    own = [line for line in figure.axes[0].lines if line.get_color() == color]
    assert [line.get_linestyle() for line in own] == ["None"]


# --- learned parameters ------------------------------------------------------------------------


def test_learned_parameters():
    frame = tidy(study(methods=STUDY[1:2], tasks=[DENOISING]))
    drawn = figures.learned(frame, Page(method_styles(frame["method"])))
    weights, stepsize = drawn.figure.axes
    assert weights.get_ylabel() == "weights (natural log)"
    assert stepsize.get_ylabel() == "stepsize (logit)"
    middle, low, high = (line.get_ydata() for line in weights.lines)
    steps = np.arange(8)
    assert middle == pytest.approx(-3 + steps * (0.3 + 0.5))
    assert low == pytest.approx(-3 + steps * 0.3)
    assert high == pytest.approx(-3 + steps * (0.3 + 1.0))
    assert list(weights.lines[0].get_xdata()) == list(10 * steps)
    (line,) = stepsize.lines
    assert line.get_ydata() == pytest.approx(0.1 * steps + 0.5)  # the median of two repetitions


def test_few_entries_have_a_line_each():
    rows = study(methods=STUDY[1:2], tasks=[DENOISING])
    rows["objective_learned"] = json.dumps({"couplings": [1.0, 2.0]})
    frame = tidy(rows)
    (axis,) = figures.learned(frame, Page(method_styles(frame["method"]))).figure.axes
    assert [line.get_ydata()[0] for line in axis.lines] == [1.0, 2.0]


@pytest.mark.parametrize("without", ["values", "column", "training"])
def test_learned_is_skipped_without_parameters(without):
    rows = study(methods=STUDY[1:2], tasks=[DENOISING])
    if without == "training":
        rows = sweep(tasks=[DENOISING])
    elif without == "column":
        rows = rows.drop(columns="objective_learned")
    else:
        rows["objective_learned"] = None
    frame = tidy(rows)
    with pytest.raises(drawing.NothingToDrawError, match="no learned parameters"):
        figures.learned(frame, Page(method_styles(frame["method"])))


# --- reconstructions ---------------------------------------------------------------------------


def test_window_is_where_the_methods_differ():
    truth = np.zeros((40, 50, 3), dtype=np.uint8)
    one, other = truth.copy(), truth.copy()
    other[20:32, 30:42] = 90
    found = pictures.window([one, other], truth)
    assert found == (slice(20, 32), slice(30, 42))
    textured = truth.copy()
    textured[4:16:2, 6:18] = 200
    rows, columns = pictures.window([one, one], textured)
    assert abs(rows.start - 4) <= 2 and abs(columns.start - 6) <= 2
    assert pictures.window([one], np.zeros((5, 6, 3), dtype=np.uint8))[1] == slice(0, 5)


def test_close_ups_show_the_window(frame):
    drawn = pictures.reconstructions(frame, Page(method_styles(frame["method"])))
    axes = np.array(drawn.figure.axes[: 3 * 6]).reshape(3, 6)
    ends = frame[frame["method"] == "DEQ"].dropna(subset=["truth"]).iloc[-1]
    whole, close = (axis.images[0].get_array() for axis in axes[:2, -1])
    assert np.array_equal(whole, ends["reconstruction"])
    corner = axes[0][-1].patches[0].get_xy()
    column, row = round(corner[0] + 0.5), round(corner[1] + 0.5)
    assert np.array_equal(close, whole[row : row + len(close), column : column + len(close)])
    assert "1: full range" in texts(drawn.figure)


# --- widths ------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", list(WIDTHS))
def test_figures_have_the_width_asked_for_and_nothing_sticks_out(columns, frame, varied):
    deep = tidy(sweep(tasks=[DENOISING], depths=(1, 10, 50)))
    width = WIDTHS[columns]
    draws = {figures.memory: deep, pictures.reconstructions: frame}
    if columns == "one":  # what of these fits in one column fits in two
        draws |= {
            figures.accuracy: frame,
            figures.gradient_error: deep,
            figures.time: frame,
            profiles.performance: deep,
            profiles.pareto: deep,
            figures.learned: frame,
            scaling.scaling: varied,
        }
    for draw, rows in draws.items():
        with drawing.look():
            figure = draw(rows, Page(method_styles(rows["method"]), width)).figure
            assert figure.get_figwidth() == pytest.approx(width), draw.__name__
            figure.get_layout_engine().execute(figure)
            box = figure.get_tightbbox()
            assert box.x0 > -0.02 and box.x1 < width + 0.02, (draw.__name__, box)
            assert box.y1 < figure.get_figheight() + 0.02, (draw.__name__, box)


def test_a_method_has_one_colour_in_all_figures(varied):
    styles = method_styles(varied["method"])
    with drawing.look():
        figure = scaling.scaling(varied, Page(styles)).figure
    used = {matplotlib.colors.to_hex(line.get_color()) for a in figure.axes for line in a.lines}
    assert used == {styles[method].color for method in styles}


def test_every_figure_has_a_caption():
    assert {"scaling", "learned", "reconstructions", "performance"} <= set(KINDS)
    assert set(CAPTIONS) == set(KINDS)


def test_some_kinds_of_figures_are_asked_for_on_the_command_line(tmp_path):
    path = save(study(methods=STUDY[1:2], tasks=[DENOISING]), tmp_path / "a.parquet")
    code, *_ = cli(path, "--out", tmp_path / "out", "--only", "time", "scaling", drawn=False)
    assert code == 0
    record = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    assert record["only"] == ["time", "scaling"]
    assert [file.name for file in sorted((tmp_path / "out").glob("*.png"))] == ["time.png"]
    code, _, errors = cli(path, "--out", tmp_path / "out", "--only", "tme")
    assert code == 2
    assert "no figure of the kind tme: expected some of accuracy," in errors


@pytest.mark.parametrize("only", [("time",), ("performance", "time")])
def test_times_to_an_accuracy_are_compared_where_the_performance_figure_is(only):
    """A study of something else may vary tolerances of one method alone: no fair comparison."""
    frame = tidy(sweep(tasks=[DENOISING], depths=(1, 10)))
    tables = {
        name.partition(".")[0] for name in build.table_files(frame, run_ends(frame), only=only)
    }
    compared = {"time_to_accuracy", "ranking"} if only != ("time",) else set()
    assert tables == {"headline", "table"} | compared


def test_the_width_is_asked_for_on_the_command_line(tmp_path, monkeypatch):
    asked = []

    def figure_jobs(frame, ends, kinds, page, samples, out):
        asked.append(page.width)
        return iter(())

    monkeypatch.setattr(build, "figure_jobs", figure_jobs)
    path = save(study(methods=STUDY[1:2], tasks=[DENOISING]), tmp_path / "a.parquet")
    for option in ([], ["--width", "one"]):
        assert cli(path, "--out", tmp_path / "out", *option)[0] == 0
        record = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
        assert record["columns"] == (option or ["two"])[-1]
    assert asked == [7.1, 3.4]
