"""Merged files say no less and no more than their parts, and refuse what cannot be compared."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from benchopt.results import read_results
from made_up import STUDY, cli, save, study

from benchmark.report.frame import tidy
from benchmark.report.reading import read


@pytest.fixture
def parts(tmp_path):
    """Two methods in a file each, with values per image."""
    found = []
    for index, name in enumerate("ab"):
        rows = study(methods=STUDY[index : index + 1])
        rows["objective_test_psnr_images"] = [np.arange(4.0) + index for _ in range(len(rows))]
        found.append(save(rows, tmp_path / f"{name}.parquet"))
    return found


def changed(path, name, **columns):
    """A copy with other columns, under another name."""
    rows = read_results(path).assign(**columns)
    return save(rows, path.with_name(name))


def test_benchopt_and_the_report_read_what_was_merged(parts, tmp_path):
    before = [path.read_bytes() for path in parts]
    out = tmp_path / "deep" / "c.parquet"
    code, printed, _ = cli("merge", *parts, "--out", out)
    assert code == 0 and f"{out}: 64 rows" in printed
    assert [path.read_bytes() for path in parts] == before
    whole = pd.concat([read_results(path) for path in parts], ignore_index=True)
    merged = read_results(out)
    assert list(merged.columns) == list(whole.columns)
    pd.testing.assert_frame_equal(
        merged[["time", "objective_value"]], whole[["time", "objective_value"]]
    )
    assert merged["objective_test_psnr_images"].iloc[40].tolist() == [1, 2, 3, 4]
    pictures = merged["objective_truth"].dropna()
    assert len(pictures) == 8 and pictures.iloc[0].shape == (32, 32, 3)
    drop = ["source", "message", "observation", "reconstruction", "truth", "test_psnr_images"]
    one, two = tidy(read([out]).rows), tidy(read(parts).rows)
    pd.testing.assert_frame_equal(one.drop(columns=drop), two.drop(columns=drop))
    assert [path.name for path in out.parent.iterdir()] == ["c.parquet"]


def test_pictures_that_may_not_be_passed_on_are_left_out(parts, tmp_path):
    out = tmp_path / "c.parquet"
    assert cli("merge", parts[0], "--out", out, "--without-pictures")[0] == 0
    whole, left = read_results(parts[0]), read_results(out)
    pictures = {f"objective_{name}" for name in ("truth", "observation", "reconstruction")}
    assert set(whole.columns) - set(left.columns) == pictures <= set(whole.columns)
    pd.testing.assert_frame_equal(left, whole[left.columns], check_dtype=False)
    code, printed, _ = cli(out, "--out", tmp_path / "report", "--only", "reconstructions")
    assert code == 0 and "no images in the data" in printed


def test_duplicates_are_dropped_and_counted(parts, tmp_path):
    both = tmp_path / "both.parquet"
    cli("merge", *parts, "--out", both)
    code, printed, _ = cli("merge", both, parts[0], "--out", tmp_path / "c.parquet")
    assert code == 0 and f"{parts[0]}: 0 rows, 32 duplicates dropped" in printed
    assert len(read_results(tmp_path / "c.parquet")) == 64
    results = read([both, parts[0]])
    assert results.sources[1].left_out == {"same content as an earlier row": 32}
    # of one name and time, and of other numbers, is no duplicate
    other = changed(parts[0], "n.parquet", objective_gradient_error=0.123)
    assert read([both, other]).sources[1].left_out == {}


def test_other_versions_are_noted(parts, tmp_path):
    other = changed(parts[1], "o.parquet", objective_torch_version="2.9.0")
    code, printed, _ = cli("merge", parts[0], other, "--out", tmp_path / "c.parquet")
    assert code == 0 and "note: torch_version: 2.14.0, 2.9.0" in printed


def test_other_sources_need_to_be_allowed(parts, tmp_path):
    other = changed(parts[1], "o.parquet", objective_sources_digest="fedcba")
    out = tmp_path / "c.parquet"
    code, printed, _ = cli("merge", parts[0], other, "--out", out, "--allow-other-sources")
    assert code == 0 and printed.count(": 32 rows\n") == 2
    assert "they differ in (the whole package)" in printed
    out.unlink()
    refused(
        cli("merge", parts[0], other, "--out", tmp_path / "c.parquet"), other, "fedcba", "abc123"
    )


def test_other_images_are_refused(parts, tmp_path):
    other = changed(parts[1], "o.parquet", objective_images_digest="other")
    refused(cli("merge", parts[0], other, "--out", tmp_path / "c.parquet"), other, "other", "img")
    assert not (tmp_path / "c.parquet").exists()


def _tensors(path):
    rows = study(methods=STUDY[:1])
    rows["objective_value"] = [torch.tensor(1.0) for _ in range(len(rows))]
    save(rows, path)


def _truncated(path):
    save(study(methods=STUDY[:1]), path)
    path.write_bytes(path.read_bytes()[:-500])


BROKEN = [
    (_tensors, "objective_value holds packed objects, expected numbers"),
    (_truncated, "not a readable benchopt parquet"),
    (lambda path: save(study().drop(columns="objective_test_psnr"), path), "no column"),
    (lambda path: None, "no such file"),
]


@pytest.mark.parametrize(("make", "said"), BROKEN)
def test_broken_files_are_one_line(make, said, parts, tmp_path):
    path = tmp_path / "broken.parquet"
    make(path)
    for done in (
        cli("merge", parts[0], path, "--out", tmp_path / "c.parquet"),
        cli(parts[0], path, "--out", tmp_path / "out"),
        cli("claims", parts[0], path),
    ):
        refused(done, path, said)
    assert not (tmp_path / "c.parquet").exists() and not (tmp_path / "out").exists()


def test_files_need_what_they_are_compared_by(parts, tmp_path):
    path = save(study().drop(columns="objective_images_digest"), tmp_path / "old.parquet")
    refused(cli("merge", path, parts[0], "--out", tmp_path / "c.parquet"), path, "images_digest")


def test_an_input_is_never_overwritten(parts):
    refused(cli("merge", *parts, "--out", parts[0]), parts[0], "one of the inputs")


def refused(done, path, *said):
    code, _, complaint = done
    assert code == 2 and complaint.count("\n") == 1
    assert str(path) in complaint and all(word in complaint for word in said), complaint


def test_no_mark_of_html_comes_into_benchopts_page(tmp_path):
    """benchopt writes names into its page as they are."""
    rows = study(methods=STUDY[:1])
    evil = "</script><img src=x onerror='a()'>\"x"
    names = {"solver_name": evil, "p_solver_<b>": '"><i>', "objective_json": '{"a": "<b>"}'}
    source = save(rows.assign(**names), tmp_path / "a.parquet")
    assert cli("plain", source, "--out", tmp_path / "b.parquet")[0] == 0
    found, before = read_results(tmp_path / "b.parquet"), read_results(source)
    texts = [*found.columns, *(c for name in found for c in found[name] if isinstance(c, str))]
    assert not any(mark in text for text in texts for mark in "<>")
    assert found["solver_name"].iloc[0] == "‹/script›‹img src=x onerror='a()'›”x"
    assert found["p_solver_‹b›"].iloc[0] == "”›‹i›"
    assert found["objective_json"].iloc[0] == '{"a": "‹b›"}'
    numbers = before.select_dtypes("number").columns
    pd.testing.assert_frame_equal(found[numbers], before[numbers])
    for name in ("objective_truth", "dataset_name"):
        np.testing.assert_equal([*found[name]], [*before[name]])
