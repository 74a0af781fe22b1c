"""The paper's statements, held against results: what was measured, how surely, whether it holds.

A claim HOLDS if the whole 95 % interval of its measure meets the criterion, FAILS if the whole
interval misses it, and is UNDECIDED in between, and where the control, a method of which it is not
true, would pass as well; BETTER and WORSE are told of accuracies. It is NOT TESTED where data are
missing, and then says which. The exit code is 0 whatever the verdicts, 1 if a claim fails under
``--strict``, 2 if an input cannot be used. Beside FILE.md the same table is written as FILE.csv,
for the site.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmark.report import hypotheses as say
from benchmark.report.frame import tidy
from benchmark.report.hypotheses import HOLDS, NOT_TESTED, STATEMENTS, Finding, Task
from benchmark.report.reading import ReportError, read, write
from benchmark.report.style import PAGES
from benchmark.report.tables import MISSING, to_csv, to_markdown

#: a row for each claim: its ``STATEMENTS``, ``about`` what, and on which ``part`` of the rows of a
#: method, on which ``tasks`` (those whose names a pattern matches) it is tested
CLAIMS = pd.read_csv(PAGES / "tested.csv", keep_default_na=False).join(STATEMENTS, on="key")
NUMBERS = ["value", "low", "high"]
ORDER = ["key", "statement", "task", "measure", *NUMBERS, "criterion", "control", "verdict", "note"]


def report(parquet: Sequence[Path], *, out: Path | None = None, strict: bool = False) -> int:
    """The command line."""
    if out is not None and out.suffix not in (".md", ".json"):
        raise ReportError(f"{out}: expected a name that ends in .md or .json")
    found = claims(tidy(read(parquet).rows))
    table = text(found)
    print(to_markdown(table), end="")
    if out is not None and out.suffix == ".json":
        write(out, to_json(found))
    elif out is not None:
        write(out, to_markdown(table))
        write(out.with_suffix(".csv"), to_csv(table))
    return int(strict and (found["verdict"] == say.FAILS).any())


def claims(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for every statement on every task of the tidy frame where it was tested, and one for
    each reason why it could not be, with the tasks.
    """
    tasks = [Task(frame[frame["task"] == name]) for name in frame["task"].unique()]
    return pd.concat([listed(claim, tasks) for _, claim in CLAIMS.iterrows()], ignore_index=True)


def controlled(claim: pd.Series, task: Task) -> Finding:
    """What is found, and of the control: where that HOLDS too, nothing is decided."""
    test, name = say.TESTS[claim["key"]], claim["control"]
    found = test(task.rows(claim["part"], claim["method"]), task)
    if isinstance(found, str):
        return Finding(math.nan, NOT_TESTED, found)
    rows = task.rows(claim["part"], name)
    other = "no rows" if rows.empty else test(rows, task)
    if isinstance(other, str):
        return found._replace(control=f"{name}: {NOT_TESTED} ({other})")
    if other.verdict == found.verdict == HOLDS:
        note = f"{found.note}; it would of {name} too"
        found = found._replace(verdict=say.UNDECIDED, note=note)
    return found._replace(control=f"{name}: {other.verdict} ({other.value:.4g})")


def listed(claim: pd.Series, tasks: Sequence[Task]) -> pd.DataFrame:
    """The rows of a claim: those tested by task, then the others by what they lack."""
    head = {
        "key": claim["key"],
        "statement": claim["statement"].format(claim["about"] or claim["method"]),
        "measure": claim["measure"].format(claim["method"]),
        "criterion": claim["criterion"].format(claim["margin"]),
    }
    about = [task for task in tasks if re.match(claim["tasks"], task.name)]
    found = {task.name: controlled(claim, task) for task in about}
    found = found or {"": Finding(math.nan, NOT_TESTED, "no task of this kind")}
    rows = pd.DataFrame([head | {"task": name} | own._asdict() for name, own in found.items()])
    lacking = rows[rows["verdict"] == NOT_TESTED]
    together = lacking.groupby("note", sort=False)["task"].transform("; ".join)
    lacking = lacking.assign(task=together).drop_duplicates("note")
    rows = pd.concat([rows[rows["verdict"] != NOT_TESTED], lacking])
    return rows[ORDER].astype(dict.fromkeys(NUMBERS, float))


def text(found: pd.DataFrame) -> pd.DataFrame:
    """The claims as a table of text."""
    value = found["value"].map("{:.4g}".format).where(found["value"].notna(), MISSING)
    bounds = found["low"].map("[{:.4g}, ".format) + found["high"].map("{:.4g}]".format)
    table = {
        "verdict": found["verdict"],
        "statement": found["statement"],
        "task": found["task"].replace("", MISSING),
        "measured": found["measure"] + ": " + value,
        "95 % interval": bounds.where(found["low"].notna(), MISSING),
        "criterion": found["criterion"],
        "control": found["control"].replace("", MISSING),
        "note": found["note"].replace("", MISSING),
    }
    return pd.DataFrame(table, dtype=str)


def to_json(found: pd.DataFrame) -> str:
    """The claims as a list of objects; what is not known is null."""
    entries = found.astype(object).where(found.notna(), None).to_dict("records")
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
