"""Numbers in a text, taken from the tables of results.

Between a line ``<!-- numbers: results/quick/headline.csv -->`` and a line ``<!-- /numbers -->``
stands what the CSV says: a sentence per task and the headline table; the former alone of
``headline.csv#sentences``; of a ``claims.csv`` in how many tasks each statement holds and fails, of
``claims.csv#findings`` the same of those about restarted JFB, as prose. Of another table, name
the Markdown file instead: it is taken as it is. The path is relative to the text's folder. With
``--check`` nothing is written, and the exit code is 1 if a text is stale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from benchmark.report import headline
from benchmark.report.hypotheses import BETTER, FAILS, HOLDS, NOT_TESTED, UNDECIDED, WORSE
from benchmark.report.reading import ReportError, read_csv, read_text, write
from benchmark.report.style import PAGES
from benchmark.report.tables import MISSING, in_markdown, to_markdown

VERDICTS = (HOLDS, BETTER, WORSE, FAILS, UNDECIDED, NOT_TESTED)
#: what is ``said`` of the statements that begin so, ``about`` which part of them
FINDINGS = pd.read_csv(PAGES / "findings.csv", keep_default_na=False)
FELL = 0.05  # dB of test PSNR below its highest along training that are worth a word
BLOCK = re.compile(r"(?ms)^(<!-- numbers: (\S+) -->\n).*?^(<!-- /numbers -->)$")


def report(text: Sequence[Path], *, check: bool = False) -> int:
    """The command line: every block of every text as its table gives it; a ReportError if a text
    has no block, a marker has no partner, or a table cannot be read.
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
    """What a ``headline.csv`` says: a sentence per task and the table; of Markdown, itself."""
    if path.suffix == ".md":
        return read_text(path)
    name, _, part = path.name.partition("#")
    if name == "claims.csv":
        claims = read_csv(path.with_name(name), texts=["statement", "task", "verdict"])
        if part == "findings":
            return in_markdown(" ".join(findings(claims))) + "\n"
        return listed(verdicts(claims))
    found = headline.read(path.with_name(name))
    said = listed(sentences(found.numbers))
    if part == "sentences":
        return said
    table = to_markdown(found.text, bold=found.bold, note=found.note)
    return f"{said}\n{table}" if said else table


def listed(said: Iterable[str]) -> str:
    """Sentences as a list in Markdown."""
    return "".join(f"- {in_markdown(sentence)}\n" for sentence in said)


def verdicts(claims: pd.DataFrame) -> Iterator[str]:
    """Of each statement, in how many tasks which verdict was found."""
    for statement, own in claims.groupby("statement", sort=False):
        found = ", ".join(f"{verdict} in {n}" for verdict, n in counted(own).items() if n)
        yield f"{statement}: {found or 'no task of this kind'}."


def counted(claims: pd.DataFrame) -> dict[str, int]:
    """The number of tasks of each verdict."""
    tasks = claims["task"].str.count("; ") + claims["task"].ne(MISSING)
    return {verdict: int(tasks[claims["verdict"] == verdict].sum()) for verdict in VERDICTS}


def findings(claims: pd.DataFrame) -> Iterator[str]:
    """A sentence for each finding: of the tasks on which it was tested, on how many it was found
    to hold, on how many refuted.
    """
    for said, parts in FINDINGS.groupby("said", sort=False):
        found = [_found(claims, part.statement, part.about) for part in parts.itertuples()]
        yield f"{said}: {'; '.join(found)}."


def _found(claims: pd.DataFrame, statement: str, about: str) -> str:
    counts = counted(claims[claims["statement"].str.startswith(statement)])
    tested = sum(counts.values()) - counts[NOT_TESTED]
    head = f"{about}, " if about else ""
    if not tested:
        return f"{head}not tested"
    tasks = "task" if tested == 1 else "tasks"
    said = [f"found on {counts[HOLDS] + counts[BETTER]} of {tested} {tasks}"]
    if refuted := counts[FAILS] + counts[WORSE]:
        said.append(f"refuted on {refuted}")
    if counts[UNDECIDED]:
        said.append(f"undecided on {counts[UNDECIDED]}")
    return head + ", ".join(said)


def sentences(numbers: pd.DataFrame) -> Iterator[str]:
    """Of each task with a trained θ: the best test PSNR, its gain, who is not told from it, and
    what is inconvenient.
    """
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
        said += f"; not told from it: {named}." if named else "."
        yield " ".join([said, *_inconvenient(rows, trained, best)])


def _inconvenient(rows: pd.DataFrame, trained: pd.DataFrame, best: pd.Series) -> Iterator[str]:
    """A search without gradients wins, a method is worse than it or than the start, F falls and the
    test PSNR too, F still falls where training ends.
    """
    if best["method"] in headline.SEARCHES:
        yield f"No method with a gradient is above {best['configuration']}, a search without."
    names = trained["configuration"]
    those = {"Significantly worse than the start": names[trained["to_start"] == "worse"]}
    searches = trained[trained["method"].isin(headline.SEARCHES)]
    if searches["test_psnr"].notna().any():
        search = searches.loc[searches["test_psnr"].idxmax(), "configuration"]
        for verdict in ("better", "worse"):
            own = names[trained["to_search"] == verdict]
            those[f"Significantly {verdict} than {search}"] = own
    start = rows.loc[rows["configuration"] == headline.START, "value"].iloc[0]
    worse = (trained["value"] < start) & (trained["gain"] < 0)
    lost = (names + trained["gain"].map(" ({:+.2f} dB)".format))[worse]
    those["F is lower than at the start and the test PSNR too (over-fitting)"] = lost
    lost = (names + trained["fell"].map(" (−{:.2f} dB)".format))[trained["fell"] >= FELL]
    those["While F fell on, the test PSNR fell from its highest along training"] = lost
    moving = names[trained["moved"] > headline.REST]
    those["F had not come to rest when training ended"] = moving
    yield from (f"{said}: {', '.join(own)}." for said, own in those.items() if len(own))
