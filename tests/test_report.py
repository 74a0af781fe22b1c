"""The report's command line on made-up results: every artefact, provenance, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pandas as pd
import pytest
from made_up import (
    DENOISING,
    INPAINTING,
    ROOT,
    STUDY,
    cli,
    one_task,
    save,
    study,
    sweep,
)
from PIL import Image

from benchmark.report import build, drawing, figures, pictures, tables
from benchmark.report.drawing import Page
from benchmark.report.frame import tidy
from benchmark.report.reading import read
from benchmark.report.style import KNOWN, method_styles


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A study of inpainting, a sweep of denoising without images, and a memory curve."""
    folder = tmp_path_factory.mktemp("inputs")
    curve = {"method": ["JFB", "DEQ"] * 5, "seconds": range(10), "mib": range(100, 110)}
    pd.DataFrame(curve).to_csv(folder / "memory.csv", index=False)
    without = sweep(tasks=[DENOISING], depths=(1, 10)).drop(columns="objective_truth")
    return [
        save(study(tasks=[INPAINTING]), folder / "study.parquet"),
        save(without, folder / "sweep.parquet"),
        "--memory-curve",
        folder / "memory.csv",
    ]


@pytest.fixture(scope="module")
def page(inputs, tmp_path_factory):
    """What the whole report wrote, the figures' files empty, and what it printed."""
    out = tmp_path_factory.mktemp("page") / "made" / "here"
    code, printed, _ = cli(*inputs, "--out", out, drawn=False)
    assert code == 0
    return out, printed


@pytest.fixture(scope="module")
def elsewhere(inputs, tmp_path_factory):
    """What ``python -m benchmark.report`` wrote of two kinds of figures.

    It fails if torch was imported, by that or by any other module of the report.
    """
    out = tmp_path_factory.mktemp("elsewhere")
    names = [path.stem for path in (ROOT / "benchmark" / "report").glob("[!_]*.py")]
    assert {"claims", "merge", "check", "build", "profiles"} <= set(names)
    script = (
        "import atexit, os, runpy, sys\n"
        "from importlib import import_module\n"
        "atexit.register(lambda: 'torch' in sys.modules and os._exit(3))\n"
        f"for name in {names}: import_module('benchmark.report.' + name)\n"
        "runpy.run_module('benchmark.report', run_name='__main__')\n"
    )
    options = ("--out", str(out), "--only", "memory", "reconstructions")
    command = [sys.executable, "-c", script, *map(str, inputs), *options]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONIOENCODING": "utf-8"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    return out


def test_every_artefact_is_written_or_explained(page):
    out, printed = page
    drawn = {f"{kind}_wavelet_l1_inpainting" for kind in ("accuracy", "reconstructions")}
    drawn |= {"gradient_error_wavelet_l1_denoising", "time", "memory", "memory_over_time"}
    drawn |= {"pareto_wavelet_l1_denoising", "pareto_wavelet_l1_inpainting", "performance"}
    drawn |= {"scaling", "learned_wavelet_l1_inpainting"}
    written = {path.name for path in out.iterdir()}
    assert {path for path in written if path.endswith(".png")} == {f"{n}.png" for n in drawn}
    assert {path for path in written if path.endswith(".pdf")} == {f"{n}.pdf" for n in drawn}
    others = {path for path in written if not path.endswith((".png", ".pdf"))}
    kinds = ("csv", "md", "tex", "html")
    names = {
        f"{name}.{kind}"
        for name in ("table", "headline", "time_to_accuracy", "ranking", "work")
        for kind in kinds
    }
    assert others == {*names, "provenance.json"}
    lines = printed.splitlines()
    assert "gradient_error_wavelet_l1_inpainting: skipped, needs at least two depths" in lines
    assert (
        "accuracy_wavelet_l1_denoising: skipped, needs at least two evaluations of a run" in lines
    )
    assert "reconstructions_wavelet_l1_denoising: skipped, no images in the data" in lines
    assert "read study.parquet: 61 rows, 61 used" in lines


def test_png_has_at_least_150_dpi(elsewhere):
    with Image.open(elsewhere / "memory.png") as picture:
        assert min(picture.info["dpi"]) >= 150


def test_same_bytes_in_another_process(elsewhere, inputs, tmp_path):
    """Neither figures nor tables depend on the process, its hash seed or the time of day."""
    again = tidy(read(inputs[1::-1]).rows)
    styles = method_styles(again["method"])
    with drawing.look():
        drawings = {
            "memory": figures.memory(again, Page(styles)),
            "reconstructions_wavelet_l1_inpainting": pictures.reconstructions(
                one_task(again, "inpainting"), Page(styles)
            ),
        }
        for name, drawn in drawings.items():
            for file in drawing.save(drawn.figure, tmp_path / name):
                assert (tmp_path / file).read_bytes() == (elsewhere / file).read_bytes(), file
    for name, content in tables.summarised(again).files().items():
        assert content == (elsewhere / name).read_text(encoding="utf-8"), name


def test_provenance(page, inputs):
    out, _ = page
    record = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs[:2]]
    assert [entry["sha256"] for entry in record["inputs"]] == digests
    assert [entry["file"] for entry in record["inputs"]] == ["study.parquet", "sweep.parquet"]
    assert record["rows"] == {"read": 71, "used": 71}
    assert record["sources_digests"] == ["abc123"]
    assert record["torch_versions"] == ["2.14.0"]
    assert record["threads"] == ["1"]
    assert record["platform"]["platform"] == ["Linux"]
    assert len(record["images_digests"]) == 2
    skipped = [entry["name"] for entry in record["artefacts"] if "skipped" in entry]
    assert len(skipped) == 5 and "gradient_error_wavelet_l1_inpainting" in skipped
    assert record["columns"] == "two"


def test_the_same_file_twice_counts_once(tmp_path):
    path = save(study(methods=STUDY[:1]), tmp_path / "a.parquet")
    again = tmp_path / "b.parquet"
    again.write_bytes(path.read_bytes())
    results = read([path, again])
    assert [source.rows_used for source in results.sources] == [32, 0]
    assert results.sources[1].left_out == {"same content as an earlier file": 32}
    assert len(results.rows) == 32


def _without(column):
    return lambda path: save(study(methods=STUDY[:1]).drop(columns=column), path)


def _truncated(path):
    save(study(methods=STUDY[:1]), path)
    path.write_bytes(path.read_bytes()[:-500])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_text("not a parquet file"), "not a readable benchopt parquet"),
        (_truncated, "not a readable benchopt parquet"),
        (lambda path: path.write_bytes(b""), "not a readable benchopt parquet"),
        (lambda path: save(study().iloc[:0], path), "no rows"),
        (_without("objective_test_psnr"), "no column objective_test_psnr"),
        (_without(["objective_value", "time"]), "no columns time, objective_value"),
        (_without("solver_name"), "no column solver_name"),
    ],
)
def test_unusable_input_is_one_line_and_exit_code_2(make, said, tmp_path):
    path = tmp_path / "given.parquet"
    make(path)
    code, _, complaint = cli(path, "--out", tmp_path / "out")
    assert code == 2
    assert complaint.count("\n") == 1
    assert str(path) in complaint and said in complaint
    assert not (tmp_path / "out").exists()


def test_rows_left_out_and_rows_without_numbers_are_counted(tmp_path, monkeypatch):
    whole = study(tasks=[INPAINTING])
    loose = whole["objective_method"] == "JFB"
    whole.loc[loose, "objective_reference_residual"] = 1e-3
    whole.loc[whole.index[0], "solver_name"] = None
    first = save(whole, tmp_path / "a.parquet")
    second = save(whole[~loose].assign(extra=1), tmp_path / "b.parquet")
    results = read([first, second])
    assert "extra" not in results.rows  # nobody asks for it
    nameless = {"no solver, dataset or objective name": 1}
    assert results.sources[0].left_out == nameless
    assert results.sources[1].left_out == {**nameless, "same content as an earlier row": 44}
    why = "without a gradient error: the reference's residual is above 1e-06"
    assert results.sources[0].incomplete == {"without numbers: diverged": 1, why: 16}
    monkeypatch.setattr(build, "figure_jobs", lambda *args, **kwargs: iter(()))
    _, printed, _ = cli(first, second, "--out", tmp_path / "out", drawn=False)
    assert f"  16 rows {why}" in printed.splitlines()
    record = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    assert record["inputs"][1]["left_out"]["same content as an earlier row"] == 44


def test_site_is_built_from_a_folder_of_results(monkeypatch, tmp_path):
    asked = []
    module = types.SimpleNamespace(report=lambda results, out: asked.append((results, out)))
    module.__doc__ = ""
    monkeypatch.setitem(sys.modules, "benchmark.report.site", module)
    assert cli("site", "--out", tmp_path)[0] == 0
    assert cli("site", tmp_path, "--out", tmp_path / "pages")[0] == 0
    assert asked == [(Path("results"), tmp_path), (tmp_path, tmp_path / "pages")]


def test_many_reconstructions_take_several_lines():
    rows = study(methods=[(name, {}) for name in KNOWN], tasks=[DENOISING])
    frame = tidy(rows)
    made = pictures.reconstructions(frame, Page(method_styles(frame["method"])))
    shown = [axis for axis in made.figure.axes if axis.images]
    assert len(shown) == 3 * (len(KNOWN) + 2) - 1  # the truth has no error map
    assert made.figure.get_figheight() > 4 and not made.notes


def test_unusable_memory_curve(tmp_path):
    path = save(study(methods=STUDY[:1]), tmp_path / "a.parquet")
    curve = tmp_path / "memory.csv"
    curve.write_text("method,seconds\nDEQ,1\n")
    code, _, complaint = cli(path, "--out", tmp_path / "out", "--memory-curve", curve)
    assert (code, complaint) == (2, f"error: {curve}: no column mib\n")


def test_table_keeps_failures_and_every_configuration(page):
    out, _ = page
    table = pd.read_csv(out / "table.csv")
    failed = table[(table["method"] == "DEQ") & (table["task"] == "wavelet_l1, inpainting")]
    assert failed["status"].tolist() == ["1/2 ok, 1 diverged"]
    assert len(table) == len(STUDY) + 10
    for name in ("table.md", "table.tex", "table.html"):
        assert "1/2 ok, 1 diverged" in (out / name).read_text(encoding="utf-8")
