"""Whether results are those of the code as it is now.

    python -m benchmark.report check [RESULTS]

A study is a folder with a ``provenance.json``. It is stale if its rows were made by other sources,
if a file that it lists is missing, if a figure is not the one that was drawn, or if its tables are
not what its parquet files give now. One line for each stale study, and exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.measure.provenance import changed
from benchmark.report.build import table_files
from benchmark.report.frame import tidy
from benchmark.report.reading import ReportError, Results, digest, read

RECORD = "provenance.json"


@dataclass(frozen=True)
class Study:
    """A folder of results, and why it is stale; no reason if it is not."""

    folder: Path
    reasons: tuple[str, ...]


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.report check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"))
    studies = check(parser.parse_args(argv).results)
    for study in studies:
        print(f"{study.folder}: {'; '.join(study.reasons) or 'up to date'}")
    return int(any(study.reasons for study in studies))


def check(results: Path) -> list[Study]:
    """Every study under a folder, in order; a ReportError if there is none."""
    if not results.is_dir():
        raise ReportError(f"{results}: no such folder")
    records = {path.parent for path in results.rglob(RECORD)}
    folders = records | {path.parent for path in results.rglob("*.parquet")}
    if not folders:
        raise ReportError(f"{results}: no {RECORD} and no parquet file in it")
    return [Study(folder, tuple(_reasons(folder))) for folder in sorted(folders)]


def _reasons(folder: Path) -> Iterator[str]:
    """Why a study is stale."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        inputs = [(folder / entry["file"], entry["sha256"]) for entry in record["inputs"]]
        listed = [name for entry in record["artefacts"] for name in entry.get("files", [])]
        drawn = [
            (folder / name, sha256)
            for entry in record["artefacts"]
            for name, sha256 in entry.get("sha256", {}).items()
        ]
        curve, only = record.get("memory_curve"), record.get("only", [])
    except FileNotFoundError:
        yield f"no {RECORD}"
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{RECORD} cannot be used ({type(error).__name__})"
        return
    inputs_and_curve = [*inputs, *([(folder / curve["file"], curve["sha256"])] if curve else [])]
    missing = [path.name for path, _ in inputs_and_curve if not path.is_file()]
    missing += [name for name in listed if not (folder / name).is_file()]
    if missing:
        yield f"missing: {', '.join(missing)}"
    if changed := _changed(inputs_and_curve):
        yield f"not the file that the report was made of: {', '.join(changed)}"
    if changed := _changed(drawn):
        yield f"not the figure that the report drew: {', '.join(changed)}"
    if not all(path.is_file() for path, _ in inputs):
        return
    try:
        found = read([path for path, _ in inputs])
    except ReportError as error:
        yield str(error)
        return
    yield from _other_sources(found)
    yield from _other_tables(found, folder, only)


def _changed(recorded: Sequence[tuple[Path, str]]) -> list[str]:
    """The names of files that are there with another content than recorded."""
    return [path.name for path, sha in recorded if path.is_file() and digest(path) != sha]


def _other_sources(results: Results) -> Iterator[str]:
    """Rows made by other files than those here, or that do not name theirs."""
    origin = results.rows.reindex(columns=["objective_sources_digest", "objective_sources"])
    unnamed, texts = origin[origin.iloc[:, 1].isna()], origin.iloc[:, 1].dropna().unique()
    if len(unnamed):
        made = sorted({str(value) for value in unnamed.iloc[:, 0].fillna("unknown")})
        yield f"rows made by sources {', '.join(made)}, which name no files to compare with these"
    if others := sorted({name for text in texts for name in changed(text)}):
        yield f"rows made by other files than those here: {', '.join(others)}"


def _other_tables(results: Results, folder: Path, only: Sequence[str]) -> Iterator[str]:
    """Tables that differ from what the rows give now."""
    differ = [
        name
        for name, content in table_files(tidy(results.rows), only=only).items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content.encode("utf-8")
    ]
    if differ:
        yield f"tables that the report would write otherwise: {', '.join(differ)}"
