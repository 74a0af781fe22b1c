"""Put result files of several runs or machines into one, if they can be compared.

    python -m benchmark.report merge A.parquet B.parquet … --out C.parquet [--allow-other-sources]

Refused, with one line that names the file, what was found and what was expected: a file that
cannot be read or lacks a column, rows made by other sources, other images under the same name.
Versions of torch and numpy may differ, and are noted. The inputs stay as they are.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from benchopt.results import read_results
from benchopt.results.parquet import to_parquet

from benchmark.report.reading import NAMES, ReportError, read_file, repeated, writable

SOURCES, IMAGES = "objective_sources_digest", "objective_images_digest"
TASK = [*NAMES[:2], "idx_rep"]
VERSIONS = ("objective_torch_version", "version-numpy", "version-cuda", "objective_device_name")


@dataclass(frozen=True)
class Merged:
    """All rows without duplicates, how many of each file were new, and what is worth knowing."""

    rows: pd.DataFrame
    added: tuple[int, ...]
    dropped: tuple[int, ...]
    notes: tuple[str, ...]


def report(parquet: Sequence[Path], *, out: Path, allow_other_sources: bool = False) -> None:
    """The command line."""
    if out.suffix != ".parquet":
        raise ReportError(f"{out}: expected a name that ends in .parquet")
    if out.resolve() in [path.resolve() for path in parquet]:
        raise ReportError(f"{out}: is one of the inputs, expected another name")
    merged = merge(parquet, allow_other_sources=allow_other_sources)
    write(merged.rows, out)
    for path, added, dropped in zip(parquet, merged.added, merged.dropped, strict=True):
        print(f"{path}: {added} rows" + (f", {dropped} duplicates dropped" if dropped else ""))
    for note in merged.notes:
        print(f"note: {note}")
    print(f"{out}: {len(merged.rows)} rows")


def merge(paths: Sequence[Path], *, allow_other_sources: bool = False) -> Merged:
    """The rows of all files; a ReportError where they cannot be compared."""
    tables = {path: _checked(path) for path in paths}
    every = list(tables.values())
    if not allow_other_sources:
        _same_sources(tables)
    _same_images(tables)
    kept = [table[~known] for table, known in zip(every, repeated(every), strict=True)]
    return Merged(
        rows=pd.concat(kept, ignore_index=True),
        added=tuple(len(table) for table in kept),
        dropped=tuple(len(a) - len(b) for a, b in zip(every, kept, strict=True)),
        notes=tuple(_differences(every)),
    )


def write(rows: pd.DataFrame, path: Path) -> None:
    """A parquet file as benchopt writes them, there in full or not at all."""
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".merge", dir=path.parent) as folder:
            draft = Path(folder, path.name)
            to_parquet(rows, draft)
            read_results(draft)
            os.replace(draft, path)


def _checked(path: Path) -> pd.DataFrame:
    """The rows of a file, categories as strings again."""
    raw = read_file(path)
    missing = [name for name in (SOURCES, IMAGES) if name not in raw.columns]
    if missing:
        raise ReportError(f"{path}: no column {missing[0]}, expected one to compare files by")
    if raw.empty:
        raise ReportError(f"{path}: no rows to merge")
    return raw.astype(dict.fromkeys(raw.select_dtypes("category").columns, object))


def _same_sources(tables: Mapping[Path, pd.DataFrame]) -> None:
    """Raise where rows come from sources other than those of the first row."""
    first, *_ = tables
    expected = str(tables[first][SOURCES].iloc[0])
    for path, table in tables.items():
        if others := sorted(set(table[SOURCES].astype(str)) - {expected}):
            raise ReportError(
                f"{path}: made by sources {', '.join(others)}, expected {expected} as in "
                f"{first} (--allow-other-sources accepts it)"
            )


def _same_images(tables: Mapping[Path, pd.DataFrame]) -> None:
    """Raise where a task and repetition have other images than in an earlier row."""
    seen: dict[tuple, tuple[str, Path]] = {}
    for path, table in tables.items():
        different = table[[*TASK, IMAGES]].dropna().drop_duplicates()
        for *task, images in different.itertuples(index=False):
            expected, first = seen.setdefault(tuple(task), (images, path))
            if images != expected:
                raise ReportError(
                    f"{path}: images {images} in {task[1]}, repetition {task[2]}, "
                    f"expected {expected} as in {first}"
                )


def _differences(tables: Sequence[pd.DataFrame]) -> Iterator[str]:
    """One line for each version or machine in which the rows differ."""
    for name in (*VERSIONS, SOURCES):
        values = {str(v) for t in tables if name in t.columns for v in t[name].dropna().unique()}
        if len(values) > 1:
            yield f"{name.removeprefix('objective_')}: {', '.join(sorted(values))}"
