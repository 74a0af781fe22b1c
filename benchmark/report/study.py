"""A study: a folder of results, read and checked, for its page of the site.

It has a ``provenance.json``, as ``python -m benchmark.report`` writes it; every number is computed
from its ``table.csv``.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pandas as pd
from PIL import Image

from benchmark.report.captions import captioned, kind_and_task
from benchmark.report.frame import file_names
from benchmark.report.reading import ReportError, digest
from benchmark.report.style import Style, method_order, method_styles
from benchmark.report.tables import COLUMNS, MISSING, measured

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT_COLUMNS = ("task", "configuration", "method", "status")
DATA = {
    ".parquet": "rows of the runs",
    ".csv": "numbers",
    ".tex": "LaTeX",
    ".md": "Markdown",
    ".html": "page",
    ".json": "record",
}
NUMBERS = re.compile(r"([-−–—±+.,;%*()\[\]\s\d]|e[-+]\d)*")
CSS_PIXELS_PER_PIXEL = 0.62  # figures are drawn at 200 dpi; all are shown at one scale


# --- what a study holds ------------------------------------------------------------------------


@dataclass(frozen=True)
class Artefact:
    """An entry of ``provenance.json``: the files made, or why none was, and what was left out."""

    name: str
    files: tuple[str, ...]
    skipped: str | None
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Input:
    """A file the report was made of; ``matches``: the copy beside it has this digest (or None)."""

    file: str
    sha256: str
    rows_read: int
    rows_used: int
    left_out: Mapping[str, int]
    matches: bool | None


@dataclass(frozen=True)
class Picture:
    """A figure on a page; ``width`` and ``height`` in CSS pixels, ``pdf`` None if there is none."""

    name: str
    title: str
    caption: str
    task: str | None
    png: str
    pdf: str | None
    width: int
    height: int
    left_out: tuple[str, ...]

    @property
    def alt(self) -> str:
        """Text in place of the image."""
        return f"{self.title}: {self.task}" if self.task else self.title


@dataclass(frozen=True)
class Skipped:
    """A figure that was not drawn, and why."""

    title: str
    task: str | None
    why: str


@dataclass(frozen=True)
class Column:
    """A numeric column of the table: its name in the CSV without ``_mean``, and its header."""

    name: str
    header: str
    decimals: int | None


@dataclass(frozen=True)
class Number:
    """A measured value: the text to show and the number to sort by (None: not measured)."""

    text: str
    value: float | None


@dataclass(frozen=True)
class Row:
    """A row of the table; ``failures`` counts its failed runs by status."""

    task: str
    configuration: str
    method: str
    status: str
    runs: int
    ok: int
    failures: Mapping[str, int]
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class Headline:
    """A column of the table in short: for each (task, method) its value, or their range, as text.

    ``ranges`` says that there are ranges: over the configurations of a method.
    """

    name: str
    header: str
    ranges: bool
    cells: Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class Command:
    """What a shell command does, and the command."""

    does: str
    line: str


@dataclass(frozen=True)
class Part:
    """A part of a text: a table, or where it has no rows, a heading or plain text."""

    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    text: str = ""
    is_heading: bool = False

    @property
    def numeric(self) -> tuple[bool, ...]:
        """For each column, whether its cells hold numbers alone (or dashes), marked or not."""
        columns = zip(*self.rows, strict=True)
        return tuple(all(map(NUMBERS.fullmatch, column)) for column in columns)

    @property
    def marks(self) -> bool:
        """Whether a cell is in bold."""
        return any(cell.startswith("**") for row in self.rows for cell in row)


@dataclass(frozen=True)
class Study:
    """A folder of results, read and checked; ``name`` is its path below the results folder."""

    folder: Path
    name: str
    description: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    headlines: tuple[Headline, ...]
    comparison: tuple[Part, ...]
    styles: Mapping[str, Style]
    pictures: tuple[Picture, ...]
    skipped: tuple[Skipped, ...]
    missing: tuple[str, ...]
    files: tuple[str, ...]
    interactive: tuple[str, ...]
    inputs: tuple[Input, ...]
    facts: Mapping[str, Mapping[str, tuple[str, ...]]]
    commands: tuple[Command, ...]
    claims: tuple[Part, ...]

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
    def tasks(self) -> tuple[str, ...]:
        """The tasks in the order of the table."""
        return tuple(dict.fromkeys(row.task for row in self.rows))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods in their fixed order."""
        return tuple(method_order(row.method for row in self.rows))

    @property
    def runs(self) -> int:
        """Runs behind the table."""
        return sum(row.runs for row in self.rows)

    @property
    def ok(self) -> int:
        """Runs that ended well."""
        return sum(row.ok for row in self.rows)

    @property
    def failures(self) -> dict[str, int]:
        """Failed runs by status."""
        return added(row.failures for row in self.rows)


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
    table = read_table(folder / "table.csv")
    columns = table_columns(table)
    rows = tuple(_row(row, columns) for row in table.to_dict("records"))
    present = sorted(path.name for path in folder.iterdir() if path.is_file())
    artefacts, inputs = _artefacts(record, folder), _inputs(record, folder)
    made = {"table.html", *(file for artefact in artefacts for file in artefact.files)}
    tasks = file_names(row.task for row in rows)
    pictures = _pictures(artefacts, folder=folder, present=present, tasks=tasks)
    shown = {file for picture in pictures for file in (picture.png, picture.pdf) if file}
    files = [name for name in present if name in shown or Path(name).suffix in DATA]
    curve = record.get("memory_curve") or {}
    curve_file = curve.get("file") if isinstance(curve, Mapping) else None
    sampled = _sampled_methods(folder / str(curve_file)) if curve_file in present else []
    return Study(
        folder=folder,
        name=name,
        description=configuration_comment(name),
        columns=columns,
        rows=rows,
        headlines=headlines(table, columns),
        comparison=_given(folder, {"headline.md": _parts}),
        styles=MappingProxyType(method_styles([*(row.method for row in rows), *sampled])),
        pictures=pictures,
        skipped=tuple(_skipped(artefacts, tasks=tasks)),
        missing=tuple(sorted(made.difference(present, {"table.html"}))),
        files=tuple(files),
        interactive=tuple(f for f in files if f.endswith(".html") and f not in made),
        inputs=inputs,
        facts=MappingProxyType(_facts(record)),
        commands=tuple(
            commands(
                name,
                out=folder.relative_to(results.parent).as_posix(),
                inputs=[entry.file for entry in inputs if entry.file in present],
                curve=str(curve_file) if curve_file in present else None,
                columns=str(record.get("columns", "two")),
                only=[str(kind) for kind in record.get("only", ())],
            )
        ),
        claims=read_claims(folder),
    )


def read_record(path: Path) -> dict[str, object]:
    """A ``provenance.json``."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not readable ({_first_line(error)})") from error
    if not isinstance(record, dict):
        raise ReportError(f"{path}: not an object")
    return record


def read_table(path: Path) -> pd.DataFrame:
    """A ``table.csv``: text in ``TEXT_COLUMNS``, numbers (NaN where empty) in the others."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: not readable ({_first_line(error)})") from error
    lacking = [name for name in (*TEXT_COLUMNS, "runs", "ok") if name not in table.columns]
    if lacking:
        raise ReportError(f"{path}: no column {', '.join(lacking)}")
    for name in table.columns:
        if name in ("runs", "ok") or name.endswith(("_mean", "_std")):
            try:
                table[name] = [float(text or "nan") for text in table[name]]
            except ValueError as error:
                raise ReportError(f"{path}: column {name}: {_first_line(error)}") from error
    if not table[["runs", "ok"]].map(math.isfinite).all(axis=None):
        raise ReportError(f"{path}: runs and ok must be whole numbers")
    return table.mask(table.isin([math.inf, -math.inf]))


def table_columns(table: pd.DataFrame) -> tuple[Column, ...]:
    """The numeric columns with any value, those of the report's tables with their headers."""
    known = {column.name: column for column in COLUMNS}
    found = []
    for name in (name.removesuffix("_mean") for name in table.columns if name.endswith("_mean")):
        if table[f"{name}_mean"].notna().any():
            column = known.get(name)
            header = column.header if column else name.replace("_", " ")
            found.append(Column(name, header, column.decimals if column else None))
    return tuple(found)


def read_claims(folder: Path) -> tuple[Part, ...]:
    """``claims.json`` (a list of objects, or one under the key ``claims``), or else ``claims.md``.

    Shown as given; empty if there is neither.
    """
    return _given(folder, {"claims.json": _claims_from_json, "claims.md": _parts})


def _given(
    folder: Path, parsers: Mapping[str, Callable[[str], tuple[Part, ...]]]
) -> tuple[Part, ...]:
    """The first of the files that is there, taken apart; empty if none is."""
    for name, parse in parsers.items():
        path = folder / name
        if path.is_file():
            try:
                return parse(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise ReportError(f"{path}: not readable ({_first_line(error)})") from error
    return ()


def _claims_from_json(text: str) -> tuple[Part, ...]:
    record = json.loads(text)
    entries = record.get("claims") if isinstance(record, dict) else record
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return (Part(text=json.dumps(record, indent=2, ensure_ascii=False)),)
    keys = tuple(dict.fromkeys(str(key) for entry in entries for key in entry))
    rows = tuple(tuple(_cell(entry.get(key)) for key in keys) for entry in entries)
    return (Part(tuple(key.replace("_", " ") for key in keys), rows),)


def _parts(text: str) -> tuple[Part, ...]:
    """A Markdown text: its headings, its pipe tables, and the other lines as they are."""

    def sign(line: str) -> str:
        return line[:1] if line.startswith(("#", "|")) else ""

    parts = []
    for first, group in itertools.groupby(text.splitlines(), key=sign):
        lines = list(group)
        if first == "#":
            parts += [Part(text=line.lstrip("#").strip(), is_heading=True) for line in lines]
        elif first == "|" and len(lines) > 2:
            cells = [re.split(r"(?<!\\)\|", line.strip()[1:].removesuffix("|")) for line in lines]
            header, _, *rows = [tuple(c.strip().replace("\\|", "|") for c in row) for row in cells]
            width = len(header)
            rows = [(*row, *[""] * width)[:width] for row in rows]
            parts.append(Part(header, tuple(rows)))
        elif any(line.strip() for line in lines):
            parts.append(Part(text="\n".join(lines).strip("\n")))
    return tuple(parts)


def configuration_comment(name: str) -> str:
    """The comment on top of ``configs/<name>.yml``, its first line (the command) aside."""
    path = REPOSITORY / "configs" / f"{name}.yml"
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    text = [line.lstrip("#").strip() for line in comment]
    return " ".join(line for line in text if not line.startswith("benchopt run"))


def commands(
    name: str,
    *,
    out: str,
    inputs: Sequence[str],
    curve: str | None,
    columns: str,
    only: Sequence[str],
) -> Iterator[Command]:
    """What makes a study's figures and tables: from its rows, and from nothing."""
    option = ["--memory-curve", f"{out}/{curve}"] if curve else []
    option += ["--width", columns] if columns != "two" else []
    option += ["--only", *only] if only else []
    report = ["python", "-m", "benchmark.report"]
    if inputs:
        files = [f"{out}/{file}" for file in inputs]
        line = shlex.join([*report, *files, "--out", out, *option])
        yield Command("Draw every figure and table of this page again, from its rows", line)
    config = f"configs/{name}.yml"
    if (REPOSITORY / config).is_file():
        last = name.rsplit("/", 1)[-1]
        run = ["benchopt", "run", ".", "--config", config, "--no-display", "--output", last]
        line = shlex.join([*report, f"outputs/{last}.parquet", "--out", out, *option])
        yield Command("Run the study again, then draw", f"{shlex.join(run)} && {line}")
    if curve:
        sample = ["python", "-m", "benchmark.running.memory_curve", "--out", f"{out}/{curve}"]
        sample += ["--config", config] if (REPOSITORY / config).is_file() else []
        line = shlex.join(sample)
        yield Command("Sample the memory over one training run of each method again", line)


# --- numbers -----------------------------------------------------------------------------------


def headlines(table: pd.DataFrame, columns: Sequence[Column]) -> tuple[Headline, ...]:
    """A study in short: its accuracy first (of training, or of the gradient), then its costs.

    Gradient errors are a headline only where nothing was trained: all methods are then at the same
    θ.
    """
    names = [column.name for column in columns]
    trained = "outer_step" in names and (table["outer_step_mean"] > 0).any()
    wanted = ("test_psnr" if trained else "gradient_error", "time_ratio", "peak_memory_mib")
    return tuple(_headline(table, columns[names.index(name)]) for name in wanted if name in names)


def _headline(table: pd.DataFrame, column: Column) -> Headline:
    cells, ranges = {}, False
    for key, group in table.groupby(["task", "method"], sort=False):
        known = group[group[f"{column.name}_mean"].notna()]
        ends = known.sort_values(f"{column.name}_mean", kind="stable").iloc[[0, -1][: len(known)]]
        texts = [_number(row, column).text for row in ends.to_dict("records")]
        if len(known) > 1:
            means = [_text(mean, column) for mean in ends[f"{column.name}_mean"]]
            texts = list(dict.fromkeys(means))
            ranges |= len(texts) > 1
        failed = ", ".join(added(map(_failures, group["status"])))
        cells[key] = " – ".join(texts) or failed or MISSING
    return Headline(column.name, column.header, ranges, MappingProxyType(cells))


def _row(row: Mapping[str, object], columns: Sequence[Column]) -> Row:
    text = {name: str(row[name]) for name in TEXT_COLUMNS}
    return Row(
        **text,
        runs=int(row["runs"]),
        ok=int(row["ok"]),
        failures=_failures(text["status"]),
        numbers=tuple(_number(row, column) for column in columns),
    )


def _number(row: Mapping[str, object], column: Column) -> Number:
    mean, std = row[f"{column.name}_mean"], row.get(f"{column.name}_std", math.nan)
    text = measured(mean, std, decimals=column.decimals)
    return Number(text, None if math.isnan(mean) else float(mean))


def _text(value: float, column: Column) -> str:
    return measured(value, math.nan, decimals=column.decimals)


def _failures(status: str) -> dict[str, int]:
    """``3/5 ok, 1 diverged, 1 oom`` → {diverged: 1, oom: 1}."""
    return {name: int(count) for count, name in re.findall(r", (\d+) ([^,]+)", status)}


def added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts added up by name, sorted by name."""
    total: dict[str, int] = {}
    for name, count in (item for part in counts for item in part.items()):
        total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


# --- figures -----------------------------------------------------------------------------------


def _pictures(
    artefacts: Sequence[Artefact],
    *,
    folder: Path,
    present: Sequence[str],
    tasks: Mapping[str, str],
) -> tuple[Picture, ...]:
    """The PNGs the report lists, in its order, then those it does not list."""
    listed = {file: a for a in artefacts for file in a.files if Path(file).suffix == ".png"}
    found = []
    for png in [*listed, *(n for n in present if n.endswith(".png") and n not in listed)]:
        if png not in present:
            continue
        artefact = listed.get(png)
        stem = Path(png).stem
        kind, task = kind_and_task(stem, tasks=tasks)
        title, caption = captioned(kind)
        width, height = _size(folder / png)
        found.append(
            Picture(
                name=stem,
                title=title,
                caption=caption,
                task=task,
                png=png,
                pdf=f"{stem}.pdf" if f"{stem}.pdf" in present else None,
                width=round(width * CSS_PIXELS_PER_PIXEL),
                height=round(height * CSS_PIXELS_PER_PIXEL),
                left_out=artefact.left_out if artefact else (),
            )
        )
    return tuple(found)


def _skipped(artefacts: Sequence[Artefact], *, tasks: Mapping[str, str]) -> Iterator[Skipped]:
    for artefact in artefacts:
        if artefact.skipped is not None:
            kind, task = kind_and_task(artefact.name, tasks=tasks)
            yield Skipped(captioned(kind)[0], task, artefact.skipped)


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: not a readable image") from error


# --- provenance --------------------------------------------------------------------------------


def _artefacts(record: Mapping[str, object], folder: Path) -> tuple[Artefact, ...]:
    try:
        return tuple(
            Artefact(
                name=str(entry["name"]),
                files=tuple(Path(str(file)).name for file in entry.get("files", [])),
                skipped=None if entry.get("skipped") is None else str(entry["skipped"]),
                left_out=tuple(str(note) for note in entry.get("left_out", [])),
            )
            for entry in record["artefacts"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _not_the_reports(folder, "artefacts") from error


def _inputs(record: Mapping[str, object], folder: Path) -> tuple[Input, ...]:
    try:
        found = []
        for entry in record["inputs"]:
            file, sha256 = str(entry["file"]), str(entry["sha256"])
            copy = folder / Path(file).name
            found.append(
                Input(
                    file=file,
                    sha256=sha256,
                    rows_read=int(entry["rows_read"]),
                    rows_used=int(entry["rows_used"]),
                    left_out={str(why): int(n) for why, n in entry["left_out"].items()},
                    matches=digest(copy) == sha256 if copy.is_file() else None,
                )
            )
        return tuple(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_the_reports(folder, "inputs") from error


def _facts(record: Mapping[str, object]) -> dict[str, dict[str, tuple[str, ...]]]:
    """What else ``provenance.json`` states: by group (plain entries: ``""``), name and value."""
    found: dict[str, dict[str, tuple[str, ...]]] = {"": {}}
    for name, value in record.items():
        label = name.replace("_", " ")
        if name in ("inputs", "artefacts", "rows"):  # on the page as such; a sum over the inputs
            continue
        if isinstance(value, Mapping):
            found[label] = {str(key): _texts(inner) for key, inner in value.items()}
        else:
            found[""][label] = _texts(value)
    kept = {g: {k: v for k, v in facts.items() if v} for g, facts in found.items()}
    return {group: facts for group, facts in kept.items() if facts}


def _texts(value: object) -> tuple[str, ...]:
    """A value, or each of a list, as text."""
    values = value if isinstance(value, list) else [value]
    return tuple(_cell(entry) for entry in values if entry is not None)


def _sampled_methods(path: Path) -> list[str]:
    """The methods of a memory curve, which share the figures' styles."""
    try:
        samples = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: not readable ({_first_line(error)})") from error
    return sorted(set(samples["method"])) if "method" in samples.columns else []


def _not_the_reports(folder: Path, key: str) -> ReportError:
    return ReportError(f"{folder / 'provenance.json'}: {key} is not as the report writes it")


def _cell(value: object) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
