"""A study: a folder of results, read and checked, for its page of the site.

It has a ``provenance.json`` and the tables' CSV files, as ``python -m benchmark.report`` writes
them; every number on its page is one of theirs.
"""

from __future__ import annotations

import itertools
import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmark.report import headline
from benchmark.report.captions import captioned, kind_and_task
from benchmark.report.names import file_names
from benchmark.report.reading import ReportError, digest, read_csv, read_record, readable
from benchmark.report.style import Style, method_order, method_styles
from benchmark.report.tables import MISSING, Table, spelled

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DATA = {
    ".parquet": "rows of the runs",
    ".csv": "numbers",
    ".tex": "LaTeX",
    ".md": "Markdown",
    ".html": "page",
    ".json": "record",
}
CSS_PIXELS_PER_PIXEL = 0.62  # figures are drawn at 200 dpi; all are shown at one scale
INPUT = ("file", "sha256", "rows_read", "rows_used", "left_out")


@dataclass(frozen=True)
class Artefact:
    """An entry of ``provenance.json``: the files made, or why none was, and what was left out."""

    name: str
    title: str
    caption: str
    task: str | None
    files: tuple[str, ...]
    skipped: str | None = None
    left_out: tuple[str, ...] = ()

    @property
    def alt(self) -> str:
        """Text in place of the figure."""
        return ": ".join(filter(None, (self.title, self.task)))


@dataclass(frozen=True)
class Picture:
    """A figure on a page; ``width`` and ``height`` in CSS pixels, ``pdf`` None if there is none."""

    made: Artefact
    png: str
    pdf: str | None
    width: int
    height: int


@dataclass(frozen=True)
class Short:
    """A column of the table in short, per method and task: a value, or a range over configurations.

    Where there is no number a cell says how the runs failed.
    """

    name: str
    header: str
    cells: pd.DataFrame

    @property
    def ranges(self) -> bool:
        """Whether a cell is a range."""
        return any(" – " in cell for cell in self.cells.to_numpy().ravel())


@dataclass(frozen=True)
class Study:
    """A folder of results, read and checked; ``name`` is its path below the results folder.

    ``text`` are the measured columns of ``numbers`` as text, ``means`` the numbers behind it.
    """

    folder: Path
    name: str
    description: str
    tasks: list[str]
    methods: list[str]
    numbers: pd.DataFrame
    text: pd.DataFrame
    means: np.ndarray
    shorts: list[Short]
    comparison: Table | None
    claims: pd.DataFrame
    styles: Mapping[str, Style]
    pictures: list[Picture]
    skipped: list[Artefact]
    missing: list[str]
    files: list[str]
    interactive: list[str]
    inputs: list[Mapping[str, object]]
    facts: Mapping[str, Mapping[str, Sequence[str]]]
    commands: Mapping[str, str]

    @property
    def title(self) -> str:
        """The last part of the name as words."""
        words = self.name.rsplit("/", 1)[-1].replace("_", " ")
        return words[:1].upper() + words[1:]

    @property
    def page(self) -> str:
        """Where its page lies in the site."""
        return f"studies/{self.name}.html"


def find_studies(results: Path) -> list[Study]:
    """The studies below a results folder, by name."""
    if not results.is_dir():
        raise ReportError(f"{results}: no such folder")
    folders = sorted(path.parent for path in results.rglob("provenance.json"))
    if not folders:
        raise ReportError(f"{results}: no study in it (a folder with a provenance.json)")
    return [read_study(folder, results=results) for folder in folders]


def read_study(folder: Path, *, results: Path) -> Study:
    """Read one study's folder.

    Raises
    ------
    ReportError
        If its ``provenance.json`` or its ``table.csv`` is missing, damaged or not the report's.
    """
    relative = folder.relative_to(results).as_posix()
    name = results.name if relative == "." else relative
    record, numbers = read_record(folder / "provenance.json"), read_table(folder / "table.csv")
    present = sorted(path.name for path in folder.iterdir() if path.is_file())
    names = file_names(numbers["task"])
    artefacts, inputs = list(_artefacts(record, folder, names)), list(_inputs(record, folder))
    pictures = list(_pictures(artefacts, folder, present, names))
    shown = {file for picture in pictures for file in (picture.png, picture.pdf)}
    files = [file for file in present if file in shown or Path(file).suffix in DATA]
    made = {"table.html", *(file for artefact in artefacts for file in artefact.files)}
    curve = (record.get("memory_curve") or {}).get("file")
    curve = curve if curve in present else None
    sampled = read_csv(folder / curve, texts=["method"])["method"] if curve else ()
    means = numbers.filter(regex="_mean$").dropna(axis="columns", how="all")
    compared = folder / "headline.csv"
    return Study(
        folder=folder,
        name=name,
        description=described(name),
        tasks=list(dict.fromkeys(numbers["task"])),
        methods=method_order(numbers["method"]),
        numbers=numbers,
        text=spelled(numbers, means.columns.str.removesuffix("_mean")),
        means=means.to_numpy(),
        shorts=list(shorts(numbers)),
        comparison=headline.read(compared) if compared.is_file() else None,
        claims=read_claims(folder),
        styles=method_styles([*numbers["method"], *sampled]),
        pictures=pictures,
        skipped=[entry for entry in artefacts if entry.skipped is not None],
        missing=sorted(made.difference(present, {"table.html"})),
        files=files,
        interactive=[file for file in files if file.endswith(".html") and file not in made],
        inputs=inputs,
        facts=_facts(record),
        commands=commands(
            name,
            out=folder.relative_to(results.parent).as_posix(),
            inputs=[str(entry["file"]) for entry in inputs if entry["file"] in present],
            curve=curve,
            record=record,
        ),
    )


def read_table(path: Path) -> pd.DataFrame:
    """A ``table.csv``: ``runs``, ``ok`` and the measured columns as numbers, NaN where empty."""
    heads, counts = ("task", "configuration", "method", "status"), ["runs", "ok"]
    table = read_csv(path, texts=heads, numbers=(*counts, ".*_(mean|std)"))
    table = table.mask(table.isin([math.inf, -math.inf]))
    if table[counts].isna().any(axis=None):
        raise ReportError(f"{path}: runs and ok must be whole numbers")
    return table.astype(dict.fromkeys(counts, int))


def read_claims(folder: Path) -> pd.DataFrame:
    """The table in a ``claims.csv``, as given; empty if there is none."""
    path = folder / "claims.csv"
    return read_csv(path) if path.is_file() else pd.DataFrame()


def shorts(numbers: pd.DataFrame) -> Iterator[Short]:
    """The table in short: its accuracy (of training, or of the gradient), then its costs.

    Gradient errors come only where nothing was trained: all methods are then at the same θ.
    """
    trained = "outer_step_mean" in numbers and (numbers["outer_step_mean"] > 0).any()
    for name in ("test_psnr" if trained else "gradient_error", "time_ratio", "peak_memory_mib"):
        mean, std = f"{name}_mean", f"{name}_std"
        if mean not in numbers or numbers[mean].isna().all():
            continue
        groups, cells = numbers.groupby(["method", "task"]), {}
        for key, group in groups:
            known = group.dropna(subset=mean).sort_values(mean, kind="stable")
            ends = known.iloc[[0, -1] if len(known) else []]
            ends = ends if len(known) < 2 else ends.drop(columns=std, errors="ignore")
            found = dict.fromkeys(spelled(ends, [name]).iloc[:, 0])
            cells[key] = " – ".join(found) or ", ".join(failures(group["status"])) or MISSING
        table = pd.Series(cells).unstack(fill_value=MISSING)
        (header,) = spelled(numbers, [name])
        order = method_order(numbers["method"]), list(dict.fromkeys(numbers["task"]))
        yield Short(name, header, table.loc[order])


def failures(statuses: pd.Series) -> dict[str, int]:
    """``3/5 ok, 1 diverged, 1 oom`` → {diverged: 1, oom: 1}, added up over texts."""
    found = statuses.str.extractall(r", (?P<count>\d+) (?P<name>[^,]+)").astype({"count": int})
    return found.groupby("name")["count"].sum().to_dict()


def described(name: str) -> str:
    """The comment on top of ``configs/<name>.yml``, its first line (the command) aside."""
    path = CONFIGS / f"{name}.yml"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    text = [line.lstrip("#").strip() for line in comment]
    return " ".join(line for line in text if not line.startswith("benchopt run"))


def commands(
    name: str, *, out: str, inputs: Sequence[str], curve: str | None, record: Mapping[str, object]
) -> dict[str, str]:
    """What makes a study's figures and tables, and the command: from its rows, and from nothing."""
    width, only = str(record.get("columns", "two")), [str(kind) for kind in record.get("only", ())]
    option = ["--memory-curve", f"{out}/{curve}"] if curve else []
    option += ["--width", width] if width != "two" else []
    option += ["--only", *only] if only else []
    report, last = ["python", "-m", "benchmark.report"], name.rsplit("/", 1)[-1]
    known = (CONFIGS / f"{name}.yml").is_file()
    config = ["--config", f"configs/{name}.yml"] if known else []
    run = ["benchopt", "run", ".", *config, "--no-display", "--output", last]
    draw, again = (
        shlex.join([*report, *files, "--out", out, *option])
        for files in ([f"{out}/{file}" for file in inputs], [f"outputs/{last}.parquet"])
    )
    sample = ["python", "-m", "benchmark.memory_curve", "--out", f"{out}/{curve}", *config]
    found = {
        "Draw every figure and table of this page again, from its rows": inputs and draw,
        "Run the study again, then draw": known and f"{shlex.join(run)} && {again}",
        "Sample the memory over one training run of each method again": curve
        and shlex.join(sample),
    }
    return {does: line for does, line in found.items() if line}


def _artefacts(
    record: Mapping[str, object], folder: Path, names: Mapping[str, str]
) -> Iterator[Artefact]:
    """What the report made."""
    with readable(folder / "provenance.json", "as the report writes it: artefacts"):
        for entry in record["artefacts"]:
            files = tuple(Path(str(file)).name for file in entry.get("files", []))
            notes = tuple(map(str, entry.get("left_out", [])))
            yield _artefact(str(entry["name"]), names, files, entry.get("skipped"), notes)


def _artefact(name: str, names: Mapping[str, str], *made: object) -> Artefact:
    kind, task = kind_and_task(name, tasks=names)
    return Artefact(name, *captioned(kind), task, *made)


def _inputs(record: Mapping[str, object], folder: Path) -> Iterator[dict[str, object]]:
    """What it was made of; ``matches``: the copy beside it has this digest (None: no copy)."""
    with readable(folder / "provenance.json", "as the report writes it: inputs"):
        for entry in record["inputs"]:
            known = {key: entry[key] for key in INPUT}
            copy = folder / Path(known["file"]).name
            matches = digest(copy) == known["sha256"] if copy.is_file() else None
            yield known | {"left_out": dict(known["left_out"]), "matches": matches}


def _pictures(
    artefacts: Sequence[Artefact], folder: Path, present: Sequence[str], names: Mapping[str, str]
) -> Iterator[Picture]:
    """The PNGs the report lists, in its order, then those it does not list."""
    listed = {f: made for made in artefacts for f in made.files if f.endswith(".png")}
    for png in dict.fromkeys([*listed, *(name for name in present if name.endswith(".png"))]):
        if png not in present:
            continue
        made = listed.get(png) or _artefact(Path(png).stem, names, (png,))
        with readable(folder / png, "a readable image"), Image.open(folder / png) as image:
            size = [round(CSS_PIXELS_PER_PIXEL * side) for side in image.size]
        pdf = f"{Path(png).stem}.pdf"
        yield Picture(made, png, pdf if pdf in present else None, *size)


def _facts(record: Mapping[str, object]) -> dict[str, dict[str, list[str]]]:
    """What else ``provenance.json`` states: by group (plain entries: ``""``), name and value."""
    found: dict[str, dict[str, list[str]]] = {"": {}}
    for name, value in record.items():
        label = name.replace("_", " ")
        if name in ("inputs", "artefacts", "rows"):  # on the page as such; a sum over the inputs
            continue
        group, stated = (label, value) if isinstance(value, Mapping) else ("", {label: value})
        texts = {str(key): _texts(inner) for key, inner in stated.items()}
        found.setdefault(group, {}).update({key: text for key, text in texts.items() if text})
    return {group: facts for group, facts in found.items() if facts}


def _texts(value: object) -> list[str]:
    """A value, or each of a list, as text."""
    values = value if isinstance(value, list) else [value]
    return [v if isinstance(v, str) else json.dumps(v) for v in values if v is not None]
