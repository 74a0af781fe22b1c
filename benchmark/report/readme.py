"""Numbers in a text, taken from the tables of results.

    python -m benchmark.report numbers README.md [--check]

Between a line ``<!-- numbers: results/quick/headline.csv -->`` and a line ``<!-- /numbers -->``
stands what the CSV says: a sentence per task and the headline table. Of another table, name the
Markdown file instead: it is taken as it is. The path is relative to the text's folder. With
``--check`` nothing is written, and the exit code is 1 if a text is stale.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from benchmark.report.headline import HEADERS, NOTE, START, bold, formatted
from benchmark.report.reading import ReportError
from benchmark.report.tables import to_markdown

BLOCK = re.compile(
    r"^(<!-- numbers: (?P<path>\S+) -->\n)(?P<body>.*?)^(<!-- /numbers -->)$",
    flags=re.DOTALL | re.MULTILINE,
)
OPENING = re.compile(r"<!-- numbers\b|<!-- /numbers\b")
TEXT = ("task", "configuration", "method", "how", "status")


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.report numbers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("text", nargs="+", type=Path, help="Markdown files with markers")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if stale")
    arguments = parser.parse_args(argv)
    stale = False
    for path in arguments.text:
        text = _read(path)
        new = updated(text, path=path)
        stale |= new != text
        if new == text:
            print(f"{path}: up to date")
        elif arguments.check:
            print(f"{path}: its numbers are not those of the tables")
        else:
            try:
                path.write_text(new, encoding="utf-8", newline="\n")
            except OSError as error:
                raise ReportError(f"{path}: cannot be written ({error.strerror})") from error
            print(f"{path}: numbers written")
    return int(stale and arguments.check)


def updated(text: str, *, path: Path) -> str:
    """The text of the file at ``path`` with every block as its CSV gives it.

    Raises
    ------
    ReportError
        If there is no block, a marker has no partner, or a CSV cannot be read.
    """
    blocks = list(BLOCK.finditer(text))
    if not blocks or len(OPENING.findall(text)) != 2 * len(blocks):
        raise ReportError(
            f"{path}: expected pairs of lines <!-- numbers: PATH.csv --> and <!-- /numbers -->"
        )
    return BLOCK.sub(
        lambda block: block[1] + content(path.parent / block["path"]) + block[4],
        text,
    )


def content(table: Path) -> str:
    """What a ``headline.csv`` says: a sentence per task, the table, and what is bold in it.

    Of a table in Markdown, itself.
    """
    if table.suffix == ".md":
        return f"\n{_read(table)}\n"
    return _of_headline(table)


def _of_headline(csv: Path) -> str:
    numbers = read_headline(csv)
    said = "".join(f"- {sentence}\n" for sentence in sentences(numbers))
    table = to_markdown(formatted(numbers), bold=bold(numbers))
    note = f"\n{NOTE}\n" if numbers["best"].any() else ""
    return f"\n{said}\n{table}{note}\n" if said else f"\n{table}{note}\n"


def read_headline(csv: Path) -> pd.DataFrame:
    """A ``headline.csv`` as ``headline.headline`` made it."""
    try:
        numbers = pd.read_csv(csv, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ReportError(f"{csv}: not a readable table ({reason})") from error
    measured = ["low", "high", "layer_evals", "vjp_evals"]
    measured += [name for name in HEADERS if name not in ("interval", "evals")]
    lacking = [name for name in (*TEXT, "best", *measured) if name not in numbers.columns]
    if lacking:
        raise ReportError(f"{csv}: no column {', '.join(lacking)}: not a headline.csv")
    try:
        found = {name: [float(text or "nan") for text in numbers[name]] for name in measured}
    except ValueError as error:
        raise ReportError(f"{csv}: {str(error).splitlines()[0]}") from error
    return numbers.assign(**found, best=numbers["best"] == "True")


def sentences(numbers: pd.DataFrame) -> Iterator[str]:
    """Of each task with a trained θ: the best test PSNR, its gain, and who is not told from it."""
    for task, rows in numbers.groupby("task", sort=False):
        trained = rows[rows["configuration"] != START]
        if len(trained) == len(rows) or trained["test_psnr"].isna().all():
            continue
        best = trained.loc[trained["test_psnr"].idxmax()]
        said = f"{task}: highest mean test PSNR {best['test_psnr']:.2f} dB"
        if not math.isnan(best["low"]):
            said += f" (95 % interval {best['low']:.2f} to {best['high']:.2f})"
        said += f" with {best['configuration']}, {best['gain']:+.2f} dB from the start"
        others = [
            name
            for name, marked in zip(rows["configuration"], rows["best"], strict=True)
            if marked and name != best["configuration"]
        ]
        yield said + (f"; not told from it: {', '.join(others)}." if others else ".")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: not readable ({str(error).splitlines()[0]})") from error
