"""The static site: what the pages hold, and how they behave in a headless Chromium."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
from PIL import Image

from benchmark.report import headline, tables
from benchmark.report.reading import ReportError
from benchmark.report.site import commands, described, powers
from benchmark.report.site import report as build
from benchmark.report.style import method_styles

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
HOSTILE = "<script>alert('task')</script> & \"quotes\""
OUTSIDE = {"arxiv.org", "github.com", "benchopt.github.io"}
COLUMNS = ("outer_step", "test_psnr", "gradient_error_start", "time_ratio", "peak_memory_mib")
COLUMNS = (*COLUMNS, "new_one")
HEADER = ["task", "configuration", "method", "status", "runs", "ok"]
# psnr, its standard deviation, gradient error; an empty number is a failure
ROWS = (
    ("plain", "Unrolling (layers=10)", "Unrolling", "2/2 ok", 2, 2, "26.5", "0.25", "0.3"),
    ("plain", "JFB", "JFB", "1/2 ok, 1 diverged", 2, 1, "9.75", "", "0.9"),
    ("plain", "DEQ", "DEQ", "0/2 ok, 1 diverged, 1 oom", 2, 0, "", "", ""),
    ("plain", "Another (a=1)", "Another", "1/1 ok", 1, 1, "100.125", "", "2.5e-11"),
    (HOSTILE, "Another (a=<b>)", "Another", "1/1 ok", 1, 1, "27.5", "", "1e-3"),
    (HOSTILE, "Another (a=2)", "Another", "1/1 ok", 1, 1, "28.5", "", "1e-2"),
)


class Page(HTMLParser):
    """The tags of a page, and the text of its table cells."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.tags, self.cells = path, [], []
        self.open_cell = False
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open_cell |= tag in ("td", "th")
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        self.open_cell &= tag not in ("td", "th")

    def handle_data(self, data):
        if self.open_cell:
            self.cells[-1] += data

    def urls(self):
        """Every address on the page."""
        return [a[k] for _, a in self.tags for k in ("href", "src", "data-pdf") if k in a]


def write_study(folder: Path, *, rows=ROWS, **changes) -> None:
    """A study as the report writes it, with figures of known and unknown kinds."""
    folder.mkdir(parents=True)
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        names = [f"{name}_{part}" for name in COLUMNS for part in ("mean", "std", "count")]
        writer.writerow([*HEADER, *names, "solver_name"])
        for *head, psnr, std, error in rows:
            failed = psnr == ""
            numbers = [20, "", 2, psnr, std, 2, error, "", 1, 1.5, "", 1, 3.5, "", 1, 7, "", 1]
            writer.writerow([*head, *(["", "", 0] * len(COLUMNS) if failed else numbers), "all"])
    for name in ("accuracy_plain", "time", "mystery", "pareto_memory_plain"):
        Image.new("RGB", (1420, 860), "#88aacc").save(folder / f"{name}.png")
    (folder / "accuracy_plain.pdf").write_bytes(b"%PDF-1.4\n")
    (folder / "rows.parquet").write_bytes(b"rows")
    (folder / "page.html").write_text("<p>interactive</p>", encoding="utf-8")
    (folder / "headline.html").write_text("<p>a table</p>", encoding="utf-8")
    cells = dict.fromkeys(headline.ORDER, "1.5") | {"task": "plain", "configuration": "JFB"}
    cells |= {"method": "JFB", "how": "", "status": "1/1 ok", "test_psnr": "26.5", "best": "True"}
    (folder / "headline.csv").write_text(tables.to_csv(pd.DataFrame([cells])), encoding="utf-8")
    record = {
        "inputs": [
            {
                "file": "rows.parquet",
                "sha256": hashlib.sha256(b"rows").hexdigest(),
                "rows_read": 12,
                "rows_used": 9,
                "left_out": {"no solver name": 3},
            }
        ],
        "memory_curve": None,
        "torch_versions": ["2.0", HOSTILE],
        "platform": {"system-cpus": ["2"]},
        "artefacts": [
            {
                "name": "accuracy_plain",
                "kind": "accuracy",
                "task": "plain",
                "files": ["accuracy_plain.png", "accuracy_plain.pdf"],
                "left_out": ["one configuration"],
            },
            {"name": "headline", "files": ["headline.csv", "headline.html"], "left_out": []},
            {"name": "time", "kind": "time", "task": None, "files": ["time.png"], "left_out": []},
            {"name": "memory_over_time", "skipped": "no curve was given"},
            {"name": "gone", "files": ["gone.png"], "left_out": []},
        ],
    }
    (folder / "provenance.json").write_text(json.dumps(record | changes), encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site of the repository's results and of a made-up study with everything odd in it."""
    base = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "results", base / "results")
    write_study(base / "results" / "deep" / "a <b> & c")
    claims = pd.DataFrame({"claim": [HOSTILE, "a | b"], "measured": ["0.25", "2e-3"]})
    for folder in (base / "results", base / "results" / "deep" / "a <b> & c"):
        (folder / "claims.csv").write_text(tables.to_csv(claims), encoding="utf-8")
    build(base / "results", base / "out")
    return base / "out"


@pytest.fixture(scope="module")
def odd(site) -> Path:
    """The page of the made-up study."""
    return site / "studies" / "deep" / "a <b> & c.html"


def pages(site: Path) -> list[Page]:
    return [Page(site / "index.html"), *map(Page, sorted(site.glob("studies/**/*.html")))]


# --- without a browser -------------------------------------------------------------------------


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
    assert (
        described(name).startswith("18 problems: ") and described("quick") and not described("no")
    )


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


# --- in a browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium or chrome on PATH")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """Open a page from disk in a window of a width and a colour scheme; no error may be logged."""
    errors, opened = [], []

    def open_page(path: Path, *, width: int = 1280, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(page)
        page.on("console", lambda m: errors.append(m.text) if m.type in ("error",) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("requestfailed", lambda request: errors.append(request.url))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else 1 / 0)
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        page.goto(path.as_uri())
        return page

    yield open_page
    for page in opened:
        if not page.is_closed():
            page.close()
    assert errors == []


def column(page, index: int) -> list[str]:
    """The texts of a column of the table's visible rows."""
    return page.eval_on_selector_all(
        f"#numbers tbody tr:not([hidden]) > :nth-child({index})",
        "cells => cells.map(cell => cell.textContent.trim())",
    )


def headings(page) -> list[str]:
    return page.eval_on_selector_all("#numbers thead th", "all => all.map(h => h.textContent)")


def test_on_a_phone_pages_load_images_show_and_nothing_scrolls_sideways(site, odd, visit):
    """The index, the longest page and the odd one; all are of the same templates."""
    longest = max(site.glob("studies/**/*.html"), key=lambda path: path.stat().st_size)
    for path in (site / "index.html", longest, odd):
        page = visit(path, width=390)
        assert page.title()
        sizes = page.eval_on_selector_all(
            "figure img", "images => images.map(image => image.naturalWidth)"
        )
        assert all(size > 0 for size in sizes)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        outside = page.eval_on_selector_all(
            "h1, h2, h3, p, figure, form, dl, pre, li",
            "all => all.filter(e => e.getBoundingClientRect().right > 390 && !e.closest('.scroll'))"
            ".map(e => e.outerHTML)",
        )
        assert outside == []
        page.close()


def test_the_table_sorts_by_number_both_ways_and_back(odd, visit):
    page = visit(odd)
    index = headings(page).index("test PSNR (dB)") + 1
    heading = page.locator(f"#numbers thead th:nth-child({index})")
    before = column(page, index)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(page, index) == ["9.75", "26.50 ± 0.25", "27.50", "28.50", "100.12", "—"]
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert column(page, index) == ["100.12", "28.50", "27.50", "26.50 ± 0.25", "9.75", "—"]
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") is None
    assert column(page, index) == before
    page.locator("#numbers thead th:nth-child(1) button").click()
    assert [text.split()[0] for text in column(page, 1)] == [
        *["Another"] * 3,
        "DEQ",
        "JFB",
        "Unrolling",
    ]
    assert page.locator("#numbers [aria-sort]").count() == 1


def test_powers_of_ten_sort_as_numbers(odd, visit):
    page = visit(odd)
    index = headings(page).index("gradient error, start") + 1
    page.locator(f"#numbers thead th:nth-child({index}) button").click()
    assert column(page, index)[:3] == ["2.50·10−11", "0.00100", "0.0100"]


def test_the_table_filters(odd, visit):
    page = visit(odd)
    page.fill("input[name=text]", "another a=")
    assert len(column(page, 1)) == 3
    page.select_option("select[name=task]", "plain")
    assert column(page, 1) == ["Another (a=1)"]
    page.fill("input[name=text]", "")
    page.uncheck("input[value=Another]")
    assert column(page, 1) == ["Unrolling (layers=10)", "JFB", "DEQ"]
    assert page.locator("output").text_content() == "3 of 6 rows"
    page.fill("input[name=text]", "diverged oom")
    assert column(page, 1) == ["DEQ"]


def test_a_figure_opens_goes_on_and_closes_by_escape(odd, visit):
    page = visit(odd)
    link = page.locator("a.zoom").first
    link.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog.viewer")
    assert dialog.is_visible()
    image = dialog.locator("img")
    page.wait_for_function("document.querySelector('dialog img').naturalWidth > 0")
    assert image.get_attribute("src").endswith("accuracy_plain.png")
    assert dialog.locator(".pdf").is_visible()
    page.keyboard.press(" ")
    assert dialog.locator("[data-do=size]").get_attribute("aria-pressed") == "true"
    page.wait_for_function("document.querySelector('dialog img').clientWidth >= 1420")
    page.keyboard.press(" ")
    page.keyboard.press("ArrowRight")
    assert not image.get_attribute("src").endswith("accuracy_plain.png")
    assert not dialog.locator(".pdf").is_visible()
    page.keyboard.press("ArrowLeft")
    assert image.get_attribute("src").endswith("accuracy_plain.png")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert link.evaluate("link => document.activeElement === link")
    link.click()
    dialog.locator("[data-do=close]").click()
    assert not dialog.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(site, odd, visit, scheme):
    for path in (site / "index.html", odd):
        page = visit(path, scheme=scheme)
        page_color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (_luminance(page_color) < 0.2) == (scheme == "dark")
        pairs = page.evaluate(
            """selector => [...document.querySelectorAll(selector)].map(element => {
                let behind = element;
                const color = e => getComputedStyle(e).backgroundColor;
                while (behind.parentElement && color(behind) === "rgba(0, 0, 0, 0)")
                    behind = behind.parentElement;
                return [element.outerHTML.slice(0, 80), getComputedStyle(element).color,
                    color(behind) === "rgba(0, 0, 0, 0)" ? color(document.body) : color(behind)];
            })""",
            "h1, h2, p, a, th, td, dt, dd, code, figcaption, label, output, .status, .note, button",
        )
        assert len(pairs) > 30
        for html, ink, paper in pairs:
            assert _contrast(ink, paper) >= 4.5, (html, ink, paper)


def _luminance(color: str) -> float:
    """Relative luminance of ``rgb(r, g, b)`` as WCAG defines it."""
    channels = [int(number) / 255 for number in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(ink: str, paper: str) -> float:
    low, high = sorted((_luminance(ink), _luminance(paper)))
    return (high + 0.05) / (low + 0.05)


def test_without_a_script_everything_is_there(odd, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(odd.as_uri())
    assert page.locator("#numbers tbody tr").count() == len(ROWS)
    assert not page.locator("form.controls").is_visible()
    assert page.locator("a.zoom").first.get_attribute("href").endswith("accuracy_plain.png")
    context.close()


def test_print_shows_the_whole_table(odd, visit):
    page = visit(odd)
    page.emulate_media(media="print")
    assert not page.locator("form.controls").is_visible()
    assert page.locator(".tall").last.evaluate("e => getComputedStyle(e).overflowY") == "visible"
