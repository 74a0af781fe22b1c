"""Rows for benchopt's interactive page: names and texts without the marks of HTML.

benchopt writes names into a page, and into its JSON, as they are: what a row of somebody else's is
called would run there. ``<``, ``>`` and ``"`` become ‹, › and ”, in the columns' names too (the
quotes of JSON stay, for plots read it); numbers and pictures are as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchopt.results.parquet import to_parquet

from benchmark.report.reading import NAMES, ReportError, read_file, unpacked, writable

MARKS = str.maketrans({"<": "‹", ">": "›", '"': "”"})
TAGS = {mark: sign for mark, sign in MARKS.items() if chr(mark) != '"'}


def report(parquet: Sequence[Path], *, out: Path) -> None:
    """The command line."""
    if len(parquet) != 1 or out.suffix != ".parquet":
        raise ReportError(f"expected one file, and another for --out, got {len(parquet)} and {out}")
    rows = read_file(parquet[0])
    for name in rows.columns:
        if rows[name].dtype.kind not in "biufM":
            cells = rows[name].astype(object)
            rows[name] = [plain(unpacked(cell), named=name in NAMES) for cell in cells]
    rows.columns = [plain(name) for name in rows.columns]
    with writable(out):
        to_parquet(rows, out)


def plain(cell: object, *, named: bool = True) -> object:
    """A text without marks; the quotes of JSON stay unless it is a name. Others are as they are."""
    if not isinstance(cell, str):
        return cell
    return cell.translate(TAGS if cell[:1] in ("{", "[") and not named else MARKS)
