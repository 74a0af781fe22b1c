"""The paper's statements, held against results: what was measured, how surely, whether it holds.

    python -m benchmark.report claims PARQUET … [--out FILE.md|FILE.json] [--strict]

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmark.report import hypotheses as say
from benchmark.report.frame import tidy
from benchmark.report.hypotheses import (
    FAILS,
    HOLDS,
    NOT_TESTED,
    STATEMENTS,
    UNDECIDED,
    Finding,
    Task,
    Test,
)
from benchmark.report.reading import ReportError, read, write
from benchmark.report.tables import MISSING, to_csv, to_markdown

NUMBERS = ["value", "low", "high"]
ORDER = ["key", "statement", "task", "measure", *NUMBERS, "criterion", "control", "verdict", "note"]


def of(*lowers: str) -> Callable[[Task], bool]:
    """Whether a task's lower level is one of these."""
    return lambda task: task.lower in lowers


@dataclass(frozen=True)
class Claim:
    """A statement ``about`` something: how it is tested, on which rows of a task and method, and
    on which tasks.
    """

    key: str
    test: Test
    part: str
    method: str = "Restarted-JFB"
    about: str = ""
    where: Callable[[Task], bool] = lambda task: True


CLAIMS = (
    Claim("rate", say.rate, "first", where=lambda task: task.one_modulus),
    Claim("bound", say.bound, "first", where=lambda task: not task.one_modulus),
    Claim("restarts", say.restarts_close_the_gap, "first"),
    Claim("close", say.close_to_exact, "first"),
    Claim("limits", say.works, "first"),
    Claim("memory-linear", say.linear_memory, "memory", "Unrolling"),
    Claim("memory-linear", say.linear_memory, "memory"),
    Claim("memory-constant", say.flat_memory, "memory", "JFB"),
    Claim("memory-constant", say.flat_memory, "memory", "DEQ"),
    *(
        Claim("accuracy", say.not_less_accurate, "ended", about=family, where=where)
        for family, where in {
            "weighted norms": of("wavelet_l1", "wavelet_l12"),
            "Plug-and-Play": of("pnp"),
            "DRUNet": of("drunet"),
        }.items()
    ),
)


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
    return int(strict and (found["verdict"] == FAILS).any())


def claims(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for every statement on every task of the tidy frame where it was tested, and one for
    each reason why it could not be, with the tasks.
    """
    tasks = [Task.of(frame[frame["task"] == name]) for name in frame["task"].unique()]
    return pd.concat([listed(claim, tasks) for claim in CLAIMS], ignore_index=True)


def controlled(claim: Claim, task: Task) -> tuple[Finding, str]:
    """What is found, and of the control: where that HOLDS too, nothing is decided."""
    found = claim.test(task.rows(claim.part, claim.method), task)
    name = STATEMENTS.loc[claim.key, "control"]
    if isinstance(found, str):
        return Finding(math.nan, NOT_TESTED, found), ""
    if not name:
        return found, ""
    rows = task.rows(claim.part, name)
    other = "no rows" if rows.empty else claim.test(rows, task)
    if isinstance(other, str):
        return found, f"{name}: {NOT_TESTED} ({other})"
    if other.verdict == found.verdict == HOLDS:
        note = f"{found.note}; it would of {name} too"
        found = found._replace(verdict=UNDECIDED, note=note)
    return found, f"{name}: {other.verdict} ({other.value:.4g})"


def listed(claim: Claim, tasks: Sequence[Task]) -> pd.DataFrame:
    """The rows of a claim: those tested by task, then the others by what they lack."""
    margin, statement, measure, criterion, _ = STATEMENTS.loc[claim.key]
    head = {
        "key": claim.key,
        "statement": statement.format(claim.about or claim.method),
        "measure": measure.format(claim.method),
        "criterion": criterion.format(margin),
    }
    found = [(task.name, *controlled(claim, task)) for task in tasks if claim.where(task)]
    found = found or [("", Finding(math.nan, NOT_TESTED, "no task of this kind"), "")]
    rows, lacking = [], {}
    for task, finding, control in found:
        if finding.verdict == NOT_TESTED:
            lacking.setdefault(finding, []).append(task)
        else:
            rows.append(head | finding._asdict() | {"task": task, "control": control})
    for finding, tasks in lacking.items():
        rows.append(head | finding._asdict() | {"task": "; ".join(tasks), "control": ""})
    return pd.DataFrame(rows)[ORDER].astype(dict.fromkeys(NUMBERS, float))


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
