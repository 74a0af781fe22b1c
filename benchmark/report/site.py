"""A static site from a results folder: an index and a page per study, usable from disk.

    build(Path("results"), Path("site"))

A study is a folder with a ``provenance.json``, as ``python -m benchmark.report`` writes it; every
number on a page is computed from that folder's ``table.csv``. Nothing is loaded from a network, and
the same results give the same bytes.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.markers import MarkerStyle
from PIL import Image

from benchmark.report.frame import file_names
from benchmark.report.reading import ReportError, digest
from benchmark.report.style import Style, method_order, method_styles
from benchmark.report.tables import COLUMNS, MISSING, measured

PAGES = Path(__file__).parent / "pages"
REPOSITORY = Path(__file__).resolve().parents[2]
ASSETS = ("site.css", "site.js")
MARKER = "site.json"
MADE_BY = "python -m benchmark.report site"
TEXT_COLUMNS = ("task", "configuration", "method", "status")
DATA = {
    ".parquet": "rows of the runs",
    ".csv": "numbers",
    ".tex": "LaTeX",
    ".md": "Markdown",
    ".html": "page",
    ".json": "record",
}
DESCRIBED = ("Unrolling", "JFB", "Restarted-JFB", "DEQ")  # in the table of the index
NUMBERS = re.compile(r"([-−–—±+.,;%*()\[\]\s\d]|e[-+]\d)*")
CSS_PIXELS_PER_PIXEL = 0.62  # figures are drawn at 200 dpi; all are shown at one scale
CAPTIONS = {
    "accuracy": (
        "Accuracy along training",
        "Loss and test quality of the true equilibrium against training time, layer applications "
        "and outer steps: the median over repetitions, the quartiles as a band. A cross marks the "
        "last finite point of a failed run.",
    ),
    "gradient_error": (
        "Error of the hypergradient",
        "Relative error against the float64 reference, all methods at the same θ, over the layers "
        "differentiated, time and memory. The dashed grey line falls as κᴷ, κ measured.",
    ),
    "reconstructions": (
        "Reconstructions",
        "One test image as each method reconstructs it, and the absolute errors on one scale. "
        "PSNRs are those of the 8-bit images shown.",
    ),
    "time": (
        "Time of one hypergradient",
        "The median over runs and their range; on the right in applications of one layer, timed in "
        "the same rounds. Compare times within one study only.",
    ),
    "memory": (
        "Memory of one hypergradient",
        "Peak of live tensor bytes: the same on every machine.",
    ),
    "memory_over_time": (
        "Memory during training",
        "Sampled over one training run of each method, above what was held at the start.",
    ),
    "performance_profile": (
        "Performance profile",
        "Share of the tasks a method solves within a factor of the best method's cost.",
    ),
    "pareto": (
        "Error against cost",
        "Each configuration's gradient error against its cost. On the front, nothing else is both "
        "cheaper and more accurate.",
    ),
}


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


# --- building ----------------------------------------------------------------------------------


def build(results: Path, out: Path) -> None:
    """Write the site of the studies below ``results`` into the folder ``out``.

    An earlier build in ``out`` is replaced once the new one is complete; a folder with anything
    else in it is refused.

    Raises
    ------
    ReportError
        If ``results`` holds no study or one that cannot be read, or ``out`` cannot be used.
    """
    results, out = results.resolve(), out.resolve()
    check_target(out, results=results)
    studies = find_studies(results)
    overall = read_claims(results)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            new, old = draft / "new", draft / "old"
            new.mkdir()
            write_site(studies, claims=overall, out=new)
            if out.exists():
                out.rename(old)
            try:
                new.rename(out)
            except OSError:
                if old.exists():
                    old.rename(out)
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise ReportError(f"{out}: cannot be written ({error.strerror or error})") from error
    for study in studies:
        print(f"{study.page}: {len(study.pictures)} figures, {len(study.rows)} table rows")
    print(f"site: {out / 'index.html'}")


def check_target(out: Path, *, results: Path) -> None:
    """Raise a ReportError unless ``out`` is new, empty or an earlier build, apart from results."""
    if out == results or out.is_relative_to(results) or results.is_relative_to(out):
        raise ReportError(f"{out}: the site must lie outside the results folder {results}")
    if not out.exists():
        return
    if not out.is_dir():
        raise ReportError(f"{out}: not a folder")
    try:
        made_by = json.loads((out / MARKER).read_text(encoding="utf-8"))["made_by"]
    except (OSError, ValueError, KeyError, TypeError):
        made_by = None
    if made_by != MADE_BY and any(out.iterdir()):
        raise ReportError(f"{out}: not empty and not an earlier build of the site; left as it is")


def find_studies(results: Path) -> list[Study]:
    """The studies below a results folder, by name."""
    if not results.is_dir():
        raise ReportError(f"{results}: no such folder")
    folders = sorted(path.parent for path in results.rglob("provenance.json"))
    if not folders:
        raise ReportError(f"{results}: no study in it (a folder with a provenance.json)")
    return [read_study(folder, results=results) for folder in folders]


def write_site(studies: Sequence[Study], *, claims: Sequence[Part], out: Path) -> None:
    """Write every page, the assets, the studies' files and the marker."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"href": lambda path: quote(str(path)), "powers": powers}
    environment.globals |= {"studies": studies, "marker": marker, "missing": MISSING}
    listed = {name for study in studies for name in study.methods}
    page = environment.get_template("index.html").render(
        root="",
        styles=method_styles({*DESCRIBED, *listed}),
        others=[name for name in method_order(listed) if name not in DESCRIBED],
        runs=sum(study.runs for study in studies),
        ok=sum(study.ok for study in studies),
        failures=added(study.failures for study in studies),
        claims=claims,
    )
    _write(out / "index.html", page)
    for study in studies:
        root = "../" * (study.name.count("/") + 1)
        tasks = [*study.tasks, None]
        groups = [(task, [p for p in study.pictures if p.task == task]) for task in tasks]
        page = environment.get_template("study.html").render(
            root=root,
            study=study,
            files=f"{root}files/{study.name}/",
            groups=[(task, pictures) for task, pictures in groups if pictures],
            downloads=[(n, DATA[Path(n).suffix]) for n in study.files if Path(n).suffix in DATA],
        )
        _write(out / study.page, page)
        for name in study.files:
            copy = out / "files" / study.name / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(study.folder / name, copy)
    (out / "assets").mkdir()
    for name in ASSETS:
        shutil.copyfile(PAGES / name, out / "assets" / name)
    record = {"made_by": MADE_BY, "studies": [study.name for study in studies]}
    _write(out / MARKER, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


# --- reading -----------------------------------------------------------------------------------


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


def commands(name: str, *, out: str, inputs: Sequence[str], curve: str | None) -> Iterator[Command]:
    """What makes a study's figures and tables: from its rows, and from nothing."""
    option = ["--memory-curve", f"{out}/{curve}"] if curve else []
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
        line = shlex.join(["python", "-m", "benchmark.memory_curve", "--out", f"{out}/{curve}"])
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


def powers(text: str) -> Markup:
    """``2.67e-11`` as 2.67·10⁻¹¹, for the page."""
    pieces = re.split(r"(?<=[\d)])e([+-]\d+)", text)
    return Markup("").join(
        Markup("·10<sup>{}</sup>").format(str(int(piece)).replace("-", "−")) if at % 2 else piece
        for at, piece in enumerate(pieces)
    )


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


def kind_and_task(name: str, *, tasks: Mapping[str, str]) -> tuple[str, str | None]:
    """``accuracy_wavelet_l1_inpainting`` → (``accuracy``, that task); no task: (name, None)."""
    if name not in CAPTIONS:
        for task, short in sorted(tasks.items(), key=lambda item: -len(item[1])):
            kind, found, rest = name.partition(f"_{short}")
            if found and kind and (not rest or rest.startswith("_")):
                return kind + rest, task
    return name, None


def captioned(kind: str) -> tuple[str, str]:
    """Title and caption of a kind of figure, or of the kind it is a variant of; else its name."""
    if kind in CAPTIONS:
        return CAPTIONS[kind]
    known = [name for name in CAPTIONS if kind.startswith(f"{name}_")]
    if not known:
        return kind, ""
    title, caption = CAPTIONS[max(known, key=len)]
    variant = kind.removeprefix(max(known, key=len)).strip("_").replace("_", " ")
    return f"{title} ({variant})", caption


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


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
