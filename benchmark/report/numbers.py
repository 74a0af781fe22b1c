"""Numbers in a text, taken from the tables of results.

    python -m benchmark.report numbers README.md [--check]

Between a line ``<!-- numbers: results/quick/headline.csv -->`` and a line ``<!-- /numbers -->``
stands what the CSV says: a sentence per task and the headline table. Of another table, name the
Markdown file instead: it is taken as it is. The path is relative to the text's folder. With
``--check`` nothing is written, and the exit code is 1 if a text is stale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from benchmark.report import headline
from benchmark.report.reading import ReportError, read_text, write
from benchmark.report.tables import to_markdown

BLOCK = re.compile(r"(?ms)^(<!-- numbers: (\S+) -->\n).*?^(<!-- /numbers -->)$")


def report(text: Sequence[Path], *, check: bool = False) -> int:
    """The command line: every block of every text as its table gives it.

    Raises
    ------
    ReportError
        If a text has no block, a marker has no partner, or a CSV cannot be read.
    """
    stale = False
    for path in text:
        old = read_text(path)
        new, blocks = BLOCK.subn(
            lambda block, path=path: f"{block[1]}\n{content(path.parent / block[2])}\n{block[3]}",
            old,
        )
        if not blocks or len(re.findall("<!-- /?numbers\\b", old)) != 2 * blocks:
            expected = "pairs of lines <!-- numbers: PATH.csv --> and <!-- /numbers -->"
            raise ReportError(f"{path}: expected {expected}")
        if new == old:
            print(f"{path}: up to date")
        elif check:
            print(f"{path}: its numbers are not those of the tables")
            stale = True
        else:
            write(path, new)
            print(f"{path}: numbers written")
    return int(stale)


def content(path: Path) -> str:
    """What a ``headline.csv`` says: a sentence per task, the table, and what is bold in it.

    Of a table in Markdown, itself.
    """
    if path.suffix == ".md":
        return read_text(path)
    found = headline.read(path)
    said = "".join(f"- {sentence}\n" for sentence in sentences(found.numbers))
    table = to_markdown(found.text, bold=found.bold)
    return "\n".join(part for part in (said, table, found.note and f"{found.note}\n") if part)


def sentences(numbers: pd.DataFrame) -> Iterator[str]:
    """Of each task with a trained θ: the best test PSNR, its gain, and who is not told from it."""
    for task, rows in numbers.groupby("task", sort=False):
        trained = rows[rows["configuration"] != headline.START]
        if len(trained) == len(rows) or trained["test_psnr"].isna().all():
            continue
        best = trained.loc[trained["test_psnr"].idxmax()]
        said = f"{task}: highest mean test PSNR {best['test_psnr']:.2f} dB"
        if not math.isnan(best["low"]):
            said += f" (95 % interval {best['low']:.2f} to {best['high']:.2f})"
        said += f" with {best['configuration']}, {best['gain']:+.2f} dB from the start"
        others = rows.loc[rows["best"] & (rows["configuration"] != best["configuration"])]
        named = ", ".join(others["configuration"])
        yield f"{said}; not told from it: {named}." if named else f"{said}."
