"""Benchopt's result files as raw rows, with what was left out of them and why.

Strings come as categories and pictures as arrays. Values per test image stay packed, as benchopt
wrote them, until ``unpacked`` is asked for one: there may be a million.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from benchopt.results.parquet import PICKLE_PREFIX, ST_PREFIX, unpack

NAMES = ("objective_name", "dataset_name", "solver_name")
METRICS = (
    "value",
    "test_psnr",
    "test_ssim",
    "test_psnr_deployed",
    "gradient_error",
    "gradient_cosine",
    "reference_residual",
    "contraction",
    "state_residual",
    "gradient_seconds",
    "layer_seconds",
    "peak_memory_mib",
    "layer_evals",
    "vjp_evals",
    "training_layer_evals",
    "outer_step",
)
# what files of earlier versions may lack
OPTIONAL = ("gradient_error_estimate", "overhead")
IMAGES = ("reconstruction", "observation", "truth")
NUMBERS = ("idx_rep", "time", *(f"objective_{name}" for name in METRICS))
TRUSTED = 1e-6  # above it a reference hypergradient is not one, and gradient columns are empty


class ReportError(Exception):
    """An input that cannot be reported on; its message is one line, meant for the user."""


@dataclass(frozen=True)
class Source:
    """An input file: its name and digest, and its rows.

    ``left_out`` counts by reason the rows that do not reach the tidy frame, ``incomplete`` those
    that do but lack numbers: failures, and gradients without a reference to compare them with.
    """

    name: str
    sha256: str
    rows_read: int
    left_out: Mapping[str, int]
    incomplete: Mapping[str, int]

    @property
    def rows_used(self) -> int:
        """Rows that reach the tidy frame."""
        return self.rows_read - sum(self.left_out.values())


@dataclass(frozen=True)
class Results:
    """The raw rows of all files (with a ``source`` column, the file's digest) and the files."""

    rows: pd.DataFrame
    sources: tuple[Source, ...]


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(paths: Iterable[Path]) -> Results:
    """Read benchopt parquet files and put their rows together.

    Left out and counted: a file with the same content as an earlier one, rows without a name, rows
    with the same names, time and numbers as an earlier row.

    Raises
    ------
    ReportError
        If a file is missing, unreadable, lacks a column that is needed, or if no row is left.
    """
    paths = list(paths)
    tables = [_checked(path) for path in paths]
    digests = [digest(path) for path in paths]
    again = [sha256 in digests[:position] for position, sha256 in enumerate(digests)]
    keys = [fingerprints(table) for table in tables]
    seen = pd.concat(keys, ignore_index=True).duplicated().to_numpy()
    seen = np.split(seen, np.cumsum([len(table) for table in tables])[:-1])
    kept, sources = [], []
    for path, table, sha256, same, known in zip(paths, tables, digests, again, seen, strict=True):
        named = table[list(NAMES)].notna().all(axis=1).to_numpy()
        reasons = {
            "same content as an earlier file": np.full(len(table), same),
            "no solver, dataset or objective name": ~named & (not same),
            "same content as an earlier row": named & known & (not same),
        }
        used = table[~np.logical_or.reduce(list(reasons.values()))]
        left_out = {why: int(rows.sum()) for why, rows in reasons.items() if rows.any()}
        sources.append(Source(path.name, sha256, len(table), left_out, _incomplete(used)))
        origin = pd.Categorical.from_codes(np.zeros(len(used), dtype=int), categories=[sha256])
        kept.append(used.assign(source=origin))
    kept = [table for table in kept if len(table)]
    if not kept:
        raise ReportError(f"{', '.join(str(path) for path in paths)}: no rows to report on")
    return Results(rows=pd.concat(kept, ignore_index=True), sources=tuple(sources))


def read_file(path: Path) -> pd.DataFrame:
    """One benchopt parquet file; a ReportError if it is not one, or holds what cannot be read."""
    if not path.is_file():
        raise ReportError(f"{path}: no such file")
    if path.suffix != ".parquet":
        raise ReportError(f"{path}: not a .parquet file")
    try:
        schema = pq.read_schema(path)
        strings = [field.name for field in schema if _is_string(field.type)]
        table = pq.read_table(path, read_dictionary=strings)
        raw = table.to_pandas(split_blocks=True, self_destruct=True)
    except Exception as error:  # arrow raises a kind of its own for each sort of damage
        raise ReportError(f"{path}: not a readable benchopt parquet file ({_first(error)})") from (
            error
        )
    for name in [field.name for field in schema if _is_binary(field.type)]:
        _check_packed(raw[name], path=path)
        if name.removeprefix("objective_") in IMAGES:
            raw[name] = [unpacked(value) for value in raw[name]]
    return raw


def unpacked(value: object) -> object:
    """What benchopt packed into a cell; anything else as it is."""
    return unpack(value) if isinstance(value, bytes) else value


def check_columns(raw: pd.DataFrame, *, path: Path) -> None:
    """Raise a ReportError that names the file and the columns it lacks (images are optional)."""
    needed = (*NAMES, *NUMBERS, "objective_status")
    missing = [name for name in needed if name not in raw.columns]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise ReportError(f"{path}: no column{plural} {', '.join(missing)}")


def _checked(path: Path) -> pd.DataFrame:
    raw = read_file(path)
    check_columns(raw, path=path)
    return raw


def _check_packed(column: pd.Series, *, path: Path) -> None:
    """Raise a ReportError if a packed cell holds a torch tensor or cannot be unpacked."""
    known = [value for value in column if isinstance(value, bytes)]
    if any(b"torch" in value[:200] for value in known if value.startswith(PICKLE_PREFIX)):
        raise ReportError(
            f"{path}: column {column.name} holds torch tensors, expected numbers or numpy arrays"
        )
    if column.name in NUMBERS and any(
        value.startswith((PICKLE_PREFIX, ST_PREFIX)) for value in known
    ):
        raise ReportError(f"{path}: column {column.name} holds packed objects, expected numbers")
    try:
        for value in known if column.name.removeprefix("objective_") in IMAGES else known[:1]:
            unpack(value)
    except Exception as error:  # pickle and json each raise their own
        raise ReportError(
            f"{path}: column {column.name} cannot be unpacked ({_first(error)})"
        ) from error


def fingerprints(raw: pd.DataFrame) -> pd.Series:
    """A number for each row: equal for rows with the same names, time and numbers."""
    names = raw[[*NAMES, "objective_status"]].astype("category")
    numbers = raw[[name for name in (*NUMBERS, "stop_val") if name in raw.columns]]
    numbers = numbers.apply(pd.to_numeric, errors="coerce").astype(float)
    return pd.util.hash_pandas_object(pd.concat([names, numbers], axis=1), index=False)


def _incomplete(raw: pd.DataFrame) -> dict[str, int]:
    """How many rows lack numbers, by reason: each status but ``ok``, a reference not converged."""
    status = raw["objective_status"].astype(object)
    failed = status[status.notna() & (status != "ok")].value_counts().sort_index()
    found = {f"without numbers: {name}": int(count) for name, count in failed.items()}
    residual = pd.to_numeric(raw["objective_reference_residual"], errors="coerce")
    loose = int((residual > TRUSTED).sum())
    if loose:
        found[f"without a gradient error: the reference's residual is above {TRUSTED:g}"] = loose
    return found


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _first(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
