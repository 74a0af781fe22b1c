"""The report on one study: what is read, every figure and table it gives, and its provenance."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from benchmark.report import drawing, figures, limits, profiles, tables
from benchmark.report.abreast import abreast
from benchmark.report.drawing import Drawing, NothingToDrawError, Page
from benchmark.report.frame import how_ended, last_rows, more_than_tried, part, run_ends, tidy
from benchmark.report.headline import headline
from benchmark.report.names import file_names, written
from benchmark.report.pictures import reconstructions
from benchmark.report.profiles import pareto
from benchmark.report.reading import (
    RECORDED,
    ReportError,
    Results,
    digest,
    read,
    read_csv,
    writable,
    write,
)
from benchmark.report.scaling import scaling
from benchmark.report.style import method_styles

#: what draws each kind of figure: of each task by itself, and once of all
OF_A_TASK = (figures.accuracy, figures.gradient_error, pareto, figures.learned, reconstructions)
OF_ALL = (figures.time, figures.memory, scaling, profiles.performance, limits.limits)
OF_ALL += (figures.memory_over_time,)
#: what is drawn of every row, and not of the ends of runs alone
CURVES = (figures.accuracy, figures.learned)
KINDS = {draw.__name__: draw for draw in (*OF_A_TASK, *OF_ALL)}
#: the record of a file that was written, or why not, and the lines that are said of it
Written = tuple[dict[str, object], list[str]]
WIDTHS = {"one": drawing.ONE_COLUMN, "two": drawing.TWO_COLUMNS}


def report(
    parquet: Sequence[Path],
    *,
    out: Path,
    memory_curve: Path | None = None,
    width: str = "two",
    only: Sequence[str] = (),
) -> None:
    """Read the files and write every figure, the tables and ``provenance.json`` into ``out``.

    ``width``: one of ``WIDTHS``. ``only`` the figures of these ``KINDS``, all where none is named;
    the tables that compare times to an accuracy come with "performance". A ReportError if an input
    cannot be used (nothing is written then), or ``out`` not be written to.
    """
    if unknown := sorted(set(only) - KINDS.keys()):
        expected = f"expected some of {', '.join(KINDS)}"
        raise ReportError(f"no figure of the kind {', '.join(unknown)}: {expected}")
    results = read(parquet)
    samples = None if memory_curve is None else read_memory_curve(memory_curve)
    # of raw rows no more is told than this: a million of them would take as much memory as the tidy
    # ones, and are handed over
    raw = [results.rows]
    results = replace(results, rows=results.rows.reindex(columns=RECORDED["column"]))
    frame = tidy(raw.pop())
    for source in results.sources:
        print(f"read {source.file}: {source.rows_read} rows, {source.rows_used} used")
        said = [f"left out {rows} rows: {why}" for why, rows in source.left_out.items()]
        said += [f"{rows} rows {why}" for why, rows in source.incomplete.items()]
        print(*(f"  {line}\n" for line in said), sep="", end="")
    ends = run_ends(frame)
    if unknown := drawing.fonts(named(ends))[1]:
        print(f"note: no font here has {unknown}; the figures show boxes, the tables are right")
    if (ends["ending"] != "ok").all():
        said = ", ".join(f"{count} {how}" for how, count in how_ended(last_rows(ends)).items())
        print(f"note: no run ended well: {said}")
    sampled = [] if samples is None else samples["method"]
    page = Page(method_styles([*ends["method"], *sampled]), WIDTHS[width])
    with writable(out):
        out.mkdir(parents=True, exist_ok=True)
        drawn = figure_jobs(frame, ends, only or KINDS, page, samples=samples, out=out)
        # the tables first, which take longest
        tabled = partial(write_tables, frame, ends, out=out, only=only)
        first, *others = abreast([tabled, *drawn])
        made = []
        for record, said in [*others, *first]:
            print(*said, sep="\n")
            made.append(record)
    record = provenance(results, made, curve=memory_curve, columns=width, only=only)
    write(out / "provenance.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print("provenance: provenance.json")
    for name in ("torch_versions", "devices", "threads"):
        if len(record[name]) > 1:
            print(f"note: the rows come from {len(record[name])} different {name}")


def read_memory_curve(path: Path) -> pd.DataFrame:
    """Memory sampled over time: a CSV with columns ``method, seconds, mib``."""
    samples = read_csv(path, texts=["method"], numbers=["seconds", "mib"])
    samples = samples[["method", "seconds", "mib"]].dropna()
    if samples.empty:
        raise ReportError(f"{path}: no row with a method and two numbers")
    return samples


def figure_jobs(
    frame: pd.DataFrame,
    ends: pd.DataFrame,
    kinds: Collection[str],
    page: Page,
    *,
    samples: pd.DataFrame | None,
    out: Path,
) -> Iterator[Callable[[], Written]]:
    """What writes each figure, ``CURVES`` of the whole frame and the others of its ``run_ends``."""
    names, known = file_names(ends["task"].unique()), named(ends)
    wanted = [(draw, task) for task in names for draw in OF_A_TASK]
    wanted += [(draw, None) for draw in OF_ALL]
    for draw, task in wanted:
        if (kind := draw.__name__) not in kinds:
            continue
        name = f"{kind}_{names[task]}" if task else kind
        rows = samples if kind == "memory_over_time" else frame if draw in CURVES else ends
        rows = part(rows, rows["task"] == task) if task else rows
        record = {"name": name, "kind": kind, "task": task}
        yield partial(write_figure, draw, rows, page, record, known=known, out=out)


def write_figure(
    draw: Callable[[pd.DataFrame, Page], Drawing],
    rows: pd.DataFrame,
    page: Page,
    record: dict[str, object],
    *,
    known: set[str],
    out: Path,
) -> Written:
    """Write a figure as PNG and PDF: the record of what was written, or why not; what is said."""
    name = str(record["name"])
    with drawing.look(known):
        try:
            drawn = draw(rows, page)
        except NothingToDrawError as reason:
            return record | {"skipped": str(reason)}, [f"{name}: skipped, {reason}"]
        files = drawing.save(drawn.figure, out / name)
    digests = {file: digest(out / file) for file in files}
    said = [f"{name}: {', '.join(files)}", *(f"  left out: {note}" for note in drawn.notes)]
    return record | {"files": files, "sha256": digests, "left_out": list(drawn.notes)}, said


def named(frame: pd.DataFrame) -> set[str]:
    """All that figures call by its name."""
    columns = ("task", "configuration", "gradient", "series")
    return set().union(*(frame[name].unique() for name in columns))


def write_tables(
    frame: pd.DataFrame, ends: pd.DataFrame, *, out: Path, only: Sequence[str] = ()
) -> list[Written]:
    """Write the tables in four formats: of each file a record, or why there is none."""
    files, made = table_files(frame, ends, only=only), []
    if "ranking.csv" not in files and (not only or "performance" in only):
        for name in ("time_to_accuracy", "ranking"):
            why = profiles.ALONE
            made.append(({"name": name, "skipped": why}, [f"{name}: skipped, {why}"]))
    for file, content in files.items():
        write(out / file, content)
        record = {"name": file.partition(".")[0], "files": [file], "left_out": []}
        made.append((record, [f"table: {file}"]))
    return made


def table_files(
    frame: pd.DataFrame, ends: pd.DataFrame, *, only: Sequence[str] = ()
) -> dict[str, str]:
    """The content of each table's files, by name, as ``report`` makes them for ``only``."""
    whole = more_than_tried(frame)
    shown = part(ends, ends.index.isin(whole.index))
    made = [headline(whole, shown), tables.summarised(shown)]
    if (not only or "performance" in only) and profiles.comparable(ends):
        made += [profiles.time_to_accuracy(ends), profiles.ranking(ends)]
    if not only and (frame["outer_step"] > 0).any():
        made.append(profiles.work(frame))
    return {name: content for table in made for name, content in table.files().items()}


def provenance(
    results: Results,
    artefacts: Sequence[Mapping[str, object]],
    *,
    curve: Path | None,
    columns: str,
    only: Sequence[str],
) -> dict[str, object]:
    """What the report was made of: files, digests, versions, machines, rows; and what it made."""
    inputs = [asdict(source) for source in results.sources]
    libraries = ("benchopt", "matplotlib", "pandas", "seaborn")
    told: dict[str, dict[str, list[str]]] = {}
    for row in RECORDED.itertuples():
        values = results.rows.get(row.column, pd.Series()).dropna().unique()
        told.setdefault(row.group, {})[row.name] = sorted({written(value) for value in values})
    return {
        "inputs": inputs,
        "memory_curve": curve and {"file": curve.name, "sha256": digest(curve)},
        "columns": columns,
        "only": list(only),
        "rows": {part: sum(one[f"rows_{part}"] for one in inputs) for part in ("read", "used")},
        **told.pop(""),
        **told,
        "report_made_with": {name: version(name) for name in libraries},
        "artefacts": list(artefacts),
    }
