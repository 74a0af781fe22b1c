"""Put result files of several runs or machines into one, if they can be compared.

    python -m benchmark.report merge A.parquet B.parquet … --out C.parquet [--allow-other-sources]

Refused, with one line that names the file, what was found and what was expected: a file that
cannot be read or lacks a column, rows made by other sources, other images under the same name.
Versions of torch and numpy may differ, and are noted. The inputs stay as they are.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from benchopt.results import read_results
from benchopt.results.parquet import to_parquet

from benchmark.measure.provenance import files_of
from benchmark.report.reading import NAMES, ReportError, check_columns, fingerprints, read_file

SOURCES, IMAGES = "objective_sources_digest", "objective_images_digest"
FILES = "objective_sources"
TASK = [*NAMES[:2], "idx_rep"]
VERSIONS = ("objective_torch_version", "version-numpy", "version-cuda", "objective_device_name")


@dataclass(frozen=True)
class Merged:
    """All rows without duplicates, how many of each file were new, and what is worth knowing."""

    rows: pd.DataFrame
    added: tuple[int, ...]
    dropped: tuple[int, ...]
    notes: tuple[str, ...]


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.report merge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parquet", nargs="+", type=Path, help="benchopt result files")
    parser.add_argument("--out", required=True, type=Path, help="the .parquet file to write")
    parser.add_argument(
        "--allow-other-sources", action="store_true", help="accept rows made by other sources"
    )
    arguments = parser.parse_args(argv)
    if arguments.out.suffix != ".parquet":
        raise ReportError(f"{arguments.out}: expected a name that ends in .parquet")
    if arguments.out.resolve() in [path.resolve() for path in arguments.parquet]:
        raise ReportError(f"{arguments.out}: is one of the inputs, expected another name")
    merged = merge(arguments.parquet, allow_other_sources=arguments.allow_other_sources)
    write(merged.rows, arguments.out)
    for path, added, dropped in zip(arguments.parquet, merged.added, merged.dropped, strict=True):
        print(f"{path}: {added} rows" + (f", {dropped} duplicates dropped" if dropped else ""))
    for note in merged.notes:
        print(f"note: {note}")
    print(f"{arguments.out}: {len(merged.rows)} rows")
    return 0


def merge(paths: Sequence[Path], *, allow_other_sources: bool = False) -> Merged:
    """The rows of all files; a ReportError where they cannot be compared."""
    tables = [_checked(path) for path in paths]
    other = _other_sources(paths, tables)
    if other and not allow_other_sources:
        raise ReportError(f"{other} (--allow-other-sources accepts it)")
    _same_images(paths, tables)
    known = pd.concat([fingerprints(table) for table in tables], ignore_index=True).duplicated()
    kept, start = [], 0
    for table in tables:
        kept.append(table[~known.iloc[start : start + len(table)].to_numpy()])
        start += len(table)
    return Merged(
        rows=pd.concat(kept, ignore_index=True),
        added=tuple(len(table) for table in kept),
        dropped=tuple(len(a) - len(b) for a, b in zip(tables, kept, strict=True)),
        notes=(*([other] if other else []), *_differences(tables)),
    )


def write(rows: pd.DataFrame, path: Path) -> None:
    """A parquet file as benchopt writes them, there in full or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".merge", suffix=".parquet")
        os.close(handle)
        try:
            to_parquet(rows, Path(name))
            read_results(Path(name))
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written ({error.strerror})") from error


def _checked(path: Path) -> pd.DataFrame:
    """The rows of a file, categories as strings again."""
    raw = read_file(path)
    check_columns(raw, path=path)
    missing = [name for name in (SOURCES, IMAGES) if name not in raw.columns]
    if missing:
        raise ReportError(f"{path}: no column {missing[0]}, expected one to compare files by")
    if raw.empty:
        raise ReportError(f"{path}: no rows to merge")
    texts = raw.select_dtypes("category").columns
    return raw.astype(dict.fromkeys(texts, object))


def _other_sources(paths: Sequence[Path], tables: Sequence[pd.DataFrame]) -> str | None:
    """Where a file behind a row is another than behind an earlier row, the first time."""
    seen: dict[str, tuple[str, str, Path]] = {}
    for path, table in zip(paths, tables, strict=True):
        origin = table.reindex(columns=[SOURCES, FILES]).drop_duplicates()
        for made, text in origin.itertuples(index=False):
            files = files_of(made, text)
            known = {name: seen.setdefault(name, (files[name], made, path)) for name in files}
            if others := sorted(name for name in files if known[name][0] != files[name]):
                _, expected, first = known[others[0]]
                return (
                    f"{path}: made by sources {made}, expected {expected} as in {first}; they "
                    f"differ in {', '.join(others)}"
                )
    return None


def _same_images(paths: Sequence[Path], tables: Sequence[pd.DataFrame]) -> None:
    """Raise where a task and repetition have other images than in an earlier row."""
    seen: dict[tuple, tuple[str, Path]] = {}
    for path, table in zip(paths, tables, strict=True):
        different = table[[*TASK, IMAGES]].dropna().drop_duplicates()
        for *task, images in different.itertuples(index=False):
            expected, first = seen.setdefault(tuple(task), (images, path))
            if images != expected:
                raise ReportError(
                    f"{path}: images {images} in {task[1]}, repetition {task[2]}, "
                    f"expected {expected} as in {first}"
                )


def _differences(tables: Sequence[pd.DataFrame]) -> list[str]:
    """One line for each version or machine in which the rows differ."""
    found = []
    for name in VERSIONS:
        values = {str(v) for t in tables if name in t.columns for v in t[name].dropna().unique()}
        if len(values) > 1:
            found.append(f"{name.removeprefix('objective_')}: {', '.join(sorted(values))}")
    return found
