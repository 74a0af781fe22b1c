"""Benchopt's result files as raw rows, with what was left out of them and why; CSV and JSON.

Strings come as categories and pictures as arrays. Values per test image stay packed, as benchopt
wrote them, until ``unpacked`` is asked for one: there may be a million.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow.parquet as pq
from benchopt.results.parquet import unpack
from pyarrow import default_memory_pool

from benchmark.report.style import PAGES

NAMES = ("objective_name", "dataset_name", "solver_name")
IMAGES = ("reconstruction", "observation", "truth")
#: the columns that are read: benchopt's name of each, that in the tidy frame, its kind ("number",
#: "text"), and whether it is needed: files of earlier versions lack the others
RAW_COLUMNS = pd.read_csv(PAGES / "rows.csv", index_col="column", keep_default_na=False)
NEEDED = RAW_COLUMNS[RAW_COLUMNS["needed"] == "yes"]
NUMBERS = [*NEEDED.index[NEEDED["kind"] == "number"]]
ORIGIN = ("objective_status", "objective_device_name", "objective_images_digest")
METRIC = "metric_"  # before the name of a metric that a study adds
#: what is told of where the rows come from: by group, a name and the column of it
RECORDED = pd.read_csv(PAGES / "provenance.csv", keep_default_na=False)
# a report reads these, of parameters and metrics every one, and no more: columns are many
OTHERS = ("base_seed", "run_date", "objective_sources", "objective_overhead_high")
OTHERS = frozenset([*RAW_COLUMNS.index, *RECORDED["column"], *OTHERS])
FAMILIES = ("p_obj_", "p_dataset_", "p_solver_", f"objective_{METRIC}")
TRUSTED = 1e-6  # above it a reference hypergradient is not one, and gradient columns are empty


class ReportError(Exception):
    """An input that cannot be reported on; its message is one line, meant for the user."""


@dataclass(frozen=True)
class Source:
    """An input file, and its rows: counted by reason those that are ``left_out`` of the tidy frame,
    and those that lack numbers: failures, and gradients without a reference to compare them with.
    """

    file: str
    sha256: str
    rows_read: int
    rows_used: int
    left_out: Mapping[str, int]
    incomplete: Mapping[str, int]


@dataclass(frozen=True)
class Results:
    """The raw rows of all files (with a ``source`` column, the file's digest) and the files."""

    rows: pd.DataFrame
    sources: tuple[Source, ...]


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def readable(path: Path, what: str = "readable") -> Iterator[None]:
    """Whatever goes wrong inside is a ReportError: ``path`` is not that, and why."""
    try:
        yield
    except ReportError:
        raise
    except Exception as error:  # arrow, pickle, json, the disk: each raises its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ReportError(f"{path}: not {what} ({reason})") from error


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """An OSError inside is a ReportError: ``path`` cannot be written, and why."""
    try:
        yield
    except OSError as error:
        raise ReportError(f"{path}: cannot be written ({error.strerror or error})") from error


def write(path: Path, text: str) -> None:
    """Write a text file, the same bytes on every system."""
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def printable(text: str) -> str:
    """A text without control characters."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def read_text(path: Path) -> str:
    """The text of a file."""
    with readable(path):
        return path.read_text(encoding="utf-8")


def read_csv(
    path: Path, *, texts: Sequence[str] = (), numbers: Sequence[str] = (), others: str = "(?!)"
) -> pd.DataFrame:
    """A CSV: columns of numbers (NaN where empty), others by a pattern; the rest is text."""
    with readable(path, "a readable table"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    wanted = [*numbers, *table.columns[table.columns.str.fullmatch(others)]]
    columns = {name: pa.Column(nullable=True) for name in texts}
    columns |= {name: pa.Column(float, nullable=True, coerce=True) for name in wanted}
    empty = dict.fromkeys(table.columns.intersection(wanted), "")
    return conforming(table.replace(empty, np.nan), columns, path)


def conforming(frame: pd.DataFrame, columns: Mapping[str, pa.Column], path: Path) -> pd.DataFrame:
    """The frame with the types of a schema's columns; a ReportError names what it lacks."""
    try:
        return pa.DataFrameSchema(columns).validate(frame, lazy=True, inplace=True)
    except pa.errors.SchemaErrors as errors:
        found = errors.failure_cases
    missing = found.loc[found["check"] == "column_in_dataframe", "failure_case"]
    if len(missing):
        plural = "s" if len(missing) > 1 else ""
        raise ReportError(f"{path}: no column{plural} {', '.join(missing)}")
    first = found.iloc[0]
    raise ReportError(f"{path}: column {first.column}: {first.failure_case!r}, expected a number")


def read(paths: Iterable[Path]) -> Results:
    """Read benchopt parquet files and put their rows together.

    Left out and counted: a file with the same content as an earlier one, rows without a name, rows
    with the same names, time and numbers as an earlier row. A ReportError if a file is missing,
    unreadable, lacks a column that is needed, or if no row is left.
    """
    paths = list(paths)
    tables = [read_file(path, whole=False) for path in paths]
    kept, sources = [], []
    for path, table, known in zip(paths, tables, repeated(tables), strict=True):
        sha256 = digest(path)
        same = np.full(len(table), sha256 in {source.sha256 for source in sources})
        unnamed = table[list(NAMES)].isna().any(axis=1).to_numpy()
        reasons = {
            "same content as an earlier file": same,
            "no solver, dataset or objective name": unnamed & ~same,
            "same content as an earlier row": known & ~unnamed & ~same,
        }
        left_out = {why: int(rows.sum()) for why, rows in reasons.items() if rows.any()}
        used = table[~(same | unnamed | known)] if left_out else table
        counts = (len(table), len(used), left_out, _incomplete(used))
        sources.append(Source(path.name, sha256, *counts))
        origin = pd.Categorical.from_codes(np.zeros(len(used), dtype=int), categories=[sha256])
        kept += [used.assign(source=origin)] if len(used) else []
    if not kept:
        raise ReportError(f"{', '.join(map(str, paths))}: no rows to report on")
    rows = pd.concat(kept) if len(kept) > 1 else kept[0]
    return Results(rows=rows.reset_index(drop=True), sources=tuple(sources))


def read_file(path: Path, *, whole: bool = True) -> pd.DataFrame:
    """One benchopt parquet file, or of its columns those that a report reads; a ReportError if it
    is not one, or holds what cannot be read.
    """
    if not path.is_file():
        raise ReportError(f"{path}: no such file")
    if path.suffix != ".parquet":
        raise ReportError(f"{path}: not a .parquet file")
    with readable(path, "a readable benchopt parquet file"):
        kinds = {field.name: str(field.type) for field in pq.read_schema(path)}
        if nested := [name for name, kind in kinds.items() if "<" in kind and "dict" not in kind]:
            raise ReportError(f"{path}: column {nested[0]} holds lists, expected numbers or texts")
        known = (*OTHERS, *kinds) if whole else OTHERS
        kinds = {n: kind for n, kind in kinds.items() if n in known or n.startswith(FAMILIES)}
        raw = _columns(path, kinds, few=() if whole else FAMILIES[:3])
    for name in [name for name, kind in kinds.items() if kind.endswith("binary")]:
        if name in NUMBERS or name.startswith(f"objective_{METRIC}"):
            raise ReportError(f"{path}: column {name} holds packed objects, expected numbers")
        with readable(path, f"a file whose column {name} can be unpacked"):
            if name.removeprefix("objective_") in IMAGES:
                raw[name] = raw[name].dropna().map(unpacked).reindex(raw.index)
            else:
                raw[name].dropna().head(1).map(unpacked)
    return conforming(raw, {name: pa.Column(nullable=True) for name in NEEDED.index}, path)


def _columns(path: Path, kinds: Mapping[str, str], *, few: tuple[str, ...]) -> pd.DataFrame:
    """Columns of a file, by name and kind: one after the other, so that a million rows are there
    once. Texts are categories, and so is what starts with one of ``few``: parameters.
    """
    strings = [name for name, kind in kinds.items() if kind.endswith("string")]
    columns = {}
    with pq.ParquetFile(path, read_dictionary=strings) as file:
        for name in kinds:
            columns[name] = file.read(columns=[name]).to_pandas()[name]
            if few and name.startswith(few):
                columns[name] = columns[name].astype("category")
    default_memory_pool().release_unused()
    return pd.DataFrame(columns, copy=False)


def unpacked(value: object) -> object:
    """What benchopt packed into a cell; anything else as it is."""
    return unpack(value) if isinstance(value, bytes) else value


def repeated(tables: Sequence[pd.DataFrame]) -> list[np.ndarray]:
    """For each table, which of its rows are in an earlier one or above, but for what is not told:
    names, time, numbers, device and images are.
    """
    ends = np.cumsum([len(table) for table in tables])[:-1]
    # most rows are told by their names and times already, and are not looked at any further
    few = pd.concat([_hashed(raw, ["time", "stop_val"]) for raw in tables], ignore_index=True)
    alike = np.split(few.duplicated(keep=False).to_numpy(), ends)
    keys = [
        _hashed(raw[rows], [*NUMBERS, "stop_val"]).set_axis(np.flatnonzero(rows) + start)
        for raw, rows, start in zip(tables, alike, [0, *ends], strict=True)
    ]
    every = pd.concat(keys)
    seen = np.zeros(len(few), dtype=bool)
    seen[every.index] = every.duplicated()
    return np.split(seen, ends)


def _hashed(raw: pd.DataFrame, numbers: Sequence[str]) -> pd.Series:
    """A number for each row, equal where names, ``ORIGIN`` and some numbers are."""
    texts = raw.reindex(columns=[*NAMES, *ORIGIN])
    columns = {name: _without_gaps(texts[name]) for name in texts}
    for name in numbers:
        if name in raw:
            columns[name] = pd.to_numeric(raw[name], errors="coerce").astype(float)
    return pd.util.hash_pandas_object(pd.DataFrame(columns, copy=False), index=False)


def _without_gaps(texts: pd.Series) -> pd.Series:
    """Texts as categories, "" where there is none."""
    known = texts.cat if isinstance(texts.dtype, pd.CategoricalDtype) else None
    known = known or texts.astype(object).astype("category").cat
    return known.set_categories(known.categories.union([""])).fillna("")


def _incomplete(raw: pd.DataFrame) -> dict[str, int]:
    """How many rows lack numbers, by reason: each status but ``ok``, a reference not converged."""
    status = raw["objective_status"].astype(object)
    failed = status[status.notna() & (status != "ok")].value_counts().sort_index()
    found = {f"without numbers: {name}": int(count) for name, count in failed.items()}
    residual = pd.to_numeric(raw["objective_reference_residual"], errors="coerce")
    if loose := int((residual > TRUSTED).sum()):
        found[f"without a gradient error: the reference's residual is above {TRUSTED:g}"] = loose
    return found
