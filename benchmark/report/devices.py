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
    tables, unread = [pd.DataFrame(columns=[*NEEDED, "study"], dtype=object)], []
    for study, paths in files.items():
        unread += [] if paths else [f"{study}: its rows are not here"]
        for path in paths:
            try:
                rows = read_file(path, whole=False).reindex(columns=NEEDED).astype(object)
                tables.append(rows.assign(study=study))
            except ReportError as error:
                unread.append(f"{study}: {str(error).replace(str(path), path.name)}")
    every = pd.concat(tables, ignore_index=True)
    machine = every.groupby([*ABOUT.values()], dropna=False, sort=True)
    every["machine"] = (machine.ngroup() + 1).astype(str)
    about = every.groupby("machine")
    machines = about[[*ABOUT.values()]].first().set_axis([*ABOUT], axis="columns")
    machines = machines.map(lambda value: "unknown" if pd.isna(value) else written(value))
    machines["studies"] = about["study"].agg(lambda names: ", ".join(dict.fromkeys(names)))
    machines["rows"] = about.size().astype(str)
    told = {"rows": ("study", "size"), "sources": (SOURCES, _listed), "images": (IMAGES, _listed)}
    parts = every.groupby(PART).agg(**told).astype(str)
    pairs = [row for two in combinations(every.groupby(PART), 2) if (row := _pair(*two))]
    compared = pd.DataFrame(pairs, columns=["one", "other", "in common", "compare"], dtype=str)
    return Devices(machines.reset_index(), parts.reset_index(), compared, tuple(unread))


def _listed(digests: pd.Series) -> str:
    """The digests in a column, once each."""
    return ", ".join(sorted(set(digests.dropna().astype(str)))) or "not stated"


def _pair(*parts: tuple[tuple[str, str], pd.DataFrame]) -> dict[str, str] | None:
    """What may be compared of two parts, as ``merge`` says; None where they have no task and
    repetition in common.
    """
    one, other = (rows[TASK].drop_duplicates().dropna() for _, rows in parts)
    common = one.merge(other)
    if common.empty:
        return None
    names = [Path(f"{study} on machine {machine}") for (machine, study), _ in parts]
    tables = [rows.merge(common) for _, rows in parts]
    try:
        merged(names, tables)
        differs = other_sources(names, tables)
    except ReportError as error:
        differs = error
    return {
        "one": str(names[0]),
        "other": str(names[1]),
        "in common": f"{len(common)} tasks and repetitions",
        "compare": f"nothing: {differs}" if differs else "all but times",
    }
