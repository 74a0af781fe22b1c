"""Results of real runs made with other versions of the libraries: merged, tabulated and drawn."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import cli
from scipy import stats

from benchmark.report import drawing, figures
from benchmark.report.drawing import Page
from benchmark.report.frame import tidy
from benchmark.report.reading import read
from benchmark.report.style import method_styles

FILES = sorted((Path(__file__).parent / "data" / "versions").glob("*.parquet"))
METHODS = ("Unrolling", "JFB", "DEQ")
TASKS = ("denoising", "inpainting")
#: how benchopt marks what it has packed
PACKED = b"\x00benchopt-pkl\x00"


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """All rows as pandas alone reads them."""
    return pd.concat([pd.read_parquet(path).assign(file=path.name) for path in FILES])


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, pd.DataFrame]:
    out = tmp_path_factory.mktemp("report")
    code, printed, _ = cli(*FILES, "--out", out, "--only", "time", drawn=False)
    assert code == 0
    assert "the rows come from 2 different torch_versions" in printed
    return {name: pd.read_csv(out / f"{name}.csv") for name in ("headline", "table")}


def runs_of(rows: pd.DataFrame, task: str, method: str) -> pd.DataFrame:
    return rows[
        rows["p_dataset_degradation"].str.startswith(task)
        & rows["solver_name"].str.startswith(f"{method}[")
    ]


def last_rows(rows: pd.DataFrame, task: str, method: str) -> pd.DataFrame:
    """One row a run: its last."""
    own = runs_of(rows, task, method)
    return own.sort_values("objective_outer_step").groupby(["file", "idx_rep"]).tail(1)


def entry(table: pd.DataFrame, task: str, method: str) -> pd.Series:
    found = table[(table["task"] == f"wavelet_l1, {task}") & (table["method"] == method)]
    assert len(found) == 1
    return found.iloc[0]


def students_interval(values: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean and 95 % interval of a crossed table, by plain loops."""
    rows = [sum(row) / len(row) for row in values]
    columns = [sum(column) / len(column) for column in zip(*values, strict=True)]
    mean = sum(rows) / len(rows)

    def squared(means: list[float]) -> float:
        n = len(means)
        variance = sum((m - mean) ** 2 for m in means) / (n - 1)
        return stats.t.ppf(0.975, n - 1) ** 2 * variance / n

    half = sqrt(squared(rows) + squared(columns))
    return mean, mean - half, mean + half


def test_the_files_were_made_with_other_versions(rows):
    for column in ("objective_torch_version", "version-numpy"):
        assert rows.groupby("file")[column].nunique().tolist() == [1, 1, 1]
        assert rows[column].nunique() == 2


def test_they_merge(tmp_path):
    out = tmp_path / "merged.parquet"
    code, printed, _ = cli("merge", *FILES, "--out", out)
    assert code == 0
    assert "162 rows" in printed
    assert "note: torch_version: 2.13.0+cpu, 2.14.1+cu130" in printed
    assert "note: version-numpy: 2.2.6, 2.4.6" in printed
    assert len(read([out]).rows) == 162


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", METHODS)
def test_tables_against_plain_pandas(rows, tables, task, method):
    own = last_rows(rows, task, method)
    assert len(own) == 9
    headline, table = (entry(tables[name], task, method) for name in ("headline", "table"))
    images = [
        np.mean(
            [pickle.loads(cell[len(PACKED) :]) for cell in group["objective_test_psnr_images"]],
            axis=0,
        ).tolist()
        for _, group in own.groupby("idx_rep")
    ]
    found = (headline["test_psnr"], headline["low"], headline["high"])
    assert found == pytest.approx(students_interval(images), rel=1e-12)
    assert headline["how"] == "8 images (each as a photograph) and 3 repetitions"
    for column in ("gradient_error", "gradient_seconds", "peak_memory_mib", "layer_evals"):
        values = own[f"objective_{column}"]
        assert headline[column] == pytest.approx(values.mean(), rel=1e-12)
        assert table[f"{column}_mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert table[f"{column}_std"] == pytest.approx(values.std(), rel=1e-9, abs=1e-15)
        assert table[f"{column}_count"] == 9
    assert headline["status"] == table["status"] == "9/9 ok"


@pytest.mark.parametrize("method", METHODS)
def test_curves_against_plain_pandas(rows, method):
    frame = tidy(read(FILES).rows)
    part = frame[frame["task"] == "wavelet_l1, inpainting"]
    styles = method_styles(frame["method"])
    with drawing.look():
        axes = np.array(figures.accuracy(part, Page(styles)).figure.axes).reshape(3, 3)
    line = {line.get_color(): line for line in axes[1][2].lines}[styles[method].color]
    own = runs_of(rows, "inpainting", method)
    median = own.groupby("objective_outer_step")["objective_test_psnr"].median()
    assert list(line.get_xdata()) == list(median.index)
    assert list(line.get_ydata()) == pytest.approx(list(median))


def test_other_versions_give_the_same_numbers(rows):
    """To what float32 training leaves open; the images are the same to the bit."""
    assert rows.groupby(["dataset_name", "idx_rep"])["objective_images_digest"].nunique().max() == 1
    for task in TASKS:
        for method in METHODS:
            own = last_rows(rows, task, method)
            spread = own.groupby("idx_rep")["objective_test_psnr"].agg(np.ptp)
            assert spread.max() < 1e-3
