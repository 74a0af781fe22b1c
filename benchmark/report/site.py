"""A static site from a results folder: an index and a page per study, usable from disk.

A study is a folder with a ``provenance.json`` and the tables' CSV files, as ``python -m
benchmark.report`` writes them; every number on its page is one of theirs. What machines the rows
are of has a page of its own (``devices``), made from the rows. Nothing is loaded from a
network, and the same results give the same bytes. benchopt's own page of a study is linked where it
lies in the folder; that one loads its libraries from the network.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.markers import MarkerStyle
from PIL import Image

from benchmark.report import headline
from benchmark.report.devices import devices
from benchmark.report.names import extra
from benchmark.report.numbers import sentences
from benchmark.report.reading import ReportError, digest, read_csv, readable, writable, write
from benchmark.report.style import PAGES, Style, method_order, method_styles
from benchmark.report.tables import MISSING, spelled

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TOOLS = CONFIGS.with_name("tools")
#: what a page offers of its study's folder, by suffix; figures stand on it as such
DATA = {".parquet": "rows of the runs", ".csv": "numbers", ".tex": "LaTeX", ".md": "Markdown"}
DATA |= {".html": "page", ".json": "record", ".png": "", ".pdf": ""}
CAPTIONS = pd.read_csv(PAGES / "figures.csv", index_col="kind").to_dict("index")
INTRODUCTIONS = pd.read_csv(PAGES / "studies.csv", index_col="name")["introduction"]
CSS_PIXELS_PER_PIXEL = 0.62  # figures are drawn at 200 dpi; all are shown at one scale
MARKER = "site.json"
MADE_BY = "python -m benchmark.report site"
DESCRIBED = ("Unrolling", "JFB", "Restarted-JFB", "DEQ")  # in the table of the index
NUMBERS = r"([-−–—±+.,;%*()\[\]\s\d]|e[-+]\d)*"


def report(results: Path, out: Path, *, documentation: str = "") -> None:
    """Write the site of the studies below ``results`` into the folder ``out``.

    ``documentation`` is where the header of each page leads to as well, seen from ``out``. An
    earlier build in ``out`` is replaced once the new one is complete; a folder with anything else
    in it is refused. A ReportError if ``results`` holds no study or one that cannot be read.
    """
    results, out = results.resolve(), out.resolve()
    check_target(out, results=results)
    if not results.is_dir():
        raise ReportError(f"{results}: no such folder")
    folders = sorted(path.parent for path in results.rglob("provenance.json"))
    if not folders:
        raise ReportError(f"{results}: no study in it (a folder with a provenance.json)")
    studies = [read_study(folder, results) for folder in folders]
    claims = read_claims(results)
    with writable(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as draft:
            new = Path(draft, "new")
            write_site(studies, claims=claims, out=new, documentation=documentation)
            if out.exists():
                out.rename(Path(draft, "old"))
            new.rename(out)
    for study in studies:
        print(f"{study.page}: {len(study.pictures)} figures, {len(study.numbers)} table rows")
    print(f"site: {out / 'index.html'}")


def check_target(out: Path, *, results: Path) -> None:
    """Raise a ReportError unless ``out`` is new, empty or an earlier build, apart from results."""
    if out.is_relative_to(results) or results.is_relative_to(out):
        raise ReportError(f"{out}: the site must lie outside the results folder {results}")
    if out.exists() and not out.is_dir():
        raise ReportError(f"{out}: not a folder")
    made_by = None
    with suppress(OSError, ValueError, KeyError, TypeError):
        made_by = json.loads((out / MARKER).read_text(encoding="utf-8"))["made_by"]
    if made_by != MADE_BY and out.exists() and any(out.iterdir()):
        raise ReportError(f"{out}: not empty and not an earlier build of the site; left as it is")


def write_site(
    studies: Sequence[SimpleNamespace], *, claims: pd.DataFrame, out: Path, documentation: str = ""
) -> None:
    """Write every page, the assets, the studies' files and the marker."""
    options = ("trim_blocks", "lstrip_blocks", "keep_trailing_newline", "autoescape")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES),
        undefined=jinja2.StrictUndefined,
        **dict.fromkeys(options, True),
    )
    environment.filters |= {own.__name__: own for own in (powers, marked, failures, numeric)}
    environment.globals |= {"studies": studies, "marker": marker, "zip": zip}
    environment.globals["documentation"] = documentation

    def render(page: str, template: str, **content: object) -> None:
        root = "../" * page.count("/")
        write(out / page, environment.get_template(template).render(root=root, **content))

    every = pd.concat([study.numbers for study in studies])
    others = [name for name in method_order(every["method"]) if name not in DESCRIBED]
    styles = method_styles({*DESCRIBED, *every["method"]})
    render("index.html", "index.html", styles=styles, others=others, every=every, claims=claims)
    rows = {study.name: [study.folder / file for file in study.rows] for study in studies}
    render("devices.html", "devices.html", devices=devices(rows))
    copies = {out / "assets" / name: PAGES / name for name in ("site.css", "site.js")}
    for study in studies:
        render(study.page, "study.html", study=study)
        copies |= {out / "files" / study.name / file: study.folder / file for file in study.files}
    for copy, file in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    record = {"made_by": MADE_BY, "studies": [study.name for study in studies]}
    write(out / MARKER, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def powers(text: str) -> Markup:
    """``2.67e-11`` as 2.67·10⁻¹¹, for the page."""
    power = "·10<sup>{:d}</sup>"
    exponents = re.compile(r"(?<=[\d)])e([+-]\d+)")
    return Markup(exponents.sub(lambda e: power.format(int(e[1])).replace("-", "−"), escape(text)))


def marked(text: str) -> Markup:
    """What stands between backticks as code, between asterisks emphasised; the rest as it is."""
    marks = re.compile(r"`(?P<code>[^`]+)`|\*(?P<em>[^*]+)\*")
    return Markup(
        marks.sub(lambda m: f"<{m.lastgroup}>{m[m.lastgroup]}</{m.lastgroup}>", escape(text))
    )


def numeric(text: pd.DataFrame) -> list[str]:
    """The columns whose cells are numbers, or dashes, alone."""
    return [name for name in text if text[name].str.fullmatch(NUMBERS).all()]


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
    ).format("".join(steps), style.dots["markerfacecolor"], style.color)


def read_study(folder: Path, results: Path) -> SimpleNamespace:
    """One study's folder as its page shows it; ``name`` is its path below the results folder. A
    ReportError if its ``provenance.json`` or ``table.csv`` is missing or not the report's.
    """
    relative, made_by = folder.relative_to(results).as_posix(), folder / "provenance.json"
    name = results.name if relative == "." else relative
    with readable(made_by, "as the report writes it"):
        record = json.loads(made_by.read_text(encoding="utf-8"))
        artefacts = [_artefact(entry) for entry in record["artefacts"]]
        inputs = [_input(folder, entry) for entry in record["inputs"]]
    numbers = read_table(folder / "table.csv")
    present = sorted(path.name for path in folder.iterdir() if path.is_file())
    files = {file: DATA[Path(file).suffix] for file in present if Path(file).suffix in DATA}
    made = {"table.html"}.union(*(artefact["files"] for artefact in artefacts))
    curve = (record.get("memory_curve") or {}).get("file")
    curve = curve if curve in present else None
    sampled = read_csv(folder / curve, texts=["method"])["method"] if curve else ()
    means = numbers.filter(regex="_mean$").dropna(axis="columns", how="all")
    short, words = list(shorts(numbers)), folder.name.replace("_", " ")
    rows = [entry["file"] for entry in inputs if entry["file"] in present]
    cells = {one["header"]: one["cells"] for one in short}
    compared = headline.read(folder / "headline.csv") if "headline.csv" in present else None
    return SimpleNamespace(
        folder=folder,
        name=name,
        title=words[:1].upper() + words[1:],
        page=f"studies/{name}.html",
        description=described(name),
        tasks=list(dict.fromkeys(numbers["task"])),
        methods=method_order(numbers["method"]),
        numbers=numbers,
        text=spelled(numbers, means.columns.str.removesuffix("_mean")),
        means=means.to_numpy(),
        shorts=short,
        in_short=pd.concat(cells, axis=1).swaplevel(axis=1) if cells else None,
        comparison=compared,
        said=[*sentences(compared.numbers)] if compared else [],
        claims=read_claims(folder),
        styles=method_styles([*numbers["method"], *sampled]),
        pictures=list(_pictures(artefacts, folder, present)),
        artefacts=artefacts,
        missing=sorted(made.difference(present, {"table.html"})),
        files=files,
        interactive=[file for file in files if file.endswith(".html") and file not in made],
        inputs=inputs,
        rows=rows,
        facts=_facts(record),
        commands=commands(name, folder.relative_to(results.parent).as_posix(), rows, curve, record),
    )


def read_table(path: Path) -> pd.DataFrame:
    """A ``table.csv``: ``runs``, ``ok`` and the measured columns as numbers, NaN where empty."""
    heads, counts = ("task", "configuration", "method", "status"), ["runs", "ok"]
    table = read_csv(path, texts=heads, numbers=counts, others=".*_(mean|std)")
    table = table.mask(table.isin([math.inf, -math.inf]))
    if table[counts].isna().any(axis=None):
        raise ReportError(f"{path}: runs and ok must be whole numbers")
    return table.astype(dict.fromkeys(counts, int))


def read_claims(folder: Path) -> pd.DataFrame:
    """The table in a ``claims.csv``, as given; empty if there is none."""
    path = folder / "claims.csv"
    return read_csv(path) if path.is_file() else pd.DataFrame()


def shorts(numbers: pd.DataFrame) -> Iterator[dict[str, object]]:
    """The table in short, a column of it each: for a method and a task a value or a range over
    configurations; without a number how the runs failed.
    """
    known = numbers.columns[numbers.notna().any()]
    trained = "outer_step_mean" in known and (numbers["outer_step_mean"] > 0).any()
    metrics = [name.removesuffix("_mean") for name in extra(numbers) if name.endswith("_mean")]
    accuracy = ["test_psnr", *metrics] if trained else []
    cold = "peak_memory_mib_start"
    held = cold if f"{cold}_mean" in numbers else "peak_memory_mib"
    order = method_order(numbers["method"]), list(dict.fromkeys(numbers["task"]))
    for name in (*accuracy, "gradient_error_start", "time_ratio", held):
        if f"{name}_mean" not in known:
            continue
        (header,) = alone = spelled(numbers, [name])
        of_several = spelled(numbers.drop(columns=f"{name}_std", errors="ignore"), [name])
        ranked = numbers[f"{name}_mean"].dropna().sort_values(kind="stable").index
        cells = {}
        for key, own in numbers.groupby(["method", "task"]).groups.items():
            ends = ranked[ranked.isin(own)]
            texts = (of_several if len(ends) > 1 else alone)[header]
            found = " – ".join(dict.fromkeys(texts[[*ends[:1], *ends[-1:]]]))
            cells[key] = found or ", ".join(failures(numbers["status"][own])) or MISSING
        table = pd.Series(cells).unstack(fill_value=MISSING).loc[order]
        ranges = any(" – " in cell for cell in cells.values())
        yield {"name": name, "header": header, "cells": table, "ranges": ranges}


def failures(statuses: pd.Series) -> dict[str, int]:
    """``3/5 ok, 1 diverged, 1 oom`` → {diverged: 1, oom: 1}, added up over texts."""
    found = statuses.str.extractall(r", (?P<count>\d+) (?P<name>[^,]+)").astype({"count": int})
    return found.groupby("name")["count"].sum().to_dict()


def described(name: str) -> str:
    """What a study is about: its introduction, else the comment on top of its configuration."""
    if name in INTRODUCTIONS:
        return INTRODUCTIONS[name]
    path = CONFIGS / f"{name}.yml"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    comment = [line.lstrip("#").strip() for line in takewhile(lambda own: own[:1] == "#", lines)]
    return " ".join(line for line in comment if not line.startswith("benchopt run"))


def commands(
    name: str, out: str, inputs: Sequence[str], curve: str | None, record: Mapping[str, object]
) -> dict[str, str]:
    """What makes a study's figures and tables, and the command: from its rows, and from nothing."""
    width, only, last = record.get("columns", "two"), record.get("only"), name.rsplit("/", 1)[-1]
    option = ["--out", out, *(["--memory-curve", f"{out}/{curve}"] if curve else [])]
    option += ["--width", width] if width != "two" else []
    option += ["--only", *only] if only else []
    known = (CONFIGS / f"{name}.yml").is_file()
    config = ["--config", f"configs/{name}.yml"] if known else []
    run = shlex.join(["benchopt", "run", ".", *config, "--no-display", "--output", last])
    if tool := (TOOLS / f"{name}.py").is_file():
        run = shlex.join(["python", f"tools/{name}.py", "--out", f"outputs/{last}.parquet"])
    draw, again = (
        shlex.join(["python", "-m", "benchmark.report", *rows, *option])
        for rows in ([f"{out}/{file}" for file in inputs], [f"outputs/{last}.parquet"])
    )
    sample = ["python", "-m", "benchmark.running.memory_curve", "--out", f"{out}/{curve}", *config]
    sampled = "Sample the memory over one training run of each method again"
    found = {
        "Draw every figure and table of this page again, from its rows": inputs and draw,
        "Run the study again, then draw": (known or tool) and f"{run} && {again}",
        sampled: curve and shlex.join(sample),
    }
    return {does: line for does, line in found.items() if line}


def _artefact(entry: Mapping[str, object]) -> dict[str, object]:
    """What the report made, or why it did not, and what was left out of it; with its caption."""
    made = {"kind": "", "task": None, "files": (), "skipped": None, "left_out": ()} | entry
    about = CAPTIONS.get(made["kind"], {"title": made["name"], "caption": ""})
    alt = f"{about['title']}: {made['task']}" if made["task"] else about["title"]
    return made | about | {"alt": alt, "files": [Path(file).name for file in made["files"]]}


def _input(folder: Path, entry: Mapping[str, object]) -> dict[str, object]:
    """What it was made of; ``matches``: the copy beside it has this digest (None: no copy)."""
    copy = folder / Path(entry["file"]).name
    matches = digest(copy) == entry["sha256"] if copy.is_file() else None
    names = ("file", "sha256", "rows_read", "rows_used", "left_out")
    return {name: entry[name] for name in names} | {"matches": matches}


def _pictures(
    artefacts: Sequence[Mapping[str, object]], folder: Path, present: Sequence[str]
) -> Iterator[dict[str, object]]:
    """The PNGs the report lists, in its order, then those it does not list; in CSS pixels."""
    listed = {file: made for made in artefacts for file in made["files"]}
    for png in dict.fromkeys([*listed, *present]):
        if png not in present or not png.endswith(".png"):
            continue
        with readable(folder / png, "a readable image"), Image.open(folder / png) as image:
            width, height = (round(CSS_PIXELS_PER_PIXEL * side) for side in image.size)
        name = png.removesuffix(".png")
        pdf = f"{name}.pdf" if f"{name}.pdf" in present else None
        made = listed.get(png) or _artefact({"name": name})
        yield made | {"png": png, "pdf": pdf, "width": width, "height": height}


def _facts(record: Mapping[str, object]) -> dict[str, dict[str, list[str]]]:
    """What else ``provenance.json`` states: by group (plain entries: ``""``), name and value."""
    found: dict[str, dict[str, list[str]]] = {"": {}}
    for name, value in record.items():
        if name in ("inputs", "artefacts", "rows"):  # on the page as such; a sum over the inputs
            continue
        label = name.replace("_", " ")
        group, facts = (label, value) if isinstance(value, Mapping) else ("", {label: value})
        for key, inner in facts.items():
            values = inner if isinstance(inner, list) else [inner]
            texts = [v if isinstance(v, str) else json.dumps(v) for v in values if v is not None]
            if texts:
                found.setdefault(group, {})[key] = texts
    return {group: facts for group, facts in found.items() if facts}
