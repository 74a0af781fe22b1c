"""The figure of the first page: a column for each study, errors above, training below."""

from __future__ import annotations

from conftest import ROOT
from made_up import cli

from benchmark.report import story
from benchmark.report.style import method_styles

QUICK = ROOT / "results" / "quick" / "quick.parquet"


def test_each_study_has_a_column_of_its_numbers():
    tasks = [story._task(QUICK, degradation) for degradation in ("inpainting", "deblurring")]
    tasks = [frame[frame["repetition"] == 0] for frame in tasks]
    styles = method_styles({name for frame in tasks for name in frame["method"]})
    figure = story.draw(tasks, styles)
    assert len(figure.axes) == 4
    errors, training = figure.axes[0], figure.axes[2]
    ends = tasks[0].groupby("method").last()
    estimates = ends.dropna(subset=["gradient_error_start"])
    drawn = {tuple(float(v[0]) for v in line.get_data()) for line in errors.lines}
    spent = estimates["layer_evals_start"] + estimates["vjp_evals_start"]
    assert drawn == set(zip(spent, estimates["gradient_error_start"], strict=True))
    last = {line.get_ydata()[-1] for line in training.lines}
    assert last == set(ends["test_psnr"])
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == set(styles)


def test_a_degradation_that_is_not_there_is_said(tmp_path):
    out = tmp_path / "story.png"
    code, _, said = cli("story", QUICK, "--degradation", "tomography", "--out", out)
    assert code == 2 and "no task with the degradation 'tomography'" in said
    assert not out.exists()


def test_the_command_writes_both_kinds(tmp_path):
    out = tmp_path / "deep" / "story.png"
    assert cli("story", QUICK, "--degradation", "inpainting", "--out", out)[0] == 0
    assert out.stat().st_size > 10_000 and out.with_suffix(".pdf").is_file()
