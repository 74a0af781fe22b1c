"""The static site: what the pages hold."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
from site_pages import HOSTILE, OUTSIDE, ROOT, ROWS, Page, odd_page, pages, whole_site, write_study

from benchmark.report import headline, tables
from benchmark.report.reading import ReportError
from benchmark.report.site import INTRODUCTIONS, commands, described, marked, powers
from benchmark.report.site import report as build
from benchmark.report.style import method_styles


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return whole_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def odd(site) -> Path:
    return odd_page(site)


def test_every_study_has_a_page_and_a_card(site):
    found = sorted(path.parent for path in (ROOT / "results").rglob("provenance.json"))
    names = [path.relative_to(ROOT / "results").as_posix() for path in found]
    assert names
    index = Page(site / "index.html")
    for name in [*names, "deep/a <b> & c"]:
        assert (site / "studies" / f"{name}.html").is_file()
        assert f"studies/{name}.html" in [unquote(url) for url in index.urls()]


def test_links_lead_to_files_or_anchors_and_nothing_is_loaded_from_a_network(site):
    for page in pages(site):
        ids = [a["id"] for _, a in page.tags if "id" in a]
        assert len(ids) == len(set(ids))
        for url in page.urls():
            parts = urlsplit(url)
            if parts.scheme == "https":
                assert parts.hostname in OUTSIDE
            elif parts.scheme == "data":
                assert url == "data:,"
            elif parts.path:
                assert (page.path.parent / unquote(parts.path)).is_file(), url
            elif parts.fragment:
                assert unquote(parts.fragment) in ids
        loaded = [a[k] for t, a in page.tags if t != "a" for k in ("src", "href") if k in a]
        assert not [url for url in loaded if urlsplit(url).scheme not in ("", "data")]
    for asset in (site / "assets").iterdir():
        assert not re.search(r"https?:|url\(|@import", asset.read_text(encoding="utf-8"))
    assert sum(asset.stat().st_size for asset in (site / "assets").iterdir()) < 100_000


def test_images_have_a_text_and_a_size(site):
    for page in pages(site):
        for tag, attributes in page.tags:
            if tag == "img" and "src" in attributes:
                assert attributes["alt"]
                assert int(attributes["width"]) > 0 and int(attributes["height"]) > 0


def test_names_are_escaped(site, odd):
    for page in pages(site):
        assert "<script>alert" not in page.text
        assert [a.get("src", "").endswith("site.js") for t, a in page.tags if t == "script"] == [
            True
        ]
    assert HOSTILE in Page(odd).cells


def test_the_table_shows_the_numbers_of_the_csv_and_the_failures(odd):
    page = Page(odd)
    assert "26.50 ± 0.25" in page.cells
    assert "2.50·10−11" in page.cells
    assert "1/2 ok, 1 diverged" in page.cells
    assert "new one" in page.cells  # a column the tables do not know keeps its name
    values = [a["data-value"] for t, a in page.tags if t == "td" and "data-value" in a]
    assert {"26.5", "100.125", "2.5e-11"} <= set(values)
    assert sum("failed" in a.get("class", "") for t, a in page.tags if t == "tr") == 2
    assert "3 of 9 runs ok" not in page.text
    assert "6 of 9 runs ok" in page.text
    assert "2 diverged" in page.text and "1 oom" in page.text


def test_the_headline_is_the_range_over_configurations(site, odd):
    for page in (Page(odd), Page(site / "index.html")):
        assert "27.50 – 28.50" in page.cells
    assert "diverged, oom" in Page(odd).cells


def test_headlines_of_the_repository_agree_with_its_tables(site):
    index = Page(site / "index.html")
    for table in sorted((ROOT / "results").rglob("table.csv")):
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        trained = any(float(row["outer_step_mean"] or 0) > 0 for row in rows)
        if not trained:
            continue
        means: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            number = float(row["test_psnr_mean"] or "nan")
            if math.isfinite(number):
                means.setdefault((row["task"], row["method"]), []).append(number)
        for numbers in means.values():
            low, high = f"{min(numbers):.2f}", f"{max(numbers):.2f}"
            assert any(cell.startswith(low) and high in cell for cell in index.cells)


def test_provenance_is_told(odd):
    text = Page(odd).text
    assert hashlib.sha256(b"rows").hexdigest() in text
    assert "9 of 12 used; 3 left out: no solver name" in text
    assert "the file offered here has it" in text
    assert "no curve was given" in text
    assert "gone.png" in text
    assert "Left out: one configuration." in text


def test_the_page_says_that_grid_search_wins_and_that_nothing_ended_well(tmp_path):
    failed = [row for row in ROWS if row[6] == ""]
    write_study(tmp_path / "results" / "a", rows=failed)
    cells = dict.fromkeys(headline.ORDER, "0.5") | {"task": "plain", "how": "", "best": ""}
    names = {"start": ("", 25), "Grid-Search": ("Grid-Search", 27), "DEQ": ("DEQ", 26)}
    rows = [
        cells | {"configuration": name, "method": method, "test_psnr": psnr, "to_search": ""}
        for name, (method, psnr) in names.items()
    ]
    rows[2] |= {"to_search": "worse", "fell": 0.0}
    csv_file = tmp_path / "results" / "a" / "headline.csv"
    csv_file.write_text(tables.to_csv(pd.DataFrame(rows)), encoding="utf-8")
    build(tmp_path / "results", tmp_path / "out")
    page = (tmp_path / "out" / "studies" / "a.html").read_text(encoding="utf-8")
    assert "No method with a gradient is above Grid-Search, a search without." in page
    assert "Significantly worse than Grid-Search: DEQ." in page
    assert "No run ended well." in page


def test_a_file_that_is_not_the_input_is_said(tmp_path):
    write_study(tmp_path / "results" / "a")
    (tmp_path / "results" / "a" / "rows.parquet").write_bytes(b"others")
    build(tmp_path / "results", tmp_path / "out")
    page = (tmp_path / "out" / "studies" / "a.html").read_text(encoding="utf-8")
    assert "the file offered here has another" in page


def test_figures_are_grouped_by_task_and_unknown_ones_shown(odd):
    images = [a["alt"] for t, a in Page(odd).tags if t == "img" and "src" in a]
    assert images[0] == "Accuracy along training: plain"
    assert set(images[1:]) == {
        "Time of one hypergradient",
        "mystery",
        "pareto_memory_plain",
    }


def test_claims_are_shown_as_given(site, odd):
    for page in (Page(odd), Page(site / "index.html")):
        assert {"0.25", "2·10−3", "a | b", HOSTILE} <= set(page.cells)


def test_a_headline_table_is_shown_and_only_other_pages_are_interactive(odd):
    page = Page(odd)
    assert '<td class="number"><strong>26.50</strong></td>' in page.text
    names = [unquote(url) for url in page.urls()]
    assert sum(name.endswith("/page.html") for name in names) == 2  # on top, and to download
    assert sum(name.endswith("/headline.html") for name in names) == 1


def test_reproduce_names_the_configuration_and_the_report(site, odd):
    page = (site / "studies" / "quick.html").read_text(encoding="utf-8")
    assert "benchopt run . --config configs/quick.yml --no-display --output quick" in page
    report = "python -m benchmark.report results/quick/quick.parquet --out results/quick"
    assert report in page
    # no configuration of that name: only what is in the folder
    commands = re.findall(r'<pre class="command".*?</pre>', odd.read_text(encoding="utf-8"))
    assert len(commands) == 1 and "results/deep/a &lt;b&gt; &amp; c" in commands[0]


@pytest.mark.parametrize(
    ("name", "config"), [("quick", " --config configs/quick.yml"), ("odd", "")]
)
def test_the_memory_curve_is_reproduced_with_its_methods(name, config):
    out = f"results/{name}"
    *_, last = commands(name, out, inputs=[], curve="memory_curve.csv", record={}).values()
    command = "python -m benchmark.running.memory_curve --out"
    assert last == f"{command} {out}/memory_curve.csv{config}"


def test_a_study_that_a_tool_runs_is_run_again_by_it():
    name = "time_to_accuracy"
    _, again = commands(name, "there", inputs=["rows.parquet"], curve=None, record={}).values()
    assert again.startswith(f"python tools/{name}.py --out outputs/{name}.parquet && ")


def test_introductions_are_prose_and_other_studies_have_their_comment(site):
    """What stood on the pages were comments of YAML files, with backticks and lines about -s."""
    for name in INTRODUCTIONS.index:
        page = (site / "studies" / f"{name}.html").read_text(encoding="utf-8")
        (lead,) = re.findall(r'<p class="lead">(.*?)</p>', page, flags=re.DOTALL)
        assert "`" not in lead and lead.count(". ") > 0
    assert described("ridge/small").startswith("The experiment of configs/ridge/train.yml at a")
    assert described("no") == ""


def test_marks_in_prose_are_typeset_and_nothing_else():
    assert marked("a `<b>` *c* <d>") == "a <code>&lt;b&gt;</code> <em>c</em> &lt;d&gt;"
    assert marked("") == ""


def test_markers_have_the_colours_of_the_figures(odd):
    styles = method_styles(["Unrolling", "JFB", "DEQ", "Another"])
    text = odd.read_text(encoding="utf-8")
    rows = re.findall(r'<tr data-task="[^"]*" data-method="(\w+)".*?stroke="(#\w+)"', text, re.S)
    assert len(rows) == len(ROWS)
    assert all(styles[method].color == color for method, color in rows)


def test_powers_are_escaped_and_typeset():
    assert powers("2.67e-11 – 0.334") == "2.67·10<sup>−11</sup> – 0.334"
    assert powers("(1.00 ± 0.10)e+06") == "(1.00 ± 0.10)·10<sup>6</sup>"
    assert powers("<e>") == "&lt;e&gt;"


def test_the_same_results_give_the_same_bytes_and_an_earlier_build_is_replaced(tmp_path):
    write_study(tmp_path / "results" / "a")
    build(tmp_path / "results", tmp_path / "one")
    build(tmp_path / "results", tmp_path / "two")
    (tmp_path / "one" / "stale.html").write_text("old", encoding="utf-8")
    build(tmp_path / "results", tmp_path / "one")
    one, two = (
        {
            path.relative_to(base).as_posix(): path.read_bytes()
            for path in base.rglob("*")
            if path.is_file()
        }
        for base in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "results", "two"]
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_folder_that_is_no_earlier_build_is_left_alone(tmp_path):
    write_study(tmp_path / "results" / "a")
    for name, content in {"site.json": '{"made_by": "me"}', "thesis.tex": "everything"}.items():
        mine = tmp_path / name.partition(".")[0]
        mine.mkdir()
        (mine / name).write_text(content, encoding="utf-8")
        with pytest.raises(ReportError, match="not an earlier build"):
            build(tmp_path / "results", mine)
        assert [path.name for path in mine.iterdir()] == [name]
    for out in ("results", "results/site", "."):
        with pytest.raises(ReportError, match="outside the results"):
            build(tmp_path / "results", tmp_path / out)
    with pytest.raises(ReportError, match="not a folder"):
        build(tmp_path / "results", tmp_path / "thesis" / "thesis.tex")
