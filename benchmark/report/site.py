"""A static site from a results folder: an index and a page per study, usable from disk.

    python -m benchmark.report site [RESULTS] --out DIR

A study is a folder with a ``provenance.json``, as ``python -m benchmark.report`` writes it; every
number on a page is computed from that folder's tables. Nothing is loaded from a network, and the
same results give the same bytes. benchopt's own page of a study is linked where it lies in the
folder; that one loads its libraries from the network.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.markers import MarkerStyle

from benchmark.report.reading import ReportError, writable, write
from benchmark.report.study import failures, find_studies, read_claims
from benchmark.report.style import PAGES, Style, method_order, method_styles

ASSETS = ("site.css", "site.js")
MARKER = "site.json"
MADE_BY = "python -m benchmark.report site"
DESCRIBED = ("Unrolling", "JFB", "Restarted-JFB", "DEQ")  # in the table of the index
#: cells that hold numbers alone, or dashes
NUMBERS = r"([-−–—±+.,;%*()\[\]\s\d]|e[-+]\d)*"


def report(results: Path, out: Path, *, documentation: str = "") -> None:
    """Write the site of the studies below ``results`` into the folder ``out``.

    ``documentation`` is where the header of each page leads to as well, seen from ``out``. An
    earlier build in ``out`` is replaced once the new one is complete; a folder with anything else
    in it is refused. A ReportError
    if ``results`` holds no study or one that cannot be read.
    """
    results, out = results.resolve(), out.resolve()
    check_target(out, results=results)
    studies = find_studies(results)
    claims = read_claims(results)
    with writable(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as draft:
            new, old = Path(draft, "new"), Path(draft, "old")
            new.mkdir()
            write_site(studies, claims=claims, out=new, documentation=documentation)
            if out.exists():
                out.rename(old)
            new.rename(out)
    for study in studies:
        print(f"{study.page}: {len(study.pictures)} figures, {len(study.numbers)} table rows")
    print(f"site: {out / 'index.html'}")


def check_target(out: Path, *, results: Path) -> None:
    """Raise a ReportError unless ``out`` is new, empty or an earlier build, apart from results."""
    if out == results or out.is_relative_to(results) or results.is_relative_to(out):
        raise ReportError(f"{out}: the site must lie outside the results folder {results}")
    if not out.exists():
        return
    if not out.is_dir():
        raise ReportError(f"{out}: not a folder")
    made_by = None
    with suppress(OSError, ValueError, KeyError, TypeError):
        made_by = json.loads((out / MARKER).read_text(encoding="utf-8"))["made_by"]
    if made_by != MADE_BY and any(out.iterdir()):
        raise ReportError(f"{out}: not empty and not an earlier build of the site; left as it is")


def write_site(
    studies: Sequence[SimpleNamespace], *, claims: pd.DataFrame, out: Path, documentation: str = ""
) -> None:
    """Write every page, the assets, the studies' files and the marker."""
    options = dict.fromkeys(("trim_blocks", "lstrip_blocks", "keep_trailing_newline"), True)
    options |= {"autoescape": True, "undefined": jinja2.StrictUndefined}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(PAGES), **options)
    environment.filters |= {
        "href": lambda path: quote(str(path)),
        "powers": powers,
        "failures": failures,
        "numeric": lambda text: text.str.fullmatch(NUMBERS).all(),
    }
    environment.globals |= {"studies": studies, "marker": marker, "zip": zip}
    environment.globals["documentation"] = documentation
    every = pd.concat([study.numbers for study in studies])
    page = environment.get_template("index.html").render(
        root="",
        styles=method_styles({*DESCRIBED, *every["method"]}),
        others=[name for name in method_order(every["method"]) if name not in DESCRIBED],
        every=every,
        claims=claims,
    )
    write(out / "index.html", page)
    for study in studies:
        root = "../" * (study.name.count("/") + 1)
        page = environment.get_template("study.html").render(
            root=root, study=study, files=f"{root}files/{study.name}/"
        )
        write(out / study.page, page)
        for name in study.files:
            copy(study.folder / name, out / "files" / study.name / name)
    for name in ASSETS:
        copy(PAGES / name, out / "assets" / name)
    record = {"made_by": MADE_BY, "studies": [study.name for study in studies]}
    write(out / MARKER, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def copy(file: Path, to: Path) -> None:
    """A copy of a file, in a folder that need not be there."""
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


def powers(text: str) -> Markup:
    """``2.67e-11`` as 2.67·10⁻¹¹, for the page."""
    power = Markup("·10<sup>{}</sup>")
    pieces = re.split(r"(?<=[\d)])e([+-]\d+)", text)
    pieces[1::2] = [power.format(str(int(piece)).replace("-", "−")) for piece in pieces[1::2]]
    return Markup("").join(pieces)


def marker(style: Style) -> Markup:
    """A method's marker as inline SVG: matplotlib's own path, in a box of 16 × 16."""
    shape = MarkerStyle(style.marker)
    path = shape.get_path().transformed(shape.get_transform())
    scale = 9 / max(path.get_extents().size)
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    steps = []
    for points, code in path.iter_segments(simplify=False, curves=True):
        pairs = points.reshape(-1, 2) * (scale, -scale) + 8
        numbers = " ".join(f"{value:.2f}" for value in pairs.ravel())
        steps.append(letters[int(code)] + ("" if code == 79 else numbers))
    return Markup(
        '<svg class="marker" viewBox="0 0 16 16" aria-hidden="true">'
        '<path d="{}" fill="{}" stroke="{}" stroke-width="1.5"/></svg>'
    ).format("".join(steps), style.face, style.color)
