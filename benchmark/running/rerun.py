"""One row made again from itself.

    python -m benchmark rerun ROWS.parquet --row N

The run behind row N, or the row with that identifier, is made again by the plugins and the package
of this checkout, alone and without the cache: solver, dataset and objective with the parameters in
the row's columns, its seed, its repetition, its number of threads. Said is whether every column
that is not a time is the same, to the last bit; and of the code, the versions and the device, what
is not as it was. Without ``--row``, the rows are listed. The exit code is 0 where all is the same,
1 where something differs, 2 where the row cannot be made again. Cost: that of the run.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from benchopt._generate_runs import get_solver_kwargs
from benchopt.benchmark import Benchmark
from benchopt.results import read_results
from benchopt.results.parquet import to_parquet
from benchopt.runner import FailedRun, run_one_to_cvg
from benchopt.utils.terminal_output import TerminalOutput

from benchmark.measure.provenance import PACKAGE, changed
from benchmark.options.columns import must_repeat

#: the parameters of a plugin in a row's columns, by what the plugin is
PREFIXES = {"objective": "p_obj_", "solver": "p_solver_", "dataset": "p_dataset_"}
#: what else says which run a row is of, and of which moment
RUN = ("objective_name", "dataset_name", "solver_name", "base_seed", "idx_rep", "stop_val")
#: versions and machines that explain a difference, with what to call them
MADE_WITH = {
    "objective_torch_version": "torch",
    "version-numpy": "numpy",
    "version-cuda": "CUDA",
    "objective_device_name": "device",
    "objective_threads": "threads",
    "platform": "system",
    "platform-architecture": "architecture",
}


class RerunError(Exception):
    """A row that cannot be made again; the message is one line, meant for the user."""


class _Quiet(TerminalOutput):
    """benchopt's terminal, which tells of a task that the objective skips in no other way."""

    def skip(self, reason: str | None = None, objective: bool = False) -> None:
        raise RerunError(f"the run is skipped here: {reason}")


@dataclass(frozen=True)
class Rerun:
    """Columns that differ, each with what it was and is; how many were compared; what else is not
    as it was when the row was made.
    """

    differences: dict[str, tuple[object, object]]
    compared: int
    circumstances: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code is as the module says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark rerun",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", type=Path, help="a result file of benchopt (.parquet)")
    parser.add_argument("--row", help="number of the row, from 0, or its identifier")
    options = parser.parse_args(arguments)
    try:
        rows = _read(options.rows)
        if options.row is None:
            for number, (_, row) in enumerate(rows.iterrows()):
                print(f"{number:>5} {_told(row)}")
            return 0
        row = _chosen(rows, options.row)
        print(_told(row), flush=True)
        found = rerun(row)
    except RerunError as error:
        print(f"{options.rows}: {error}")
        return 2
    for line in _report(found):
        print(line)
    return int(bool(found.differences))


def identifier(row: pd.Series) -> str:
    """12 hexadecimal digits for a row: its run, its moment in it, and what it was made by."""
    made_by = [name for name in row.index if name.endswith("_digest")]
    made_by += ["objective_torch_version", "objective_device_name", "objective_threads"]
    text = "\n".join(f"{name}={row.get(name)}" for name in (*RUN, *made_by))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def rerun(row: pd.Series, *, checkout: Path = PACKAGE.parent) -> Rerun:
    """Make the run behind ``row`` again by the plugins of ``checkout`` and compare that row.

    Raises RerunError where a plugin or a parameter is not there, the run is skipped or fails, or
    ends before it comes to that row.
    """
    if not (checkout / "objective.py").is_file():
        raise RerunError(f"no objective.py in {checkout}: expected a checkout of the benchmark")
    before = torch.get_num_threads()
    torch.set_num_threads(int(row["objective_threads"]))
    try:
        made = _run(row, Benchmark(checkout, seed=int(row["base_seed"]), no_cache=True))
    finally:
        torch.set_num_threads(before)
    same_moment = made[made["stop_val"] == row["stop_val"]]
    if same_moment.empty:
        ends = f"at {made['stop_val'].iloc[-1]}: {made['objective_message'].iloc[-1] or 'done'}"
        raise RerunError(f"expected a row at stop_val {row['stop_val']}, the run now ends {ends}")
    now = same_moment.iloc[-1]
    names = [n for n in row.index if must_repeat(n) and not (_absent(row[n]) and n not in now)]
    pairs = {name: (row[name], now.get(name)) for name in names}
    return Rerun(
        differences={name: pair for name, pair in pairs.items() if not _same(*pair)},
        compared=len(pairs),
        circumstances=tuple(_circumstances(row, now)),
    )


def _read(path: Path) -> pd.DataFrame:
    try:
        rows = read_results(path)
    except Exception as error:  # no such file, not parquet, not what benchopt packs
        raise RerunError(f"not a result file of benchopt: {error}") from error
    needed = (*RUN, "objective_threads", *(f"file_{kind}" for kind in PREFIXES))
    if missing := [name for name in needed if name not in rows.columns]:
        raise RerunError(f"no column {', '.join(missing)}")
    return rows


def _chosen(rows: pd.DataFrame, which: str) -> pd.Series:
    """The row of that number, or of that identifier."""
    if which.isdecimal() and int(which) < len(rows):
        return rows.iloc[int(which)]
    found = [row for _, row in rows.iterrows() if identifier(row) == which]
    if not found:
        raise RerunError(
            f"no row {which}: expected a number from 0 to {len(rows) - 1}, or an identifier as "
            "they are listed without --row"
        )
    return found[0]  # others of that identifier are of the same run


def _told(row: pd.Series) -> str:
    task = f"{row['p_obj_lower']}, {row['dataset_name']}"
    moment = f"repetition {row['idx_rep']}, stop_val {row['stop_val']}"
    return f"{identifier(row)} {row['solver_name']} on {task}, {moment}"


def _run(row: pd.Series, benchmark: Benchmark) -> pd.DataFrame:
    """All rows of the run, as benchopt would write and read them."""
    known = {
        "objective": [benchmark.get_benchmark_objective()],
        "solver": benchmark.get_solvers(),
        "dataset": benchmark.get_datasets(),
    }
    plugins = {kind: _plugin(row, kind, classes) for kind, classes in known.items()}
    repetition = int(row["idx_rep"])
    runs = get_solver_kwargs(
        benchmark,
        **plugins,
        n_repetitions=repetition + 1,
        max_runs=10**9,
        terminal=_Quiet(1, show_progress=False),
    )
    (chosen,) = [run for run in runs if run["repetition"] == repetition]
    try:
        curve, _, status, reason = run_one_to_cvg(**chosen)
    except FailedRun as error:
        raise RerunError(f"the run fails here ({error.status})") from error
    if status == "skip":
        raise RerunError(f"the run is skipped here: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "again.parquet"
        to_parquet(pd.DataFrame(curve), path)
        return read_results(path)


def _plugin(row: pd.Series, kind: str, classes: Sequence[type]) -> object:
    """The plugin that the row names, with its parameters."""
    name = str(row[f"{kind}_name"]).partition("[")[0]
    file = Path(row[f"file_{kind}"]).name
    found = [cls for cls in classes if (cls.name, cls._module_filename.name) == (name, file)]
    if not found:
        raise RerunError(f"no {kind} {name!r} in {row[f'file_{kind}']} here")
    (cls,) = found
    if not cls.is_installed(quiet=True):
        raise RerunError(f"{kind} {name!r} needs a library that is not there")
    text = str(row[f"{kind}_name"])
    given = {
        option: _restored(row[column], option, text)
        for option, default in cls.parameters.items()
        if (column := PREFIXES[kind] + option) in row.index
        and not (_absent(row[column]) and default != [None] and f"{option}=None" not in text)
    }
    try:
        return cls.get_instance(**given)
    except Exception as error:  # whatever a plugin raises for a value that it does not take
        raise RerunError(f"{kind} {name!r}: {error}") from error


def _restored(value: object, option: str, name: str) -> object:
    """A parameter as it was: in a column with gaps, an integer has become a float."""
    if _absent(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer() and f"{option}={value}" not in name:
        return int(value)
    return value


def _absent(value: object) -> bool:
    return value is None or (np.ndim(value) == 0 and pd.isna(value) is True)


def _same(was: object, now: object) -> bool:
    """To the last bit; no value is as no value."""
    if _absent(was) or _absent(now):
        return _absent(was) and _absent(now)
    one, other = np.asarray(was), np.asarray(now)
    numbers = one.dtype.kind == other.dtype.kind == "f"
    return one.shape == other.shape and np.array_equal(one, other, equal_nan=numbers)


def _circumstances(row: pd.Series, now: pd.Series) -> Iterator[str]:
    """What is not as it was when the row was made."""
    text = row.get("objective_sources")
    if not isinstance(text, str):
        yield "the row does not name the files that made it: the code may be another"
    elif files := changed(text):
        yield f"made by other files than those here: {', '.join(files)}"
    for column, name in MADE_WITH.items():
        if not _same(row.get(column), now.get(column)):
            yield f"made with {name} {row.get(column)}, here {now.get(column)}"


def _report(found: Rerun) -> Iterator[str]:
    yield from found.circumstances
    if not found.differences:
        yield f"the same in all {found.compared} columns that must repeat"
        return
    yield f"differs in {len(found.differences)} of {found.compared} columns that must repeat"
    for name, (was, now) in found.differences.items():
        yield f"  {name}: was {_short(was)}, is {_short(now)}"
    if not found.circumstances:
        yield "nothing says why: code, versions and device are as they were"


def _short(value: object) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value).replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:57]}…"
