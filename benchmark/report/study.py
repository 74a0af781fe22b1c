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

REPOSITORY = Path(__file__).resolve().parents[2]
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
    """An entry of ``provenance.json``: the files made, or why none was, and what was left out.

    ``kind`` and ``task`` are those of a figure.
    """

    kind: str
    task: str | None
    files: tuple[str, ...]
    skipped: str | None = None
    left_out: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What the figure is called."""
        return captioned(self.kind)[0]


@dataclass(frozen=True)
class Picture:
    """A figure on a page; ``width`` and ``height`` in CSS pixels, ``pdf`` None if there is none."""

    name: str
    made: Artefact
    png: str
    pdf: str | None
    width: int
    height: int

    @property
    def caption(self) -> str:
        """What is said below it."""
        return captioned(self.made.kind)[1]

    @property
    def alt(self) -> str:
        """Text in place of the image."""
        return ": ".join(filter(None, (self.made.title, self.made.task)))


@dataclass(frozen=True)
class Short:
    """The table in short: a row per method; a cell is a value, a range of them, or failures."""

    name: str
    header: str
    cells: pd.DataFrame

    @property
    def ranges(self) -> bool:
        """Whether a cell is a range over the configurations of a method."""
        return any(" – " in cell for cell in self.cells.to_numpy().ravel())


@dataclass(frozen=True)
class Study:
    """A folder of results, read and checked; ``name`` is its path below the results folder."""

    folder: Path
    name: str
    numbers: pd.DataFrame
    comparison: Table | None
    claims: pd.DataFrame
    styles: Mapping[str, Style]
    pictures: tuple[Picture, ...]
    skipped: tuple[Artefact, ...]
    missing: tuple[str, ...]
    files: tuple[str, ...]
    interactive: tuple[str, ...]
    inputs: tuple[Mapping[str, object], ...]
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

    @property
    def description(self) -> str:
        """The comment on top of ``configs/<name>.yml``, its first line (the command) aside."""
        path = REPOSITORY / "configs" / f"{self.name}.yml"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
        text = [line.lstrip("#").strip() for line in comment]
        return " ".join(line for line in text if not line.startswith("benchopt run"))

    @property
    def tasks(self) -> list[str]:
        """The tasks in the order of the table."""
        return list(dict.fromkeys(self.numbers["task"]))

    @property
    def methods(self) -> list[str]:
        """The methods in their fixed order."""
        return method_order(self.numbers["method"])

    @property
    def measured(self) -> list[str]:
        """The columns with any number."""
        means = self.numbers.filter(regex="_mean$").dropna(axis="columns", how="all")
        return [name.removesuffix("_mean") for name in means]

    @property
    def text(self) -> pd.DataFrame:
        """The numbers as text."""
        return spelled(self.numbers, self.measured)

    @property
    def values(self) -> np.ndarray:
        """The numbers behind ``text``."""
        return self.numbers[[f"{name}_mean" for name in self.measured]].to_numpy()

    @property
    def shorts(self) -> list[Short]:
        """Its accuracy (of training, or of the gradient), then its costs; a column per task.

        Gradient errors come only where nothing was trained: all methods are then at the same θ.
        """
        trained = "outer_step" in self.measured and (self.numbers["outer_step_mean"] > 0).any()
        wanted = ("test_psnr" if trained else "gradient_error", "time_ratio", "peak_memory_mib")
        return [self._short(name) for name in wanted if name in self.measured]

    def in_short(self, task: str) -> pd.DataFrame:
        """``shorts`` of one task, a column each."""
        return pd.DataFrame({short.header: short.cells[task] for short in self.shorts})

    def _short(self, name: str) -> Short:
        def cell(group: pd.DataFrame) -> str:
            known = group.dropna(subset=f"{name}_mean").sort_values(f"{name}_mean", kind="stable")
            if known.empty:
                return ", ".join(failures(group["status"])) or MISSING
            ends = known.iloc[[0, -1]]
            ends = ends.drop(columns=f"{name}_std", errors="ignore") if len(known) > 1 else ends
            return " – ".join(dict.fromkeys(spelled(ends, [name]).iloc[:, 0]))

        cells = self.numbers.groupby(["method", "task"]).apply(cell).unstack(fill_value=MISSING)
        (header,) = spelled(self.numbers, [name])
        return Short(name, header, cells.loc[self.methods, self.tasks])


def failures(statuses: pd.Series) -> dict[str, int]:
    """``3/5 ok, 1 diverged, 1 oom`` → {diverged: 1, oom: 1}, added up over texts."""
    found = statuses.str.extractall(r", (?P<count>\d+) (?P<name>[^,]+)").astype({"count": int})
    return found.groupby("name")["count"].sum().to_dict()


# --- reading -----------------------------------------------------------------------------------


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
    record = read_record(folder / "provenance.json")
    numbers = read_table(folder / "table.csv")
    present = sorted(path.name for path in folder.iterdir() if path.is_file())
    tasks = file_names(numbers["task"])
    artefacts, inputs = _artefacts(record, folder, tasks=tasks), tuple(_inputs(record, folder))
    pictures = tuple(_pictures(artefacts, folder=folder, present=present, tasks=tasks))
    shown = {file for picture in pictures for file in (picture.png, picture.pdf)}
    made = {"table.html", *(file for artefact in artefacts.values() for file in artefact.files)}
    files = [file for file in present if file in shown or Path(file).suffix in DATA]
    curve = (record.get("memory_curve") or {}).get("file")
    curve = curve if curve in present else None
    sampled = read_csv(folder / curve, texts=["method"])["method"] if curve else ()
    return Study(
        folder=folder,
        name=name,
        numbers=numbers,
        comparison=_comparison(folder),
        claims=read_claims(folder),
        styles=method_styles([*numbers["method"], *sampled]),
        pictures=pictures,
        skipped=tuple(entry for entry in artefacts.values() if entry.skipped is not None),
        missing=tuple(sorted(made.difference(present, {"table.html"}))),
        files=tuple(files),
        interactive=tuple(f for f in files if f.endswith(".html") and f not in made),
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
    heads = ("task", "configuration", "method", "status")
    counts = ("runs", "ok")
    table = read_csv(path, texts=heads, numbers=(*counts, ".*_(mean|std)"))
    table = table.mask(table.isin([math.inf, -math.inf]))
    if table[[*counts]].isna().any(axis=None):
        raise ReportError(f"{path}: runs and ok must be whole numbers")
    return table.astype(dict.fromkeys(counts, int))


def read_claims(folder: Path) -> pd.DataFrame:
    """The table in a ``claims.csv``, as given; empty if there is none."""
    path = folder / "claims.csv"
    return read_csv(path) if path.is_file() else pd.DataFrame()


def _comparison(folder: Path) -> Table | None:
    path = folder / "headline.csv"
    return headline.table(headline.read_headline(path)) if path.is_file() else None


def commands(
    name: str,
    *,
    out: str,
    inputs: Sequence[str],
    curve: str | None,
    record: Mapping[str, object],
) -> dict[str, str]:
    """What makes a study's figures and tables, and the command: from its rows, and from nothing."""
    only, width = map(str, record.get("only", ())), str(record.get("columns", "two"))
    option = ["--memory-curve", f"{out}/{curve}"] if curve else []
    option += ["--width", width] if width != "two" else []
    option += ["--only", *only] if record.get("only") else []
    report = ["python", "-m", "benchmark.report"]
    config = f"configs/{name}.yml"
    configured = ["--config", config] if (REPOSITORY / config).is_file() else []
    found = {}
    if inputs:
        files = [f"{out}/{file}" for file in inputs]
        does = "Draw every figure and table of this page again, from its rows"
        found[does] = shlex.join([*report, *files, "--out", out, *option])
    if configured:
        last = name.rsplit("/", 1)[-1]
        run = ["benchopt", "run", ".", *configured, "--no-display", "--output", last]
        draw = [*report, f"outputs/{last}.parquet", "--out", out, *option]
        found["Run the study again, then draw"] = f"{shlex.join(run)} && {shlex.join(draw)}"
    if curve:
        sample = ["python", "-m", "benchmark.memory_curve", "--out", f"{out}/{curve}", *configured]
        does = "Sample the memory over one training run of each method again"
        found[does] = shlex.join(sample)
    return found


# --- provenance --------------------------------------------------------------------------------


def _artefacts(
    record: Mapping[str, object], folder: Path, *, tasks: Mapping[str, str]
) -> dict[str, Artefact]:
    """What the report made, by name."""
    found = {}
    with readable(folder / "provenance.json", "as the report writes it: artefacts"):
        for entry in record["artefacts"]:
            name = str(entry["name"])
            earlier = found[name].files if name in found else ()
            found[name] = Artefact(
                *kind_and_task(name, tasks=tasks),
                files=(*earlier, *(Path(str(file)).name for file in entry.get("files", []))),
                skipped=entry.get("skipped"),
                left_out=tuple(map(str, entry.get("left_out", []))),
            )
    return found


def _inputs(record: Mapping[str, object], folder: Path) -> Iterator[dict[str, object]]:
    """What it was made of; ``matches``: the copy beside it has this digest (None: no copy)."""
    with readable(folder / "provenance.json", "as the report writes it: inputs"):
        for entry in record["inputs"]:
            known = {key: entry[key] for key in INPUT}
            copy = folder / Path(known["file"]).name
            matches = digest(copy) == known["sha256"] if copy.is_file() else None
            yield known | {"left_out": dict(known["left_out"]), "matches": matches}


def _pictures(
    artefacts: Mapping[str, Artefact],
    *,
    folder: Path,
    present: Sequence[str],
    tasks: Mapping[str, str],
) -> Iterator[Picture]:
    """The PNGs the report lists, in its order, then those it does not list."""
    listed = {f: made for made in artefacts.values() for f in made.files if f.endswith(".png")}
    for png in dict.fromkeys([*listed, *(name for name in present if name.endswith(".png"))]):
        if png not in present:
            continue
        stem = Path(png).stem
        made = listed.get(png) or Artefact(*kind_and_task(stem, tasks=tasks), files=(png,))
        with readable(folder / png, "a readable image"), Image.open(folder / png) as image:
            width, height = (round(CSS_PIXELS_PER_PIXEL * side) for side in image.size)
        pdf = f"{stem}.pdf" if f"{stem}.pdf" in present else None
        yield Picture(stem, made, png, pdf, width, height)


def _facts(record: Mapping[str, object]) -> dict[str, dict[str, list[str]]]:
    """What else ``provenance.json`` states: by group (plain entries: ``""``), name and value."""
    found: dict[str, dict[str, list[str]]] = {"": {}}
    for name, value in record.items():
        label = name.replace("_", " ")
        if name in ("inputs", "artefacts", "rows"):  # on the page as such; a sum over the inputs
            continue
        group, entries = (label, value) if isinstance(value, Mapping) else ("", {label: value})
        texts = {str(key): _texts(inner) for key, inner in entries.items()}
        found.setdefault(group, {}).update({key: text for key, text in texts.items() if text})
    return {group: facts for group, facts in found.items() if facts}


def _texts(value: object) -> list[str]:
    """A value, or each of a list, as text."""
    values = value if isinstance(value, list) else [value]
    return [v if isinstance(v, str) else json.dumps(v) for v in values if v is not None]
