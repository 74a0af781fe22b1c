"""A site of studies that are broken: one clear line, and the earlier build is left."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from site_pages import write_study

from benchmark.report.reading import ReportError
from benchmark.report.site import report as build


def _no_table(folder):
    (folder / "table.csv").unlink()


def _no_column(folder):
    (folder / "table.csv").write_text("task,configuration\na,b\n", encoding="utf-8")


def _words_for_numbers(folder):
    text = (folder / "table.csv").read_text(encoding="utf-8")
    (folder / "table.csv").write_text(text.replace("26.5", "many"), encoding="utf-8")


def _binary_table(folder):
    (folder / "table.csv").write_bytes(b"\xff\xfe\x00\x01")


def _empty_table(folder):
    (folder / "table.csv").write_text("", encoding="utf-8")


def _broken_json(folder):
    (folder / "provenance.json").write_text("{", encoding="utf-8")


def _list(folder):
    (folder / "provenance.json").write_text("[]", encoding="utf-8")


def _no_artefacts(folder):
    (folder / "provenance.json").write_text('{"inputs": []}', encoding="utf-8")


def _odd_inputs(folder):
    record = '{"artefacts": [], "inputs": [{"file": 3}]}'
    (folder / "provenance.json").write_text(record, encoding="utf-8")


def _broken_image(folder):
    (folder / "accuracy_plain.png").write_bytes(b"no image")


def _broken_claims(folder):
    (folder / "claims.csv").write_bytes(b"\xff\xfe\x00")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A study and its site."""
    base = tmp_path_factory.mktemp("whole")
    write_study(base / "results" / "a")
    build(base / "results", base / "out")
    return base


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (_no_table, "table.csv: not a readable table"),
        (_no_column, "no columns method, status, runs, ok"),
        (_words_for_numbers, "column test_psnr_mean: 'many', expected a number"),
        (_binary_table, "table.csv: not a readable table"),
        (_empty_table, "table.csv: not a readable table"),
        (_broken_json, "provenance.json: not as the report writes it (Expecting property"),
        (_list, "provenance.json: not as the report writes it (list indices"),
        (_no_artefacts, "provenance.json: not as the report writes it ('artefacts')"),
        (_odd_inputs, "provenance.json: not as the report writes it (expected str"),
        (_broken_image, "accuracy_plain.png: not a readable image"),
        (_broken_claims, "claims.csv: not a readable table"),
    ],
)
def test_a_broken_study_gives_one_clear_line_and_leaves_the_earlier_build(
    whole, tmp_path, breaks, says
):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    breaks(tmp_path / "results" / "a")
    with pytest.raises(ReportError, match=re.escape(says)) as caught:
        build(tmp_path / "results", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "out" / "studies" / "a.html").is_file()


def test_no_results_is_said(tmp_path):
    with pytest.raises(ReportError, match="no such folder"):
        build(tmp_path / "results", tmp_path / "out")
    (tmp_path / "results").mkdir()
    with pytest.raises(ReportError, match="no study in it"):
        build(tmp_path / "results", tmp_path / "out")


def test_a_single_study_and_files_outside_its_folder(tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (10, 10)).save(secret)
    files = [{"name": "x", "files": ["../secret.png"], "left_out": []}]
    write_study(tmp_path / "alone", artefacts=files)
    build(tmp_path / "alone", tmp_path / "out")
    assert (tmp_path / "out" / "studies" / "alone.html").is_file()
    assert not list((tmp_path / "out").rglob("secret.png"))
