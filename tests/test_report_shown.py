"""What figures and tables show is what is there, and names are printed as they are."""

from __future__ import annotations

import os

import forked
import matplotlib
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from made_up import DENOISING, INPAINTING, STUDY, cli, run, save, study, sweep, texts
from test_report_fair import JFB, rows_of

from benchmark.report import drawing, figures, tables
from benchmark.report.drawing import Page
from benchmark.report.frame import endings, judged, run_ends, tidy
from benchmark.report.headline import headline
from benchmark.report.style import method_styles

# --- figures -------------------------------------------------------------------------------------


def test_two_points_are_no_curve():
    raw = rows_of(JFB, repetitions=2)
    frame = tidy(raw[raw["objective_outer_step"].isin([0, 70])])
    axis = figures.accuracy(frame, Page(method_styles(frame["method"]))).figure.axes[0]
    line = axis.lines[0]
    assert len(line.get_xdata()) == 2 and line.get_linestyle() == "None"
    frame = tidy(raw)
    axis = figures.accuracy(frame, Page(method_styles(frame["method"]))).figure.axes[0]
    assert axis.lines[0].get_linestyle() != "None"


def test_settings_sort_as_numbers():
    tolerances = (1e-2, 1e-6, 1e-10, 3e-4, 0.5)
    raw = rows_of(*(("DEQ", {"tol": tol}) for tol in tolerances))
    frame = tidy(raw)
    named = [f"DEQ (tol={tol:g})" for tol in sorted(tolerances)]
    assert list(dict.fromkeys(frame["configuration"])) == named
    assert list(Page(method_styles(frame["method"])).looks(frame, "configuration")) == named


@pytest.mark.parametrize("depth", ["layers", "terms", "grad"])
def test_a_method_swept_over_its_terms_is_a_curve(depth):
    raw = pd.concat(
        [rows_of(("Neumann", {depth: number})).head(1) for number in (2, 5, 10, 100)]
        + [rows_of(JFB).head(1)]
    ).assign(p_solver_steps=0)
    raw["objective_gradient_error"] = [0.5, 0.3, 0.2, 0.1, 0.8]
    frame = tidy(raw)
    assert set(frame["series"]) == {"Neumann", "JFB"}
    axis = figures.gradient_error(frame, Page(method_styles(frame["method"]))).figure.axes[0]
    curve = next(line for line in axis.lines if len(line.get_xdata()) == 4)
    assert list(curve.get_xdata()) == [2, 5, 10, 100]
    assert list(curve.get_ydata()) == [0.5, 0.3, 0.2, 0.1]


def test_depths_of_one_cost_stay_apart():
    """Of a method whose memory does not grow with its terms, several errors at one memory."""
    raw = pd.concat([rows_of(("Neumann", {"terms": number})).head(1) for number in (2, 5, 10)])
    raw["objective_gradient_error"] = [0.5, 0.3, 0.2]
    frame = tidy(raw.assign(p_solver_steps=0, objective_peak_memory_mib=2.5))
    figure = figures.gradient_error(frame, Page(method_styles(frame["method"]))).figure
    (line,) = figure.axes[2].lines
    assert list(line.get_ydata()) == [0.5, 0.3, 0.2]


def test_gradient_errors_are_drawn_at_both_common_theta():
    raw = sweep(tasks=[DENOISING], depths=(1, 10, 50))
    raw["objective_gradient_error_reached"] = 2 * raw["objective_gradient_error"]
    frame = tidy(raw)
    figure = figures.gradient_error(frame, Page(method_styles(frame["method"]))).figure
    assert len(figure.axes) == 6
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert labels[0] == "relative gradient error at the start"
    assert labels[3] == "relative gradient error at the exact θ"
    first, below = (figure.axes[at].lines[0].get_ydata() for at in (0, 3))
    assert list(below) == pytest.approx(list(2 * np.asarray(first)))


@pytest.mark.parametrize("products", [None, 5.0])
def test_work_is_counted_in_layers_and_products_or_says_that_it_is_not(products):
    raw = rows_of(JFB)
    if products is not None:
        raw["objective_training_vjp_evals"] = products * raw["objective_outer_step"]
    frame = tidy(raw)
    figure = figures.accuracy(frame, Page(method_styles(frame["method"]))).figure
    label, axis = figure.axes[-2].get_xlabel(), figure.axes[1]
    assert label == ("layers (products not recorded)" if products is None else "layers + products")
    expected = raw["objective_training_layer_evals"] + (products or 0) * raw["objective_outer_step"]
    assert list(axis.lines[0].get_xdata()) == pytest.approx(list(expected))


def test_two_kinds_of_memory_have_two_names():
    samples = pd.DataFrame({"method": ["JFB"] * 3, "seconds": [0, 1, 2], "mib": [0, 30, 40]})
    frame = tidy(study(methods=[JFB], tasks=[DENOISING]))
    page = Page(method_styles(frame["method"]))
    assert "memory of the process" in texts(figures.memory_over_time(samples, page).figure)
    assert "peak of live tensors (MiB)" in texts(figures.memory(frame, page).figure)
    assert any("live tensors" in name for name in headline(frame).text)


def test_a_name_with_dollars_is_drawn_as_it_is():
    frame = tidy(rows_of(JFB, STUDY[0])).assign(task="$\\frac$ a $x")
    page = Page(method_styles(frame["method"]))
    with drawing.look():
        figures.time(frame, page).figure.canvas.draw()


def test_glyphs_come_from_another_font_or_are_said_to_be_missing(tmp_path, monkeypatch):
    """DejaVu Sans lacks what another font of matplotlib's has; no font here has U+10FFFD."""
    own = set(matplotlib.font_manager.get_font(drawing.findfont("DejaVu Sans")).get_charmap())
    others = set(matplotlib.font_manager.get_font(drawing.findfont("STIXGeneral")).get_charmap())
    letter = next(chr(code) for code in sorted(others - own) if chr(code).isprintable())
    found, missing = drawing.fonts([f"a{letter}", "漢"])
    assert found and letter not in missing
    with drawing.look([letter]):
        assert matplotlib.rcParams["font.family"] == ["DejaVu Sans", *drawing.fonts([letter])[0]]
    monkeypatch.setattr(drawing.fontManager, "ttflist", [])
    assert drawing.fonts(["漢字", "plain"]) == ([], "字漢")
    raw = rows_of(("漢字", {}))
    monkeypatch.setattr("benchmark.report.build.figure_jobs", lambda *_, **__: iter(()))
    _, printed, _ = cli(save(raw, tmp_path / "a.parquet"), "--out", tmp_path / "out")
    assert "note: no font here has 字漢;" in printed


# --- what is printed -----------------------------------------------------------------------------


def test_every_table_says_of_how_much_it_is(tmp_path):
    raw = study(methods=STUDY[:2], tasks=[DENOISING])
    raw["objective_test_psnr_images"] = [[20.0, 21.0, 22.0, 23.0]] * len(raw)
    frame = tidy(raw)
    unknown = "Of each task 2 repetitions, 4 test images, each taken for a photograph of its own."
    named = tidy(raw.assign(objective_test_photographs='["cat", "cat", "coffee", "coffee"]'))
    known = "Of each task 2 repetitions, 4 test images of 2 photographs."
    for given, said in ((frame, unknown), (named, known)):
        for table in (headline(given), tables.summarised(given)):
            for name, content in table.files().items():
                assert said in content or name == "table.csv", name
    assert (tables.summary(named)["test_photographs"] == 2).all()
    assert (tables.summary(named)["test_images"] == 4).all()


def test_that_all_runs_failed_is_said(tmp_path):
    rows = run("DEQ", {}, task=DENOISING, status="oom") + run(
        "JFB", {}, task=DENOISING, status="oom"
    )
    path = save(pd.DataFrame(rows), tmp_path / "a.parquet")
    _, printed, _ = cli(path, "--out", tmp_path / "out", "--only", "time", drawn=False)
    assert "note: no run ended well: 2 oom" in printed.splitlines()


@pytest.mark.parametrize(
    ("name", "markdown", "csv"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;", "<script>"),
        ("[a](javascript:alert(1))", r"[a\](javascript:", "[a]"),
        ("=cmd|'/C calc'!A0", r"=cmd\|", "'=cmd|"),
        ("@SUM(1)", "@SUM(1)", "'@SUM(1)"),
        ("a\\](b)`c` *d*", r"a\\\](b)\`c\` \*d\*", "a\\](b)`c` *d*"),
    ],
)
def test_names_are_shown_as_they_are_wherever_they_are_printed(name, markdown, csv):
    text = pd.DataFrame({"task": [name], "configuration": [name], "value": [name]})
    made = tables.Table("table", text, text, frozenset({(0, "value")}), name).files()
    cell = made["table.md"].splitlines()[2]
    assert cell.count(markdown) == 3 and "<script" not in made["table.md"]
    assert f"**{markdown}" in cell
    assert made["table.csv"].splitlines()[1].replace('"', "").startswith(csv)
    assert "<script>alert" not in made["table.html"]
    assert "\\](" not in made["table.tex"].replace("\\textbackslash{}](", "")


def test_judged_says_the_same_in_all_rows_of_a_run():
    frame = tidy(study(tasks=[INPAINTING]))
    runs = judged(frame).groupby(["solver_name", "repetition"])
    assert (runs[["ending", "inexact"]].nunique() == 1).all(axis=None)
    assert endings(frame, "method")["DEQ"] == ", 1 of 2 diverged"


def test_the_ends_of_runs_hold_what_is_first_and_last_known_in_them():
    frame = tidy(rows_of(JFB, repetitions=3)).drop(columns="parameters")
    holes = np.random.default_rng(0).random(len(frame)) < 0.5
    frame["test_psnr"], frame["value"] = frame["test_psnr"].mask(holes), frame["value"].mask(~holes)
    ends = run_ends(frame)
    assert len(ends) < len(frame)
    for of in ("first", "last"):
        found, expected = (getattr(rows.groupby("run"), of)() for rows in (ends, frame))
        pd.testing.assert_frame_equal(found, expected)
    for rows in ("head", "tail"):
        found, expected = (getattr(every.groupby("run"), rows)(1) for every in (ends, frame))
        pd.testing.assert_frame_equal(found, expected)


def test_of_too_many_configurations_each_methods_best_has_curves(monkeypatch):
    monkeypatch.setattr(figures, "MOST", 3)
    raw = rows_of(*(("DEQ", {"tol": tol}) for tol in (1e-2, 1e-4)), JFB, ("JFB", {"tol": 1e-3}))
    best = raw["solver_name"].unique()[1]
    raw.loc[raw["solver_name"] == best, "objective_value"] /= 2
    frame = tidy(raw)
    drawn = figures.accuracy(frame, Page(method_styles(frame["method"])))
    shown = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert [name for name in shown if name.startswith("DEQ")] == ["DEQ (tol=0.0001)"]
    assert sum(name.startswith("JFB") for name in shown) == 1
    assert any(note.startswith("2 of 4 configurations") for note in drawn.notes)


def test_a_reader_that_goes_away_loses_no_files(tmp_path):
    path = save(rows_of(JFB), tmp_path / "a.parquet")
    # as `| head` does, once it has its lines
    piped = (
        "import os, runpy\n"
        "reading, writing = os.pipe()\n"
        "os.close(reading)\n"
        "os.dup2(writing, 1)\n"
        "runpy.run_module('benchmark.report', run_name='__main__')\n"
    )
    options = {"cwd": ROOT, "environment": os.environ | {"PYTHONPATH": str(ROOT)}}
    done = forked.run_code(piped, path, "--out", tmp_path / "out", "--only", "learned", **options)
    assert (done.returncode, done.stderr) == (0, "")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"provenance.json", "table.tex", "headline.csv"} <= names


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    raw = rows_of(("\x1b[2J\x07Evil", {}), JFB).assign(p_solver_steps=0)
    raw = raw[raw["stop_val"] == 0].assign(objective_status="\x1b[31mred")
    options = ("--out", tmp_path / "out", "--only", "time", "accuracy")
    _, printed, _ = cli(save(raw, tmp_path / "a.parquet"), *options, drawn=False)
    assert "[31mred" in printed and "\x1b" not in printed and "\x07" not in printed
