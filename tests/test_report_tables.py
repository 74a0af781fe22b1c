"""The report's tables and the names in them, on made-up results."""

from __future__ import annotations

import io
import re

import numpy as np
import pandas as pd
import pytest
from made_up import (
    DENOISING,
    RUN_OF,
    STUDY,
    TASKS,
    run,
    study,
    sweep,
)

from benchmark.options.spec import split_call
from benchmark.report import tables
from benchmark.report.frame import tidy
from benchmark.report.names import distinguish, file_names
from benchmark.report.style import FREE, KNOWN, method_styles, variants


@pytest.fixture(scope="module")
def frame():
    """The tidy frame of the study and the whole sweep."""
    return tidy(pd.concat([study(), sweep()]))


# --- the table -------------------------------------------------------------------------------


def test_table_against_plain_pandas(frame):
    """Every mean and deviation again, from the raw frames, by another route."""
    written = io.StringIO(tables.to_csv(tables.summary(frame)))
    table = pd.read_csv(written).set_index(["task", "configuration"])
    raw = study()
    for task, name in zip(TASKS, ("denoising", "inpainting"), strict=True):
        for method, parameters in STUDY:
            rows = raw[(raw["p_dataset_degradation"] == task) & (raw["objective_method"] == method)]
            rows = rows[(rows["objective_outer_step"] == 70) & (rows["objective_status"] == "ok")]
            inside = [f"{k}={parameters[k]}" for k in ("layers", "restarts") if k in parameters]
            label = f"{method} ({', '.join([*inside, 'steps=70'])})"
            entry = table.loc[f"wavelet_l1, {name}", label]
            begin = raw[(raw["objective_outer_step"] == 0)].merge(rows[[*RUN_OF, "idx_rep"]])
            for column in tables.columns(frame):
                if column == "time_ratio":
                    continue
                at = begin if column.endswith("_start") else rows
                source = "time" if column == "seconds" else f"objective_{column}"
                numbers = at[source.removesuffix("_start")]
                assert entry[f"{column}_mean"] == pytest.approx(numbers.mean()), column
                assert entry[f"{column}_std"] == pytest.approx(numbers.std(), nan_ok=True)
                assert entry[f"{column}_count"] == len(rows)


def test_configuration_that_always_failed_keeps_its_row():
    rows = run("DEQ", {}, task=DENOISING, status="oom")
    rows += run("JFB", {}, task=DENOISING)
    text = tables.summarised(tidy(pd.DataFrame(rows))).text.set_index("configuration")
    assert text.loc["DEQ", "status"] == "0/1 ok, 1 oom"
    assert text.loc["DEQ", "test PSNR (dB)"] == tables.MISSING
    only_failed = tables.summary(tidy(pd.DataFrame(rows[:5])))
    assert only_failed["ok"].tolist() == [0]


def test_time_ratio_is_within_one_file_and_repetition():
    fast, slow = STUDY[0], STUDY[3]
    rows = []
    for source, load in {"a": 1.0, "b": 7.0}.items():
        for repetition in range(2):
            for method, parameters in (fast, slow):
                for row in run(method, parameters, task=DENOISING, repetition=repetition):
                    seconds = load * row["objective_gradient_seconds"]
                    rows.append({**row, "source": source, "objective_gradient_seconds": seconds})
    numbers = tables.summary(tidy(pd.DataFrame(rows))).set_index("configuration")
    # 120 layers and 60 products at two layers each, against 10 and 10
    assert numbers.loc["DEQ", "time_ratio_mean"] == pytest.approx(240 / 30)
    assert numbers.loc["DEQ", "time_ratio_std"] == pytest.approx(0, abs=1e-12)
    assert numbers.loc["Unrolling (layers=10)", "time_ratio_mean"] == 1
    assert numbers.loc["DEQ", "gradient_seconds_count"] == 4


def test_row_order_does_not_matter(frame):
    raw = pd.concat([study(), sweep()])
    shuffled = tidy(raw.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(shuffled, frame)
    assert tables.to_csv(tables.summary(shuffled)) == tables.to_csv(tables.summary(frame))


@pytest.mark.parametrize(
    ("mean", "std", "decimals", "written"),
    [
        (28.314, 0.0421, 2, "28.31 ± 0.04"),
        (28.314, np.nan, 2, "28.31"),
        (np.nan, np.nan, 2, "—"),
        (0.012345, 0.00067, np.nan, "0.0123 ± 0.0007"),
        (3.14e-7, 2.1e-8, np.nan, "(3.14 ± 0.21)e-07"),
        (3.14e-7, np.nan, np.nan, "3.14e-07"),
        (1234.5, np.nan, np.nan, "1234"),
        (0.0, np.nan, np.nan, "0.00"),
        (60.0, 0.0, 0, "60 ± 0"),
        (60.5, 0.7, 0, "60.5 ± 0.7"),
    ],
)
def test_measured(mean, std, decimals, written):
    assert tables.measured(mean, std, decimals=decimals) == written


def test_latex_is_escaped(frame):
    text = tables.to_latex(tables.summarised(frame).text)
    assert r"wavelet\_l1, denoising & Unrolling (layers=10, steps=70)" in text
    assert r"$\pm$" in text and "±" not in text
    assert text.count(r"\midrule") == 2


# --- names and styles ------------------------------------------------------------------------


def test_split_call():
    found = split_call("A[lower=b(c=1,d=(2, 3)),size:4]")
    assert found == ("A", {"lower": "b(c=1,d=(2, 3))", "size": "4"})
    assert split_call("plain") == ("plain", {})


def test_distinguish_shows_what_differs():
    details = {1: {"a": "1", "b": "2"}, 2: {"a": "1", "b": "3"}, 3: {"a": "9"}}
    heads = {1: "x", 2: "x", 3: "y"}
    assert distinguish(heads, details) == {1: "x (b=2)", 2: "x (b=3)", 3: "y"}
    assert distinguish(heads, details, ("a",))[3] == "y (a=9)"


def test_tasks_differ_by_what_differs():
    rows = []
    for task in ("inpainting(keep=0.5,noise=0.05)", "inpainting(keep=0.1,noise=0.05)"):
        for row in run("JFB", {}, task=DENOISING):
            name = f"Photographs[degradation={task},size=64]"
            rows.append({**row, "p_dataset_degradation": task, "dataset_name": name})
    tasks = sorted(set(tidy(pd.DataFrame(rows))["task"]))
    assert tasks == ["wavelet_l1, inpainting (keep=0.1)", "wavelet_l1, inpainting (keep=0.5)"]
    assert list(file_names(tasks).values()) == [
        "wavelet_l1_inpainting_keep_0.1",
        "wavelet_l1_inpainting_keep_0.5",
    ]


def test_file_names_are_safe_and_distinct():
    names = file_names(["a/b", "a:b", "A b", "x" * 200, "../.."])
    assert len({name.lower() for name in names.values()}) == 5
    assert all(len(name) <= 64 and re.fullmatch(r"[\w.]+", name) for name in names.values())
    assert not any(name.startswith(".") for name in names.values())


def test_styles_are_fixed_for_known_methods_and_distinct_for_others():
    styles = method_styles(["Zeta", "DEQ", "Alpha", "JFB"])
    assert styles["DEQ"] == KNOWN["DEQ"] and styles["JFB"] == KNOWN["JFB"]
    assert (styles["Alpha"], styles["Zeta"]) == FREE[:2]
    many = method_styles([*KNOWN, *(f"method {index}" for index in range(2 * len(FREE)))])
    assert len(set(many.values())) == len(many)
    markers = {(style.marker, style.filled) for style in (*KNOWN.values(), *FREE)}
    assert len(markers) == len(KNOWN) + len(FREE)
    assert len({style.color for style in (*KNOWN.values(), *FREE)}) == len(KNOWN) + len(FREE)
    assert len(set(variants(KNOWN["DEQ"], 4))) == 4
