"""Whether results are those of the code as it is now.

A study is a folder with a ``provenance.json``. It is stale if its rows were made by other sources,
if a file that it lists is missing, if a figure is not the one that was drawn, if its tables are not
what its parquet files give now, or if its rows hold times that cannot be. One line for each stale
study, and exit code 1 if there is one.
"""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmark.measure.plausible import LEAST_OVERHEAD, too_cheap
from benchmark.measure.provenance import changed
from benchmark.report.build import table_files
from benchmark.report.frame import run_ends, tidy
from benchmark.report.merge import FILES, SOURCES
from benchmark.report.reading import ReportError, digest, read

RECORD = "provenance.json"


def report(results: Path) -> int:
    """The command line: every study under a folder, in order; a ReportError if there is none."""
    if not results.is_dir():
        raise ReportError(f"{results}: no such folder")
    folders = {path.parent for name in (RECORD, "*.parquet") for path in results.rglob(name)}
    if not folders:
        raise ReportError(f"{results}: no {RECORD} and no parquet file in it")
    stale = {folder: "; ".join(reasons(folder)) for folder in sorted(folders)}
    for folder, why in stale.items():
        print(f"{folder}: {why or 'up to date'}")
    return int(any(stale.values()))


def reasons(folder: Path) -> Iterator[str]:
    """Why a study is stale; none if it is not."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        made_of = {entry["file"]: entry["sha256"] for entry in record["inputs"]}
        inputs, curve, only = list(made_of), record.get("memory_curve"), record.get("only", [])
        made_of |= {curve["file"]: curve["sha256"]} if curve else {}
        listed = [name for entry in record["artefacts"] for name in entry.get("files", [])]
        drawn = dict(ChainMap(*(entry.get("sha256", {}) for entry in record["artefacts"])))
    except FileNotFoundError:
        yield f"no {RECORD}"
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{RECORD} cannot be used ({type(error).__name__})"
        return
    there = {path.name: path for path in folder.iterdir() if path.is_file()}
    if missing := [name for name in (*made_of, *listed) if name not in there]:
        yield f"missing: {', '.join(missing)}"
    recorded = {"file that the report was made of": made_of, "figure that the report drew": drawn}
    for what, digests in recorded.items():
        names = digests.keys() & there.keys()
        if others := sorted(name for name in names if digest(there[name]) != digests[name]):
            yield f"not the {what}: {', '.join(others)}"
    if set(inputs) - there.keys():
        return
    try:
        rows = read(there[name] for name in inputs).rows
    except ReportError as error:
        yield str(error)
        return
    yield from _other_sources(rows)
    if cheap := len(too_cheap(rows)):
        yield (
            f"{cheap} rows whose hypergradient takes less time than what it calls: "
            f"overhead below {LEAST_OVERHEAD:g} by more than its interval"
        )
    frame = tidy(rows)
    files = table_files(frame, run_ends(frame), only=only)
    now = {name: text.encode("utf-8") for name, text in files.items()}
    if differ := [n for n in now if n not in there or there[n].read_bytes() != now[n]]:
        yield f"tables that the report would write otherwise: {', '.join(differ)}"


def _other_sources(rows: pd.DataFrame) -> Iterator[str]:
    """Rows made by other files than those here, or that do not name theirs."""
    origin = rows.reindex(columns=[SOURCES, FILES])
    unnamed, texts = origin[origin[FILES].isna()], origin[FILES].dropna().unique()
    if len(unnamed):
        made = sorted(set(unnamed[SOURCES].fillna("unknown").astype(str)))
        yield f"rows made by sources {', '.join(made)}, which name no files to compare with these"
    if others := sorted({name for text in texts for name in changed(text)}):
        yield f"rows made by other files than those here: {', '.join(others)}"
