"""Whether results are those of the code as it is now.

    python -m benchmark.report check [RESULTS]

A study is a folder with a ``provenance.json``. It is stale if its rows were made by other sources,
if a file that it lists is missing, if a figure is not the one that was drawn, or if its tables are
not what its parquet files give now. One line for each stale study, and exit code 1 if there is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmark.measure.provenance import sources_digest
from benchmark.report.build import ORIGIN, table_files
from benchmark.report.frame import tidy
from benchmark.report.reading import ReportError, Results, digest, read

RECORD = "provenance.json"


def report(results: Path) -> int:
    """The command line: every study under a folder, in order; a ReportError if there is none."""
    if not results.is_dir():
        raise ReportError(f"{results}: no such folder")
    records = {path.parent for path in results.rglob(RECORD)}
    folders = records | {path.parent for path in results.rglob("*.parquet")}
    if not folders:
        raise ReportError(f"{results}: no {RECORD} and no parquet file in it")
    stale = {folder: list(reasons(folder)) for folder in sorted(folders)}
    for folder, why in stale.items():
        print(f"{folder}: {'; '.join(why) or 'up to date'}")
    return int(any(stale.values()))


def reasons(folder: Path) -> Iterator[str]:
    """Why a study is stale; none if it is not."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        inputs = {folder / entry["file"]: entry["sha256"] for entry in record["inputs"]}
        listed = [name for entry in record["artefacts"] for name in entry.get("files", [])]
        drawn = {
            folder / name: sha256
            for entry in record["artefacts"]
            for name, sha256 in entry.get("sha256", {}).items()
        }
        curve, only = record.get("memory_curve"), record.get("only", [])
        made_of = inputs | ({folder / curve["file"]: curve["sha256"]} if curve else {})
    except FileNotFoundError:
        yield f"no {RECORD}"
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{RECORD} cannot be used ({type(error).__name__})"
        return
    needed = [*made_of, *(folder / name for name in listed)]
    if missing := [path.name for path in needed if not path.is_file()]:
        yield f"missing: {', '.join(missing)}"
    recorded = {"file that the report was made of": made_of, "figure that the report drew": drawn}
    for what, digests in recorded.items():
        there = {path: sha256 for path, sha256 in digests.items() if path.is_file()}
        if changed := [path.name for path, sha256 in there.items() if digest(path) != sha256]:
            yield f"not the {what}: {', '.join(changed)}"
    if not all(path.is_file() for path in inputs):
        return
    try:
        found = read(inputs)
    except ReportError as error:
        yield str(error)
        return
    yield from _other_sources(found)
    yield from _other_tables(found, folder, only)


def _other_sources(results: Results) -> Iterator[str]:
    """Rows made by other sources than those here."""
    column, rows = ORIGIN["sources_digests"], results.rows
    made = {str(value) for value in rows[column]} if column in rows.columns else {"unknown"}
    if others := sorted(made - {sources_digest()}):
        yield f"rows made by sources {', '.join(others)}, the code now is {sources_digest()}"


def _other_tables(results: Results, folder: Path, only: Sequence[str]) -> Iterator[str]:
    """Tables that differ from what the rows give now."""
    now = table_files(tidy(results.rows), only=only)
    there = {name: folder / name for name in now}
    differ = [
        name
        for name, path in there.items()
        if not path.is_file() or path.read_bytes() != now[name].encode("utf-8")
    ]
    if differ:
        yield f"tables that the report would write otherwise: {', '.join(differ)}"
