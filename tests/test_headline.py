"""The headline table against plain numpy, and its marks."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from made_up import DENOISING, INPAINTING, run
from scipy import stats

from benchmark.report import headline, tables
from benchmark.report.frame import tidy

GAIN = {"Unrolling": -1.0, "JFB": -0.2, "Restarted-JFB": 0.001, "DEQ": 0.0}
HARD = np.random.default_rng(0).normal(27, 3, 16)


def frame(*, images: int = 16, repetitions: int = 1) -> pd.DataFrame:
    """Methods whose final test PSNRs differ by ``GAIN``, image by image; all start alike."""
    rows = []
    for repetition in range(repetitions):
        generator = np.random.default_rng(repetition)
        for method, gain in GAIN.items():
            noise = 0.02 * generator.normal(size=images)
            for row in run(method, {"layers": 10}, task=INPAINTING, repetition=repetition):
                ended = row["objective_outer_step"] > 0
                own = HARD[:images] - 5 + (5 + gain + noise) * ended + repetition
                row |= {"objective_test_psnr": own.mean(), "objective_test_psnr_images": own}
                rows.append(row)
    return tidy(pd.DataFrame(rows))


def test_numbers():
    numbers = headline.headline(frame(images=4)).numbers.set_index("configuration")
    start = numbers.loc["start"]
    low, high = stats.t.interval(0.95, 3, (HARD[:4] - 5).mean(), stats.sem(HARD[:4]))
    assert start["test_psnr"] == pytest.approx((HARD[:4] - 5).mean())
    assert (start["low"], start["high"]) == pytest.approx((low, high))
    deq = numbers.loc["DEQ (layers=10)"]
    assert deq["gain"] == pytest.approx(deq["test_psnr"] - start["test_psnr"])
    assert deq["gain"] == pytest.approx(5, abs=0.05)


def test_crops_of_one_photograph_are_one_unit():
    rows = frame(images=4).assign(test_photographs='["a", "a", "b", "b"]')
    found = headline.headline(rows).numbers.set_index("configuration").loc["start"]
    pairs = (HARD[:4] - 5).reshape(2, 2).mean(axis=1)
    assert found[["low", "high"]].tolist() == pytest.approx(
        stats.t.interval(0.95, 1, pairs.mean(), stats.sem(pairs))
    )
    assert found["how"] == "2 photographs"


def test_best_and_not_significantly_worse_are_bold():
    made = headline.headline(frame(repetitions=3))
    numbers = made.numbers
    best = set(numbers.loc[numbers["best"], "method"])
    assert best == {"Restarted-JFB", "DEQ"}
    text, bold = made.text, made.bold
    marked = [line for line in tables.to_markdown(text, bold).splitlines() if "**" in line]
    assert len(marked) == 2 and all("DEQ" in line or "Restarted" in line for line in marked)
    latex = tables.to_latex(text, bold)
    assert latex.count(r"\textbf{") == 2
    assert latex.count(" & ") == (text.shape[1] - 1) * (len(text) + 1)
    html = tables.to_html(text, bold, name="headline")
    assert html.count("font-weight: bold;") >= 2
    csv = pd.read_csv(io.StringIO(tables.to_csv(numbers)))
    assert csv["best"].tolist() == numbers["best"].tolist()


@pytest.mark.parametrize("seed", range(3))
def test_bold_is_monotone_in_the_mean_that_is_printed(seed):
    """Whatever repetitions and images are missing, and whatever ran twice."""
    rows, generator = frame(images=6, repetitions=4), np.random.default_rng(seed)
    images = rows["test_psnr_images"]
    moved = images.map(lambda own: own + generator.normal(0, 0.3, own.shape))
    rows = rows.assign(test_psnr_images=moved, test_psnr=moved.map(np.mean))
    runs = [own for _, own in rows.groupby(["method", "repetition"])]
    missing = generator.choice(len(runs), 3, replace=False)
    again = [own.assign(source="again") for own in (runs[i] for i in generator.choice(16, 4))]
    kept = [own for i, own in enumerate(runs) if i not in missing]
    rows = pd.concat([*kept, *again], ignore_index=True)
    numbers = headline.headline(rows).numbers.dropna(subset="test_psnr")
    assert numbers["best"].any()
    least = numbers.loc[numbers["best"], "test_psnr"].min()
    assert (numbers["best"] == (numbers["test_psnr"] >= least)).all()
    assert numbers["test_psnr"].between(numbers["low"], numbers["high"]).all()
    half = (numbers["low"] + numbers["high"]) / 2
    assert numbers["test_psnr"].to_numpy() == pytest.approx(half.to_numpy())


def test_marks_do_not_depend_on_row_order():
    rows = frame(repetitions=2)
    again = headline.headline(rows).numbers
    for seed in range(3):
        runs = list(rows.groupby(["configuration", "repetition"], sort=False))
        order = np.random.default_rng(seed).permutation(len(runs))
        shuffled = headline.headline(pd.concat([runs[index][1] for index in order])).numbers
        keyed = [t.sort_values("configuration").reset_index(drop=True) for t in (shuffled, again)]
        pd.testing.assert_frame_equal(*keyed)


def test_without_images_nothing_is_marked():
    rows = frame().drop(columns="test_psnr_images").assign(test_psnr_images=None)
    found = headline.headline(rows)
    assert not found.numbers["best"].any() and found.numbers["low"].isna().all()
    assert set(found.text["95 % interval"]) == {tables.MISSING}
    assert not found.bold and "Bold" not in found.note


def test_a_study_without_training_has_no_start():
    rows = run("JFB", {}, task=DENOISING, evaluations=1)
    numbers = headline.headline(tidy(pd.DataFrame(rows))).numbers
    assert numbers["method"].tolist() == ["JFB"] and numbers["gain"].isna().all()


def test_a_method_without_gradients_and_one_that_failed():
    rows = run("Grid-Search", {}, task=DENOISING) + run("DEQ", {}, task=DENOISING, status="oom")
    for row in rows:
        if row["objective_method"] == "Grid-Search":
            empty = ("gradient_error", "gradient_cosine", "gradient_seconds", "peak_memory_mib")
            row |= dict.fromkeys((f"objective_{n}" for n in (*empty, "layer_evals")), np.nan)
    text = headline.headline(tidy(pd.DataFrame(rows))).text.set_index("configuration")
    assert text.loc["Grid-Search", "gradient error, start"] == tables.MISSING
    assert text.loc["DEQ", "test PSNR (dB)"] == tables.MISSING
    assert text.loc["DEQ", "status"] == "0/1 ok, 1 oom"
    everything_failed = tidy(pd.DataFrame(run("DEQ", {}, task=DENOISING, status="oom")[-1:]))
    assert len(headline.headline(everything_failed).numbers) == 1


def falling(*values: float, method: str = "DEQ", repetition: int = 0) -> list[dict]:
    """A run of ten outer steps a value, of F with these values."""
    number = len(values)
    rows = run(method, {}, task=DENOISING, evaluations=number, repetition=repetition)
    return [row | {"objective_value": value} for row, value in zip(rows, values, strict=True)]


def rest(*runs: list[dict]) -> pd.DataFrame:
    """By configuration what is said of F."""
    made = headline.headline(tidy(pd.DataFrame([row for rows in runs for row in rows])))
    return made.text.assign(moved=made.numbers["moved"], note=made.note).set_index("configuration")


def test_f_is_at_rest_if_it_changed_by_a_thousandth_over_the_last_fifth():
    """Of 50 outer steps the last fifth begins at 40, which is evaluated, so 30 is not looked at."""
    found = rest(
        falling(9.0, 8.0, 7.0, 6.0, 2.0, 2.0 * (1 - 0.00099), method="DEQ"),
        falling(9.0, 2.0, 2.0, 2.0, 2.0, 2.0 * (1 - 0.00101), method="JFB"),
        falling(9.0, 2.0, 2.0, 2.0, 2.0, 2.0 * (1 + 0.00101), method="Unrolling"),
    )
    assert found["F at rest"].to_dict() == {
        "start": tables.MISSING,
        "DEQ": "yes, 0.10%",
        "JFB": "no, 0.10%",
        "Unrolling": "no, 0.10%",
    }
    assert found.loc["JFB", "moved"] == pytest.approx(0.00101)
    assert "at most 0.1% from the last evaluation within four fifths" in found["note"].iloc[0]


def test_the_evaluation_before_the_last_fifth_is_the_last_one_there():
    """Of 30 outer steps the last fifth begins at 24: what F was at 20 counts, not at 10."""
    assert rest(falling(9.0, 3.0, 2.0, 1.0)).loc["DEQ", "F at rest"] == "no, 50.00%"
    assert rest(falling(9.0, 3.0, 2.0, 2.0)).loc["DEQ", "F at rest"] == "yes, 0.00%"


def test_every_run_is_to_be_at_rest():
    still, moving = falling(9.0, 2.0, 2.0, 2.0), falling(9.0, 2.0, 2.0, 1.9, repetition=1)
    assert rest(still, moving).loc["DEQ", "F at rest"] == "no, 5.00%"
    failed = [row | {"objective_status": "oom"} for row in moving]
    assert rest(still, failed).loc["DEQ", "F at rest"] == "yes, 0.00%"


def test_a_start_and_an_end_do_not_show_whether_f_is_at_rest():
    found = rest(falling(9.0, 2.0))["F at rest"].to_dict()
    assert found == {"start": tables.MISSING, "DEQ": "unknown"}
    seldom = falling(9.0, 2.0, 2.0, 2.0, repetition=1)[::3]
    one, other = (falling(9.0, 2.0, 2.0, 2.0, method=method) for method in ("DEQ", "JFB"))
    found = rest(one, seldom, other)["F at rest"].to_dict()
    assert found == {"start": tables.MISSING, "JFB": "yes, 0.00%", "DEQ": "unknown"}
    assert (
        "F at rest"
        not in headline.headline(
            tidy(pd.DataFrame(run("DEQ", {}, task=DENOISING, evaluations=1)))
        ).text
    )
