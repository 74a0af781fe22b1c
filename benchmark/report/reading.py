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
    tables = [read_file(path) for path in paths]
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


def read_file(path: Path) -> pd.DataFrame:
    """One benchopt parquet file; a ReportError if it is not one, or holds what cannot be read."""
    if not path.is_file():
        raise ReportError(f"{path}: no such file")
    if path.suffix != ".parquet":
        raise ReportError(f"{path}: not a .parquet file")
    with readable(path, "a readable benchopt parquet file"):
        kinds = {field.name: str(field.type) for field in pq.read_schema(path)}
        if nested := [name for name, kind in kinds.items() if "<" in kind and "dict" not in kind]:
            raise ReportError(f"{path}: column {nested[0]} holds lists, expected numbers or texts")
        strings = [name for name, kind in kinds.items() if kind.endswith("string")]
        table = pq.read_table(path, read_dictionary=strings)
        raw = table.to_pandas(self_destruct=True)
    for name in [name for name, kind in kinds.items() if kind.endswith("binary")]:
        if name in NUMBERS or name.startswith(f"objective_{METRIC}"):
            raise ReportError(f"{path}: column {name} holds packed objects, expected numbers")
        with readable(path, f"a file whose column {name} can be unpacked"):
            if name.removeprefix("objective_") in IMAGES:
                raw[name] = raw[name].dropna().map(unpacked).reindex(raw.index)
            else:
                raw[name].dropna().head(1).map(unpacked)
    return conforming(raw, {name: pa.Column(nullable=True) for name in NEEDED.index}, path)


def unpacked(value: object) -> object:
    """What benchopt packed into a cell; anything else as it is."""
    return unpack(value) if isinstance(value, bytes) else value


def repeated(tables: Sequence[pd.DataFrame]) -> list[np.ndarray]:
    """For each table, which of its rows are in an earlier one or above, but for what is not told:
    names, time, numbers, device and images are.
    """
    keys = []
    for raw in tables:
        names = raw.reindex(columns=[*NAMES, *ORIGIN]).astype(object).fillna("").astype("category")
        numbers = raw[[name for name in (*NUMBERS, "stop_val") if name in raw]]
        numbers = numbers.apply(pd.to_numeric, errors="coerce").astype(float)
        keys.append(pd.util.hash_pandas_object(pd.concat([names, numbers], axis=1), index=False))
    seen = pd.concat(keys, ignore_index=True).duplicated().to_numpy()
    return np.split(seen, np.cumsum([len(table) for table in tables])[:-1])


def _incomplete(raw: pd.DataFrame) -> dict[str, int]:
    """How many rows lack numbers, by reason: each status but ``ok``, a reference not converged."""
    status = raw["objective_status"].astype(object)
    failed = status[status.notna() & (status != "ok")].value_counts().sort_index()
    found = {f"without numbers: {name}": int(count) for name, count in failed.items()}
    residual = pd.to_numeric(raw["objective_reference_residual"], errors="coerce")
    if loose := int((residual > TRUSTED).sum()):
        found[f"without a gradient error: the reference's residual is above {TRUSTED:g}"] = loose
    return found
