"""How the pages of results, and those of the documentation, behave in a headless Chromium."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from forked import run_module
from site_pages import ROWS, odd_page, whole_site

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return whole_site(tmp_path_factory.mktemp("site"), "quick")


@pytest.fixture(scope="module")
def odd(site) -> Path:
    return odd_page(site)


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


@pytest.fixture(scope="module")
def documentation(tmp_path_factory) -> Path:
    """The whole of it, as ``make docs`` builds it, a warning being an error; its gallery has a
    script in place of the examples, which other tests run.
    """
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    built = tmp_path_factory.mktemp("documentation") / "site"
    scripts = tmp_path_factory.mktemp("scripts")
    (scripts / "a_script.py").write_text('"""Says a word."""\n\nprint("a word")\n')
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "EXAMPLES": str(scripts)}
    options = ("build", "--strict", "--quiet", "--site-dir", built)
    done = run_module("mkdocs", *options, cwd=ROOT, environment=environment)
    assert done.returncode == 0, done.stderr
    return built


def test_the_documentation_opens_with_its_findings_and_its_figure(documentation, visit):
    page = visit(documentation / "index.html")
    image = page.locator("article img").first
    assert image.evaluate("image => image.naturalWidth") > 0
    box = image.bounding_box()
    # its upper row at least, without scrolling
    assert box["y"] + box["height"] / 2 <= 900
    found = page.locator("article p", has_text="found on").first.bounding_box()
    assert found["y"] < box["y"]


def test_a_page_of_each_kind_is_there_at_both_widths(documentation, visit):
    """Nothing is logged, no picture is missing, and nothing but tables and code scrolls."""
    names = ("index", "mathematics", "methods/DEQ", "problems/pnp", "gallery", "api")
    for name in (*names, "results", "evidence/faults"):
        for width in (1280, 390):
            page = visit(documentation / f"{name}.html", width=width)
            page.wait_for_load_state()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            sizes = page.eval_on_selector_all("article img", "all => all.map(i => i.naturalWidth)")
            assert all(size > 0 for size in sizes), name
            page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_documentation_is_searched_from_disk(documentation, visit, width):
    page = visit(documentation / "methods" / "index.html", width=width)
    if width < 960:
        page.locator("label[for=__search]").first.click()
    else:
        page.locator("input.md-search__input").click()
    page.keyboard.type("tomography")
    first = page.locator(".md-search-result__link").first
    first.wait_for()
    assert "tomography" in first.inner_text().lower()
    first.click()
    page.wait_for_url(re.compile("choosing|gallery|bring|source"))
