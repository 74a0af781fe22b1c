"""The report on one study: what is read, every figure and table it gives, and its provenance."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from benchmark.report import figures, headline, learned, pictures, profiles, scaling, tables
from benchmark.report.frame import file_names, tidy, written
from benchmark.report.reading import ReportError, Results, Source, digest, read
from benchmark.report.style import Style, method_styles

WIDTHS = {"one": figures.ONE_COLUMN, "two": figures.TWO_COLUMNS}
CURVE_COLUMNS = ("method", "seconds", "mib")
PLATFORM = (
    "platform",
    "platform-release",
    "platform-architecture",
    "system-processor",
    "system-cpus",
    "system-ram (GB)",
    "version-cuda",
    "version-numpy",
    "env-OMP_NUM_THREADS",
)
OF_A_TASK = {
    draw.__name__: draw
    for draw in (
        figures.accuracy,
        figures.gradient_error,
        profiles.pareto,
        learned.learned,
        pictures.reconstructions,
    )
}
OF_ALL = {
    draw.__name__: draw
    for draw in (
        figures.time,
        figures.memory,
        scaling.scaling,
        profiles.performance,
        figures.memory_over_time,
    )
}
KINDS = OF_A_TASK | OF_ALL
ORIGIN = {
    "sources_digests": "objective_sources_digest",
    "images_digests": "objective_images_digest",
    "torch_versions": "objective_torch_version",
    "devices": "objective_device_name",
    "threads": "objective_threads",
}


def report(
    paths: Sequence[Path],
    *,
    out: Path,
    memory_curve: Path | None = None,
    columns: str = "two",
    only: Sequence[str] = (),
) -> None:
    """Read the files and write every figure, the tables and ``provenance.json`` into ``out``.

    ``columns``, of a page, that a figure is as wide as: one of ``WIDTHS``. ``only`` the figures of
    these kinds ("accuracy", "scaling", …), all where none is named; the tables that compare times
    to an accuracy come with "performance".

    Raises
    ------
    ReportError
        If an input cannot be used (nothing is written then), or ``out`` not be written to.
    """
    results = read(paths)
    samples = None if memory_curve is None else read_memory_curve(memory_curve)
    frame = tidy(results.rows)
    for source in results.sources:
        print(f"read {source.name}: {source.rows_read} rows, {source.rows_used} used")
        for why, rows in source.left_out.items():
            print(f"  left out {rows} rows: {why}")
        for why, rows in source.incomplete.items():
            print(f"  {rows} rows {why}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        artefacts = [
            *write_figures(frame, samples=samples, out=out, width=WIDTHS[columns], only=only),
            *write_tables(frame, out=out, only=only),
        ]
        record = provenance(
            results, artefacts=artefacts, memory_curve=memory_curve, columns=columns, only=only
        )
        _write(out / "provenance.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ReportError(f"{out}: cannot be written to ({error.strerror})") from error
    print("provenance: provenance.json")
    for name in ("torch_versions", "devices", "threads"):
        if len(record[name]) > 1:
            print(f"note: the rows come from {len(record[name])} different {name}")


def read_memory_curve(path: Path) -> pd.DataFrame:
    """Memory sampled over time: a CSV with columns ``method, seconds, mib``."""
    try:
        samples = pd.read_csv(path)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ReportError(f"{path}: not a readable CSV file ({reason})") from error
    missing = [name for name in CURVE_COLUMNS if name not in samples.columns]
    if missing:
        raise ReportError(f"{path}: no column {', '.join(missing)}")
    numbers = samples[["seconds", "mib"]].apply(pd.to_numeric, errors="coerce")
    samples = samples[["method"]].assign(**numbers).dropna()
    if samples.empty:
        raise ReportError(f"{path}: no row with a method and two numbers")
    return samples.assign(method=samples["method"].astype(str))


def write_figures(
    frame: pd.DataFrame,
    *,
    samples: pd.DataFrame | None,
    out: Path,
    width: float = figures.TWO_COLUMNS,
    only: Sequence[str] = (),
) -> Iterator[dict[str, object]]:
    """Write each figure as PNG and PDF; yields a record of what was written, or why not.

    Raises ReportError for a kind in ``only`` that there is not.
    """
    if unknown := set(only) - KINDS.keys():
        raise ReportError(
            f"no figure of the kind {', '.join(sorted(unknown))}: expected some of "
            f"{', '.join(KINDS)}"
        )
    sampled = [] if samples is None else list(samples["method"])
    styles = method_styles([*frame["method"], *sampled])
    for name, draw in _figures(frame, samples=samples, styles=styles, width=width, only=only):
        with figures.look():
            try:
                drawing = draw()
            except figures.NothingToDrawError as reason:
                print(f"{name}: skipped, {reason}")
                yield {"name": name, "skipped": str(reason)}
                continue
            files = figures.save(drawing.figure, stem=out / name)
        print(f"{name}: {', '.join(files)}")
        for note in drawing.notes:
            print(f"  left out: {note}")
        drawn = {file: digest(out / file) for file in files}
        yield {"name": name, "files": files, "sha256": drawn, "left_out": list(drawing.notes)}


def write_tables(
    frame: pd.DataFrame, *, out: Path, only: Sequence[str] = ()
) -> Iterator[dict[str, object]]:
    """Write the tables in four formats; yields a record of each file, or why there is none."""
    if _wanted("performance", only) and not profiles.comparable(frame):
        for name in ("time_to_accuracy", "ranking"):
            print(f"{name}: skipped, {profiles.ALONE}")
            yield {"name": name, "skipped": profiles.ALONE}
    for file, content in table_files(frame, only=only).items():
        _write(out / file, content)
        print(f"table: {file}")
        yield {"name": file.partition(".")[0], "files": [file], "left_out": []}


def table_files(frame: pd.DataFrame, *, only: Sequence[str] = ()) -> dict[str, str]:
    """The content of each table's files, by name, as ``report`` makes them for ``only``."""
    numbers, main = tables.summary(frame), headline.headline(frame)
    kinds = {
        "headline": (main, headline.formatted(main), headline.bold(main)),
        "table": (numbers, tables.formatted(numbers), frozenset()),
    }
    if _wanted("performance", only) and profiles.comparable(frame):
        spent = profiles.time_to_accuracy(frame)
        kinds["time_to_accuracy"] = (spent, profiles.formatted(spent), frozenset())
        ranked = profiles.ranking(frame)
        kinds["ranking"] = (ranked, profiles.formatted_ranking(ranked), frozenset())
    files = {}
    for name, (raw, text, bold) in kinds.items():
        files |= {
            f"{name}.csv": tables.to_csv(raw),
            f"{name}.md": tables.to_markdown(text, bold=bold),
            f"{name}.tex": tables.to_latex(text, bold=bold),
            f"{name}.html": tables.to_html(
                text,
                name="summary" if name == "table" else name,
                bold=bold,
                note=headline.NOTE if bold else "",
            ),
        }
    return files


def provenance(
    results: Results,
    *,
    artefacts: Sequence[Mapping[str, object]],
    memory_curve: Path | None,
    columns: str,
    only: Sequence[str],
) -> dict[str, object]:
    """What the report was made of: files, digests, versions, machines, rows; and what it made."""
    curve = None
    if memory_curve is not None:
        curve = {"file": memory_curve.name, "sha256": digest(memory_curve)}
    return {
        "inputs": [_described(source) for source in results.sources],
        "memory_curve": curve,
        "columns": columns,
        "only": list(only),
        "rows": {
            "read": sum(source.rows_read for source in results.sources),
            "used": sum(source.rows_used for source in results.sources),
        },
        **{name: _values(results.rows, column) for name, column in ORIGIN.items()},
        "platform": {name: _values(results.rows, name) for name in PLATFORM},
        "report_made_with": {
            name: version(name) for name in ("benchopt", "matplotlib", "pandas", "seaborn")
        },
        "artefacts": list(artefacts),
    }


def _figures(
    frame: pd.DataFrame,
    *,
    samples: pd.DataFrame | None,
    styles: Mapping[str, Style],
    width: float,
    only: Sequence[str] = (),
) -> Iterator[tuple[str, Callable[[], figures.Drawing]]]:
    """The name of each figure and the call that draws it."""
    wanted = {kind: draw for kind, draw in KINDS.items() if _wanted(kind, only)}
    options = {"styles": styles, "width": width}
    for task, name in file_names(frame["task"]).items():
        part = frame[frame["task"] == task]
        for kind, draw in wanted.items():
            if kind in OF_A_TASK:
                yield f"{kind}_{name}", partial(draw, part, **options)
    for kind, draw in wanted.items():
        if kind not in OF_A_TASK:
            data = samples if kind == "memory_over_time" else frame
            yield kind, partial(draw, data, **options)


def _wanted(kind: str, only: Sequence[str]) -> bool:
    return kind in only or not only


def _described(source: Source) -> dict[str, object]:
    return {
        "file": source.name,
        "sha256": source.sha256,
        "rows_read": source.rows_read,
        "rows_used": source.rows_used,
        "left_out": dict(source.left_out),
        "incomplete": dict(source.incomplete),
    }


def _values(rows: pd.DataFrame, column: str) -> list[str]:
    """The different values of a column, sorted; none if the files lack it."""
    if column not in rows.columns:
        return []
    return sorted({written(value) for value in rows[column].dropna().unique()})


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
