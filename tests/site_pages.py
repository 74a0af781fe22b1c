"""Studies as the report writes them, the site of them, and its pages as they are read."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
from PIL import Image

from benchmark.report import headline, tables
from benchmark.report.site import report as build

ROOT = Path(__file__).resolve().parents[1]
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


def pages(site: Path) -> list[Page]:
    own = (site / "index.html", site / "devices.html")
    return [*map(Page, [*own, *sorted(site.glob("studies/**/*.html"))])]


def odd_page(site: Path) -> Path:
    """The page of the made-up study."""
    return site / "studies" / "deep" / "a <b> & c.html"


def whole_site(base: Path, results: str = ".") -> Path:
    """The site of the repository's ``results`` and of a made-up study with all that is odd."""
    shutil.copytree(ROOT / "results" / results, base / "results" / results)
    write_study(base / "results" / "deep" / "a <b> & c")
    claims = pd.DataFrame({"claim": [HOSTILE, "a | b"], "measured": ["0.25", "2e-3"]})
    for folder in (base / "results", base / "results" / "deep" / "a <b> & c"):
        (folder / "claims.csv").write_text(tables.to_csv(claims), encoding="utf-8")
    build(base / "results", base / "out")
    return base / "out"
