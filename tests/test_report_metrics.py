"""Metrics that a study adds, each in its direction, and losses that are never mixed."""

from __future__ import annotations

import io
import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from made_up import DENOISING, INPAINTING, cli, load_plot, run, save
from scipy import stats

from benchmark.report import figures, headline, profiles, tables
from benchmark.report.claims import NOT_TESTED, claims
from benchmark.report.drawing import Page
from benchmark.report.frame import last_rows, tidy
from benchmark.report.names import called, directions
from benchmark.report.reading import ReportError
from benchmark.report.style import method_styles
from benchmark.report.tables import summarised

METHODS = ("Unrolling", "JFB", "Restarted-JFB", "DEQ")
#: at the end of training, the higher the number of the method the higher; better the lower or not
HIGHER = {"deepinv.SSIM": True, "worst(p=1)": False}
REPETITIONS = 4


def measured(method: str, repetition: int, *, ended: bool) -> float:
    """Of both metrics: 1 at the start, then by method; repetitions differ far more than methods."""
    return 1 + ended * (1 + METHODS.index(method)) / 10 + repetition


def raw(
    *, higher=HIGHER, loss=None, methods=METHODS, task=INPAINTING, scale=1.0, **changes
) -> pd.DataFrame:
    """Runs of each method, with a metric for each name and what learned them."""
    rows = []
    for method in methods:
        for repetition in range(REPETITIONS):
            for row in run(method, {"layers": 10}, task=task, repetition=repetition):
                ended = row["objective_outer_step"] > 0
                value = measured(method, repetition, ended=ended)
                row |= {f"objective_metric_{name}": value for name in higher}
                row |= {"objective_higher_is_better": json.dumps(higher)} if higher else {}
                row["objective_value"] *= scale
                if loss:
                    row |= {"objective_loss": loss, "p_obj_loss": loss}
                    row["objective_name"] = row["objective_name"].replace("]", f",loss={loss}]")
                rows.append(row | changes)
    return pd.DataFrame(rows)


@cache
def made() -> tables.Table:
    """The headline of ``raw()``."""
    return headline.headline(tidy(raw()))


def page(frame: pd.DataFrame) -> Page:
    return Page(method_styles(frame["method"]))


# --- metrics ---------------------------------------------------------------------------------


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_of_a_metric_is_that_of_its_direction(higher):
    made = headline.headline(tidy(raw(higher={"deepinv.M": higher})))
    header = f"deepinv.M {'↑' if higher else '↓'}"
    bold = {made.text["configuration"][row] for row, name in made.bold if name == header}
    assert bold == ({"DEQ (layers=10)"} if higher else {"start"})
    marked = [
        line for line in tables.to_markdown(made.text, made.bold).splitlines() if "**" in line
    ]
    assert any(line.startswith(f"| {made.text['task'][0]}") for line in marked)
    assert header in tables.to_html(made.text, made.bold, name="headline")
    latex = tables.to_latex(made.text, made.bold)
    assert rf"deepinv.M $\{'up' if higher else 'down'}arrow$" in latex
    assert "lower" in made.note and "higher" in made.note


def test_a_metric_of_unknown_direction_has_no_arrow_and_no_best():
    rows = raw(higher={"m": True}).assign(objective_higher_is_better="{}")
    made = headline.headline(tidy(rows))
    assert made.text.columns[5] == "m" and not made.numbers["best_metric_m"].any()


def test_the_interval_of_a_metric_is_over_repetitions():
    numbers = made().numbers.set_index("method")
    own = [measured("JFB", repetition, ended=True) for repetition in range(REPETITIONS)]
    expected = stats.t.interval(0.95, len(own) - 1, np.mean(own), stats.sem(own))
    found = numbers.loc["JFB"]
    for name in HIGHER:
        assert found[f"metric_{name}"] == pytest.approx(np.mean(own))
        bounds = found[[f"low_metric_{name}", f"high_metric_{name}"]].tolist()
        assert bounds == pytest.approx(expected)
    text = made().text.set_index("configuration")
    low, high = expected
    assert (
        text.loc["JFB (layers=10)", "worst(p=1) ↓"] == f"{np.mean(own):.2f} [{low:.3f}, {high:.2f}]"
    )


def test_with_one_repetition_nothing_is_marked_as_for_psnr():
    rows = raw()
    made = headline.headline(tidy(rows[rows["idx_rep"] == 0]))
    assert not made.bold
    assert made.text["deepinv.SSIM ↑"].tolist() == ["1.00", "1.10", "1.20", "1.30", "1.40"]


def test_the_headline_is_read_as_it_was_made(tmp_path):
    table = made()
    path = tmp_path / "headline.csv"
    path.write_text(tables.to_csv(table.numbers), encoding="utf-8")
    found = headline.read(path)
    pd.testing.assert_frame_equal(found.text, table.text)
    assert found.bold == table.bold and found.bold and found.note == table.note


def test_the_summary_has_a_column_per_metric_beside_ssim():
    rows = raw()
    empty = "objective_metric_deepinv.SSIM"
    rows.loc[rows["solver_name"].str.startswith("JFB"), empty] = np.nan
    found = summarised(tidy(rows)).text.set_index("configuration")
    at = list(found.columns).index("test SSIM")
    assert list(found.columns[at + 1 : at + 3]) == ["deepinv.SSIM ↑", "worst(p=1) ↓"]
    assert found.loc["JFB (layers=10)", "deepinv.SSIM ↑"] == tables.MISSING
    own = [measured("DEQ", repetition, ended=True) for repetition in range(REPETITIONS)]
    expected = f"{np.mean(own):.2f} ± {np.std(own, ddof=1):.2f}"
    assert found.loc["DEQ (layers=10)", "deepinv.SSIM ↑"] == expected


def test_metrics_are_drawn_along_training_better_up():
    rows = raw(higher={"up": True, "down": False, "never": True})
    rows["objective_metric_never"] = np.nan
    frame = tidy(rows)
    drawn = figures.accuracy(frame, page(frame))
    axes = np.reshape(drawn.figure.axes, (5, 3))
    labels = [axis.get_ylabel() for axis in axes[:, 0]]
    assert labels[1:] == ["test PSNR (dB)", "test SSIM", "up ↑", "down ↓"]
    assert [axis.yaxis_inverted() for axis in axes[:, 1]] == [False, False, False, False, True]
    assert "never ↑: not measured" in drawn.notes
    for row in axes[3:]:
        medians = {tuple(np.round(line.get_ydata(), 9)) for line in row[2].lines}
        middle = np.median(range(REPETITIONS))
        ends = [round(measured(m, 0, ended=True) + middle, 9) for m in METHODS]
        assert medians == {(1 + middle, *[end] * 7) for end in ends}
        bands = [band.get_paths()[0].vertices[:, 1] for band in row[2].collections]
        first = np.quantile([measured("Unrolling", r, ended=True) for r in range(4)], [0.25, 0.75])
        assert any(np.allclose(sorted({*np.round(b, 9)})[-1], first[1]) for b in bands)


def test_rows_that_contradict_each_other_on_a_direction_are_refused():
    rows = pd.concat([raw(higher={"m": True}), raw(higher={"m": False}, methods=METHODS[:1])])
    with pytest.raises(ReportError, match="contradict each other on 'm'"):
        headline.headline(tidy(rows))
    for text in ("[1]", "no", '{"m": 1}'):
        with pytest.raises(ReportError, match="expected an object of true and false"):
            directions(tidy(raw(objective_higher_is_better=text)))


def test_metrics_change_no_task():
    """They are measured on the test set: a run with them learns what one without them does."""
    named = raw(p_obj_metrics="lpips").assign(objective_name="Bilevel[lower=w,metrics=lpips]")
    plain = raw(higher={}).assign(objective_name="Bilevel[lower=w]")
    assert tidy(pd.concat([named, plain]))["task"].nunique() == 1


def test_the_site_and_the_interactive_plots_show_them(tmp_path):
    rows = raw(loss="l1", methods=METHODS[:2])
    results, out = tmp_path / "results", tmp_path / "site"
    path = save(rows, tmp_path / "one.parquet")
    assert cli(path, "--out", results / "one", "--only", "performance")[0] == 0
    assert cli("site", results, "--out", out)[0] == 0
    html = (out / "studies" / "one.html").read_text(encoding="utf-8")
    for text in ("deepinv.SSIM ↑", "worst(p=1) ↓: lower is better", "F(θ), l1"):
        assert text in html, text
    plot, table = load_plot("accuracy"), load_plot("summary")
    data, options = plot._get_all_plots(rows)
    assert "objective_metric_worst(p=1)" in options["column"]
    assert {"worst(p=1) ↓", "F(θ), true equilibrium, l1"} <= {
        one["ylabel"] for one in data.values()
    }
    ((shown),) = table._get_all_plots(rows)[0].values()
    assert "worst(p=1) ↓" in shown["columns"] and len(shown["columns"]) == len(shown["data"][0])


# --- losses ----------------------------------------------------------------------------------


def test_a_loss_is_part_of_the_task_and_its_absence_is_mse():
    old, new = raw(higher={}), raw(higher={}, loss="mse", methods=METHODS[:1])
    assert tidy(pd.concat([old, new]))["task"].unique().tolist() == ["wavelet_l1, inpainting"]
    tasks = tidy(pd.concat([old, raw(loss="l1"), raw(loss="mine.py(eps=0.1, p=2)")]))["task"]
    assert sorted(tasks.unique()) == [
        "wavelet_l1, inpainting",
        "wavelet_l1, inpainting (loss=l1)",
        "wavelet_l1, inpainting (loss=mine.py(eps=0.1, p=2))",
    ]
    alone = tidy(raw(loss="l1"))
    assert set(alone["task"]) == set(alone["setting"]) == {"wavelet_l1, inpainting (loss=l1)"}


def test_the_column_alone_tells_losses_apart():
    """Two losses under one name of the objective are not averaged."""
    one = raw(higher={}, source="a")
    other = raw(higher={}, scale=100.0, objective_loss="l1", source="b")
    failed = other["objective_outer_step"] == other["objective_outer_step"].max()
    other.loc[failed, "objective_loss"] = None  # a row that does not say it is of its run's
    frame = tidy(pd.concat([one, other]))
    ends = last_rows(frame)
    assert len(ends) == 2 * len(METHODS) * REPETITIONS
    means = summarised(frame).numbers.set_index(["loss", "method"])["value_mean"]
    assert means["l1"].to_numpy() == pytest.approx(100 * means["mse"].to_numpy())


def test_f_says_its_loss_wherever_it_stands():
    made = {loss: raw(loss=loss, methods=METHODS[:2]) for loss in ("mse", "l1")}
    frames, mixed = (
        {loss: tidy(rows) for loss, rows in made.items()},
        tidy(pd.concat(made.values())),
    )
    headers = {loss: list(summarised(frame).text) for loss, frame in frames.items()}
    assert "F(θ)" in headers["mse"] and "F(θ), l1" in headers["l1"]
    assert "loss" not in summarised(frames["mse"]).numbers
    both = summarised(mixed)
    assert "F(θ), each task's own loss" in both.text
    read = pd.read_csv(io.StringIO(tables.to_csv(both.numbers)))
    assert called("value", read, {"value": "F"}) == "F, each task's own loss"
    labels = {}
    for loss, frame in frames.items():
        drawn = figures.accuracy(frame, page(frame)).figure
        labels[loss] = drawn.axes[0].get_ylabel()
        assert ("loss=l1" in drawn.get_suptitle()) == (loss == "l1")
    assert labels == {"mse": "F(θ) (MSE)", "l1": "F(θ) (l1)"}


def test_what_is_taken_over_tasks_names_their_losses():
    swept = [
        run(method, {"layers": layers}, task=task, evaluations=1)
        for task in (DENOISING, INPAINTING)
        for method in METHODS[:2]
        for layers in (1, 10)
    ]
    rows = pd.DataFrame([row for rows in swept for row in rows])
    where = rows["p_dataset_degradation"] == INPAINTING
    rows["objective_loss"] = where.map({True: "l1", False: "mse"})
    mixed, alone = tidy(rows), tidy(rows.assign(objective_loss="l1"))
    assert "problems solved (losses: l1, mse)" in profiles.ranking(mixed).text
    assert "problems solved" in profiles.ranking(alone).text
    label = profiles.performance(mixed, page(mixed)).figure.axes[0].get_ylabel()
    assert label == "share of 2 problems (losses: l1, mse)"


def test_a_claim_never_compares_runs_of_two_losses():
    deq, restarted = (raw(loss="l1", methods=["DEQ"]), raw(methods=["Restarted-JFB"], loss="mse"))
    apart = claims(tidy(pd.concat([deq, restarted]))).set_index("key").loc["accuracy"]
    assert set(apart["verdict"]) == {NOT_TESTED}
    same = pd.concat([deq, raw(loss="l1", methods=["Restarted-JFB"])])
    found = claims(tidy(same)).set_index("key").loc["accuracy"].iloc[0]
    assert found["verdict"] != NOT_TESTED and "loss=l1" in found["task"]


def test_the_configuration_of_a_claim_is_chosen_within_a_loss():
    """The least F of one loss may be of the worse configuration of the other."""

    def runs(loss: str, best: int) -> list[dict]:
        rows = []
        for method in ("Restarted-JFB", "DEQ"):
            for layers in (5, 10):
                for repetition in range(3):
                    own = run(method, {"layers": layers}, task=INPAINTING, repetition=repetition)
                    scale = (1.0 if layers == best else 2.0) * (1e-3 if loss == "l1" else 1.0)
                    for row in own:
                        row["objective_value"] *= scale
                        row["objective_loss"] = loss
                    rows += own
        return rows

    found = claims(tidy(pd.DataFrame(runs("l1", 5) + runs("mse", 10))))
    notes = found[found["value"].notna()].set_index("task")["note"]
    notes = {task: note for task, note in notes.items() if "against" in note and "JFB" in note}
    assert len(notes) == 2
    for task, note in notes.items():
        assert f"layers={5 if 'loss=l1' in task else 10}" in note
