"""Which machines the rows of studies are of, and which of these rows may be compared with which.

A machine is a device with its threads, processor and memory, and a version of torch. Rows of two
machines or studies can be compared where they have a task and repetition in common, and then under
the conditions of ``merge``: the same images, and no file of code that is another. Times never leave
a machine, nor a study: what else ran beside it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmark.report.merge import FILES, IMAGES, SOURCES, TASK, merged, other_sources
from benchmark.report.names import MACHINE, written
from benchmark.report.reading import ReportError, read_file

ABOUT = {"device": "objective_device_name", **MACHINE, "torch": "objective_torch_version"}
NEEDED = [*TASK, *ABOUT.values(), SOURCES, FILES, IMAGES]
PART = ["machine", "study"]


class Devices(NamedTuple):
    """Tables of texts: a row for each machine; for each part, a study's rows of one; for each two
    parts with tasks in common. ``unread``: of what no rows could be had, and why.
    """

    machines: pd.DataFrame
    parts: pd.DataFrame
    compared: pd.DataFrame
    unread: tuple[str, ...]


def devices(files: Mapping[str, Sequence[Path]]) -> Devices:
    """What the parquet files of each study, by name, say of their machines."""
    tables, unread = [], []
    for study, paths in files.items():
        unread += [] if paths else [f"{study}: its rows are not here"]
        for path in paths:
            try:
                rows = read_file(path, whole=False)
            except ReportError as error:
                unread.append(f"{study}: {str(error).replace(str(path), path.name)}")
                continue
            tables.append(rows.reindex(columns=NEEDED).astype(object).assign(study=study))
    none = pd.DataFrame(columns=[*NEEDED, "study"], dtype=object)
    every = pd.concat([*tables, none], ignore_index=True)
    machine = every.groupby([*ABOUT.values()], dropna=False, sort=True)
    every["machine"] = (machine.ngroup() + 1).astype(str)
    about = every.groupby("machine")
    machines = about[[*ABOUT.values()]].first().set_axis([*ABOUT], axis="columns")
    machines = machines.map(lambda value: "unknown" if pd.isna(value) else written(value))
    machines = machines.assign(
        studies=about["study"].agg(lambda names: ", ".join(dict.fromkeys(names))),
        rows=about.size().astype(str),
    )
    parts = dict(list(every.groupby(PART)))
    found = [
        {
            **dict(zip(PART, part, strict=True)),
            "rows": str(len(rows)),
            "sources": _listed(rows[SOURCES]),
            "images": _listed(rows[IMAGES]),
        }
        for part, rows in parts.items()
    ]
    pairs = [row for two in combinations(parts, 2) if (row := _pair(*two, parts))]
    return Devices(
        machines.reset_index(),
        pd.DataFrame(found, columns=[*PART, "rows", "sources", "images"], dtype=str),
        pd.DataFrame(pairs, columns=["one", "other", "in common", "compare"], dtype=str),
        tuple(unread),
    )


def _listed(digests: pd.Series) -> str:
    """The digests in a column, once each."""
    return ", ".join(sorted(set(digests.dropna().astype(str)))) or "not stated"


def _pair(
    one: tuple[str, str], other: tuple[str, str], parts: Mapping[tuple[str, str], pd.DataFrame]
) -> dict[str, str] | None:
    """What may be compared of two parts; None where they have no task and repetition in common."""
    tasks = [parts[part][TASK].drop_duplicates().dropna() for part in (one, other)]
    common = tasks[0].merge(tasks[1])
    if common.empty:
        return None
    names = [Path(f"{study} on machine {machine}") for machine, study in (one, other)]
    tables = [parts[part].merge(common) for part in (one, other)]
    return {
        "one": str(names[0]),
        "other": str(names[1]),
        "in common": f"{len(common)} tasks and repetitions",
        "compare": verdict(names, tables),
    }


def verdict(names: Sequence[Path], tables: Sequence[pd.DataFrame]) -> str:
    """Whether rows of the same tasks and repetitions can be compared: as ``merge`` says."""
    try:
        merged(names, tables)
    except ReportError as error:
        return f"nothing: {error}"
    other = other_sources(names, tables)
    return f"nothing: {other}" if other else "all but times"
