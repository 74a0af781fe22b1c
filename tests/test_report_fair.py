"""What may be compared in a report: one machine, the same images, the same θ, runs that ended.

Each test plants what was once averaged, paired, drawn or printed as if nothing were the matter.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from benchopt.benchmark import Benchmark
from conftest import ROOT
from made_up import DENOISING, INPAINTING, STUDY, cli, run, save, sweep, texts

from benchmark.report import drawing, figures, pictures, profiles, scaling, tables
from benchmark.report.drawing import Page
from benchmark.report.frame import EXACT, endings, last_rows, tidy
from benchmark.report.headline import SEARCHES, headline
from benchmark.report.reading import read
from benchmark.report.style import method_styles

JFB = STUDY[1]


def rows_of(*methods, repetitions=1, task=DENOISING, **changes) -> pd.DataFrame:
    """Runs of some methods, every row with the changes."""
    runs = [run(*method, task=task, repetition=r) for method in methods for r in range(repetitions)]
    return pd.DataFrame([row for rows in runs for row in rows]).assign(**changes)


def table_of(raw: pd.DataFrame) -> pd.DataFrame:
    return tables.summary(tidy(raw)).set_index("configuration")


# --- machines, images, equal runs ----------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"objective_device_name": "another processor"},
        {"objective_threads": 4},
        {"system-cpus": 64},
    ],
)
def test_times_of_two_machines_are_never_averaged(other, tmp_path):
    """In one file, as ``merge`` makes it, as in two."""
    here = rows_of(*STUDY[:2])
    seconds = 100 * here["objective_gradient_seconds"]
    there = here.assign(objective_gradient_seconds=seconds, time=7 * here["time"] + 1, **other)
    paths = [
        save(rows, tmp_path / f"{name}.parquet") for name, rows in {"a": here, "b": there}.items()
    ]
    assert cli("merge", *paths, "--out", tmp_path / "c.parquet")[0] == 0
    for given in (paths, [tmp_path / "c.parquet"]):
        numbers = tables.summary(tidy(read(given).rows))
        assert len(numbers) == 4 and (numbers["gradient_seconds_count"] == 1).all()
        jfb = numbers[numbers["method"] == "JFB"].sort_values("gradient_seconds_mean")
        assert jfb["gradient_seconds_mean"].tolist() == pytest.approx([1.22, 122])
        assert jfb["configuration"].str.contains("device=").all()
        # each machine has its own fastest
        assert jfb["time_ratio_mean"].tolist() == pytest.approx([122 / 30, 122 / 30])


def test_rows_that_differ_in_the_device_alone_are_no_duplicates(tmp_path):
    here = rows_of(JFB)
    there = here.assign(objective_device_name="another")
    paths = [save(rows, tmp_path / f"{at}.parquet") for at, rows in enumerate((here, there, here))]
    paths[2].write_bytes(paths[0].read_bytes())
    assert [source.rows_used for source in read(paths).sources] == [len(here), len(here), 0]


def test_one_machine_is_not_named():
    assert list(table_of(rows_of(JFB)).index) == ["JFB"]


def test_files_of_other_images_are_no_paired_table(tmp_path):
    paths = []
    for seed in range(2):
        rows = rows_of(JFB, STUDY[3], base_seed=seed, objective_images_digest=f"images{seed}")
        rows["objective_test_psnr"] += 5 * seed
        paths.append(save(rows, tmp_path / f"{seed}.parquet"))
    numbers = tables.summary(tidy(read(paths).rows))
    assert sorted(set(numbers["task"])) == [
        "wavelet_l1, denoising (images=seed 0)",
        "wavelet_l1, denoising (images=seed 1)",
    ]
    assert (numbers["runs"] == 1).all()


def test_repetitions_with_other_images_are_one_task():
    parts = [rows_of(JFB, repetitions=2)]
    parts[0]["objective_images_digest"] = parts[0]["idx_rep"].map("images{}".format)
    assert set(tidy(pd.concat(parts))["task"]) == {"wavelet_l1, denoising"}


def test_images_are_told_apart_by_digest_where_seeds_do_not_tell():
    rows = pd.concat([rows_of(JFB, objective_images_digest=name) for name in ("one", "two")])
    assert {task.partition("(")[2] for task in tidy(rows)["task"]} == {"images=one)", "images=two)"}


def test_the_same_run_twice_in_one_file_is_two_runs(tmp_path):
    first = rows_of(JFB)
    again = first.assign(time=first["time"] + 0.5, objective_gradient_seconds=3.0)
    paths = [
        save(rows, tmp_path / f"{name}.parquet") for name, rows in {"a": first, "b": again}.items()
    ]
    assert cli("merge", *paths, "--out", tmp_path / "c.parquet")[0] == 0
    frame = tidy(read([tmp_path / "c.parquet"]).rows)
    assert len(last_rows(frame)) == 2
    (entry,) = tables.summary(frame).itertuples()
    assert entry.status == "2/2 ok" and entry.repetitions == 1
    assert entry.gradient_seconds_mean == pytest.approx((1.22 + 3.0) / 2)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_run_that_was_cut_and_made_again_is_not_mixed_with_the_other(tmp_path, order):
    """Three rows and eight of one configuration: the run of eight is of one call."""
    whole = rows_of(JFB, run_date="2026-01-02", objective_ended="finished")
    cut = rows_of(JFB, run_date="2026-01-01", objective_ended="time limit").head(3)
    cut = cut.assign(time=cut["time"] + 1, objective_gradient_seconds=9.0)
    paths = [
        save(rows, tmp_path / f"{name}.parquet") for name, rows in {"a": whole, "b": cut}.items()
    ]
    assert cli("merge", *(paths[at] for at in order), "--out", tmp_path / "c.parquet")[0] == 0
    frame = tidy(read([tmp_path / "c.parquet"]).rows)
    assert sorted(frame.groupby("source").size()) == [3, 8]
    assert (frame.groupby("source")["gradient_seconds"].nunique() == 1).all()
    (entry,) = tables.summary(frame).itertuples()
    assert entry.status == "1/2 ok, 1 cut by the time limit"
    assert entry.gradient_seconds_mean == pytest.approx(1.22)


def test_a_run_that_was_gone_on_with_is_one(tmp_path):
    """The rows before, which the later file repeats, are of the earlier date."""
    whole = rows_of(JFB, run_date="2026-01-02", objective_ended="finished")
    begun = whole.head(3).assign(run_date="2026-01-01")
    paths = [save(rows, tmp_path / f"{at}.parquet") for at, rows in enumerate((begun, whole))]
    assert cli("merge", *paths, "--out", tmp_path / "c.parquet")[0] == 0
    frame = tidy(read([tmp_path / "c.parquet"]).rows)
    assert len(frame) == len(whole) and frame["source"].nunique() == 1
    assert (frame["ending"] == "ok").all()


def test_without_digests_other_seeds_are_other_images():
    parts = [rows_of(JFB, base_seed=seed).assign(time=lambda t: t["time"] + 1) for seed in (0, 1)]
    raw = pd.concat(parts).drop(columns="objective_images_digest")
    assert {task.partition("(")[2] for task in tidy(raw)["task"]} == {
        "images=seed 0)",
        "images=seed 1)",
    }
    assert set(tidy(parts[0])["task"]) == {"wavelet_l1, denoising"}


# --- one θ for all -------------------------------------------------------------------------------


def at_own_theta() -> pd.DataFrame:
    """Unrolling is 5.4 off at the start and 0.28 at its own end; JFB 0.9 and 0.95."""
    raw = rows_of(STUDY[0], JFB)
    for method, ends in {"Unrolling": (5.4, 0.28), "JFB": (0.9, 0.95)}.items():
        own = raw["objective_method"] == method
        steps = raw.loc[own, "objective_outer_step"] / 70
        raw.loc[own, "objective_gradient_error"] = ends[0] + (ends[1] - ends[0]) * steps
    return raw


def test_gradient_errors_stand_side_by_side_at_the_common_start():
    frame = tidy(at_own_theta())
    numbers = tables.summary(frame).set_index("method")
    assert numbers["gradient_error_start_mean"].to_dict() == {"Unrolling": 5.4, "JFB": 0.9}
    assert numbers["gradient_error_mean"].to_dict() == pytest.approx(
        {"Unrolling": 0.28, "JFB": 0.95}
    )
    shown = tables.summarised(frame).text.columns
    assert {"gradient error, start", "gradient error, own θ"} <= set(shown)
    text = headline(frame).text.set_index("configuration")
    assert text.loc["Unrolling (layers=10)", "gradient error, start"] == "5.40"
    assert not [name for name in text if "error" in name and "own" in name]


def test_what_is_measured_at_the_theta_of_exact_gradients_comes_into_the_tables():
    raw = at_own_theta()
    last = raw["objective_outer_step"] == 70
    for name, value in {"gradient_error": 0.5, "layer_evals": 40.0, "vjp_evals": 8.0}.items():
        raw.loc[last, f"objective_{name}_reached"] = value
        raw.loc[last, f"objective_{name}_reached_warm"] = value / 4 if "evals" in name else value
    table = headline(tidy(raw)).text.set_index("configuration")
    (entry,) = table.loc[["JFB"]].to_dict("records")
    assert entry["gradient error, exact θ"] == "0.500"
    assert entry["layers + products, exact θ, cold"] == "40 + 8"
    assert entry["layers + products, exact θ, warm"] == "10 + 2"


def test_states_carried_over_are_another_column():
    raw = rows_of(("HOAG", {}))
    raw["objective_layer_evals"] = np.where(raw["objective_outer_step"] == 0, 39.0, 9.0)
    entry = headline(tidy(raw)).text.set_index("configuration").loc["HOAG"]
    assert entry["layers + products, start, cold"] == "39 + 1"
    assert entry["layers + products, own θ, warm"] == "9 + 1"


# --- runs that did not end, gradients that are none ----------------------------------------------


def cut(raw: pd.DataFrame, ended: str, rows: int = 5) -> pd.DataFrame:
    short = raw.head(rows).assign(objective_ended="")
    short.loc[short.index[-1], "objective_ended"] = ended
    return short


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ("time limit", "cut by the time limit"),
        ("row limit", "cut by the row limit"),
        ("interrupted", "interrupted"),
        ("", "cut before its last step"),
    ],
)
def test_a_run_that_was_cut_is_none_that_ended_well(ended, said):
    whole = rows_of(*STUDY[1:], task=INPAINTING)
    short = cut(rows_of(("JFB", {"tol": 1e-2}), task=INPAINTING), ended)
    frame = tidy(pd.concat([whole, short]))
    table = tables.summary(frame).set_index("configuration")
    assert table.loc["JFB (tol=0.01)", "status"] == f"0/1 ok, 1 {said}"
    assert table.loc["JFB (max_layers=1000, tol=1e-06)", "status"] == "1/1 ok"
    # there is nothing better to take numbers over
    assert table.loc["JFB (tol=0.01)", "test_psnr_count"] == 1
    assert endings(frame, "method")["JFB"] == f", 1 of 2 {said}"
    steps = figures.accuracy(frame, Page(method_styles(frame["method"]))).figure.axes[2]
    (end,) = (line for line in steps.lines if line.get_marker() == drawing.FAILED["marker"])
    assert end.get_xdata()[0] == 40


def test_a_method_that_is_done_early_was_not_cut():
    frame = tidy(cut(rows_of(JFB), "finished"))
    assert set(frame["ending"]) == {"ok"} and (frame["outer_step"].max() < frame["steps"]).all()


def test_what_was_cut_or_is_inexact_is_marked_in_every_figure():
    short = cut(rows_of(("JFB", {"tol": 1e-2})), "time limit")
    loose = rows_of(("DEQ", {"gradient_tol": 1e-9}))
    frame = tidy(pd.concat([short, rows_of(JFB), loose]))
    page = Page(method_styles(frame["method"]))
    draws = (figures.accuracy, figures.learned, figures.time, figures.memory)
    for draw in draws:
        shown = texts(draw(frame, page).figure)
        assert "cut by the time limit" in shown and "inexact" in shown, draw.__name__
    assert "inexact" in texts(pictures.reconstructions(frame, page).figure)
    loose = sweep(tasks=[DENOISING], depths=(1, 10))
    loose.loc[loose["objective_method"] == "DEQ", "objective_gradient_error"] = 0.5
    loose["objective_gradient_error"] /= 60  # within reach of an accuracy
    loose["p_solver_gradient_tol"] = np.where(loose["objective_method"] == "DEQ", "1e-9", None)
    frame = tidy(loose)
    for table in (profiles.time_to_accuracy(frame), profiles.ranking(frame)):
        assert table.text.map(lambda cell: "DEQ, 1 of 1 inexact" in cell).any(axis=None), table.name
        assert "Of each task 1 repetition" in table.note
    for draw in (scaling.scaling, figures.gradient_error, profiles.performance, profiles.pareto):
        shown = texts(draw(frame, Page(method_styles(frame["method"]))).figure)
        assert "DEQ, 1 of 1 inexact" in shown, draw.__name__


def test_numbers_are_not_averaged_over_whole_and_cut_runs():
    raw = rows_of(JFB, repetitions=2)
    short = cut(raw[raw["idx_rep"] == 1], "time limit").assign(objective_test_psnr=0.0)
    entry = table_of(pd.concat([raw[raw["idx_rep"] == 0], short])).loc["JFB"]
    assert entry["status"] == "1/2 ok, 1 cut by the time limit"
    assert entry["test_psnr_count"] == 1 and entry["test_psnr_mean"] > 20


def test_every_method_is_known_to_be_the_gradient_or_not():
    """A new one is to be told from those whose error is no fault."""
    approximate = {
        "Unrolling", "Checkpointed-Unrolling", "JFB", "Restarted-JFB", "Neumann", "Phantom",
        "SHINE", "Sketched-DEQ", "HOAG", "Single-Loop", "SABA", "MAID", "SPSA",
        "Finite-Differences", "Pair", "torchdeq-Phantom", "deepinv-JFB", *SEARCHES,
    }  # fmt: skip
    names = {cls.name for cls in Benchmark(ROOT).get_solvers()}
    assert names - approximate == set(EXACT)


@pytest.mark.parametrize(
    ("method", "parameters", "column", "value", "inexact"),
    [
        ("DEQ", {"gradient_tol": 1e-2}, "gradient_error_estimate", 0.02, True),
        ("DEQ", {"gradient_tol": 1e-2}, "gradient_error_estimate", 0.009, False),
        ("DEQ", {"gradient_tol": 1e-2}, "gradient_error", 0.02, True),
        ("HOAG", {"gradient_tol": 1e-2}, "gradient_error_estimate", 0.02, True),
        # a full DEQ gradient by its name, its tolerances set by hand
        ("DEQ", {"tol": 1e-4, "adjoint_tol": 1e-3}, "gradient_error", 1.38, True),
        ("DEQ", {"tol": 1e-4, "adjoint_tol": 1e-3}, "gradient_error", 0.02, False),
        ("JFB", {}, "gradient_error", 0.9, False),
    ],
)
def test_a_gradient_that_misses_what_it_claims_is_marked(
    method, parameters, column, value, inexact
):
    raw = rows_of((method, parameters), STUDY[0], task=INPAINTING)
    own = raw["objective_method"] == method
    raw.loc[own, ["objective_gradient_error", "objective_gradient_error_estimate"]] = 1e-9
    raw.loc[own & (raw["objective_outer_step"] == 30), f"objective_{column}"] = value
    frame = tidy(raw)
    status = tables.summary(frame).set_index("method").loc[method, "status"]
    assert status == ("1/1 ok, 1 inexact" if inexact else "1/1 ok")
    assert headline(frame).text["status"].str.contains("inexact").any() == inexact
    assert ("inexact" in endings(frame, "method")[method]) == inexact
