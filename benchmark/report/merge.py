"""Put result files of several runs or machines into one, if they can be compared.

Refused, with one line that names the file, what was found and what was expected: a file that
cannot be read or lacks a column, rows made by other sources, other images under the same name.
Versions of torch and numpy may differ, and are noted. The inputs stay as they are. Of images that
may not be passed on, --without-pictures leaves out what would show them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from benchopt.results.parquet import to_parquet

from benchmark.measure.provenance import files_of
from benchmark.options.whole import whole
from benchmark.report.reading import IMAGES as PICTURES
from benchmark.report.reading import NAMES, ReportError, read_file, repeated, writable

SOURCES, IMAGES = "objective_sources_digest", "objective_images_digest"
FILES = "objective_sources"
TASK = [*NAMES[:2], "idx_rep"]
VERSIONS = ("objective_torch_version", "version-numpy", "version-cuda", "objective_device_name")


def report(
    parquet: Sequence[Path],
    *,
    out: Path,
    allow_other_sources: bool = False,
    without_pictures: bool = False,
) -> None:
    """The command line."""
    if out.suffix != ".parquet":
        raise ReportError(f"{out}: expected a name that ends in .parquet")
    if out.resolve() in [path.resolve() for path in parquet]:
        raise ReportError(f"{out}: is one of the inputs, expected another name")
    tables = [checked(path) for path in parquet]
    other = other_sources(parquet, tables)
    if other and not allow_other_sources:
        raise ReportError(f"{other} (--allow-other-sources accepts it)")
    rows = merged(parquet, tables)
    if without_pictures:
        rows = rows.drop(columns=[f"objective_{name}" for name in PICTURES], errors="ignore")
    with writable(out), whole(out) as draft:
        to_parquet(rows.droplevel(0).reset_index(drop=True), draft)
    for number, (path, table) in enumerate(zip(parquet, tables, strict=True)):
        added = int((rows.index.get_level_values(0) == number).sum())
        dropped = len(table) - added
        print(f"{path}: {added} rows" + (f", {dropped} duplicates dropped" if dropped else ""))
    if other:
        print(f"note: {other}")
    for name in rows.columns.intersection(VERSIONS):
        if len(values := sorted(map(str, rows[name].dropna().unique()))) > 1:
            print(f"note: {name.removeprefix('objective_')}: {', '.join(values)}")
    print(f"{out}: {len(rows)} rows")


def merged(paths: Sequence[Path], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all files without duplicates, by number of the file and row; a ReportError where
    a task and repetition has other images than earlier.
    """
    rows = pd.concat(dict(enumerate(tables)))
    known = rows.dropna(subset=[*TASK, IMAGES])
    first = known.groupby(TASK)[IMAGES].transform("first")
    for (number, _), row in known[known[IMAGES] != first].head(1).iterrows():
        same = known[(known[TASK] == row[TASK]).all(axis=1)]
        (earlier, _), expected = same.index[0], same[IMAGES].iloc[0]
        where = f"{row['dataset_name']}, repetition {row['idx_rep']}"
        raise ReportError(
            f"{paths[number]}: images {row[IMAGES]} in {where}, expected {expected} as in "
            f"{paths[earlier]}"
        )
    new = [table[~known] for table, known in zip(tables, repeated(tables), strict=True)]
    return pd.concat(dict(enumerate(new)))


def other_sources(paths: Sequence[Path], tables: Sequence[pd.DataFrame]) -> str | None:
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


def checked(path: Path) -> pd.DataFrame:
    """The rows of a file, categories as strings again."""
    raw = read_file(path)
    if missing := [name for name in (SOURCES, IMAGES) if name not in raw.columns]:
        raise ReportError(f"{path}: no column {missing[0]}, expected one to compare files by")
    if raw.empty:
        raise ReportError(f"{path}: no rows to merge")
    return raw.astype(dict.fromkeys(raw.select_dtypes("category").columns, object))
