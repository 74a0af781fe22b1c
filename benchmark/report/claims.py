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
from functools import partial
from pathlib import Path

import pandas as pd

from benchmark.report import hypotheses
from benchmark.report.frame import first_rows, measured_rows, tidy
from benchmark.report.hypotheses import FAILS, HOLDS, NOT_TESTED, STATEMENTS, UNDECIDED, Finding
from benchmark.report.reading import ReportError, read, write
from benchmark.report.tables import MISSING, to_csv, to_markdown

FAMILIES = {
    "weighted norms": ("wavelet_l1", "wavelet_l12"),
    "Plug-and-Play": ("pnp",),
    "DRUNet": ("drunet",),
}
NUMBERS = ["value", "low", "high"]
ORDER = ["key", "statement", "task", "measure", *NUMBERS, "criterion", "control", "verdict", "note"]
#: finds something in the rows of a task, or says why it cannot
Test = Callable[[pd.DataFrame], Finding | str]
#: the test of a claim on a task by its name; None where the claim is not about it
Tests = Callable[[str], Test | None]


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


@dataclass(frozen=True)
class Claim:
    """A statement: ``about`` what, on the ``rows`` of which method, tested how on a task."""

    key: str
    method: str
    rows: pd.DataFrame
    test: Tests
    about: str = ""

    def of(self, task: str, method: str) -> pd.DataFrame:
        """The rows of a method on a task."""
        return self.rows[(self.rows["task"] == task) & (self.rows["method"] == method)]


def claims(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for every statement on every task of the tidy frame where it was tested, and one for
    each reason why it could not be, with the tasks.
    """
    tasks = list(frame["task"].unique())
    parts = [
        listed(claim, [(task, test) for task in tasks if (test := claim.test(task))])
        for claim in (*of_gradients(frame), *of_memory(frame), *of_training(frame))
    ]
    return pd.concat(parts, ignore_index=True)


def of_gradients(frame: pd.DataFrame) -> list[Claim]:
    """(a)–(c), about restarted JFB's gradient errors at the first θ."""
    first = first_rows(frame)
    radius = first.groupby("task")["contraction"].median()
    last = measured_rows(frame, "jacobian_norm_start").groupby("task")
    norm = last["jacobian_norm_start"].median()
    first, trained = first[first["gradient_error"] > 0], hypotheses.ended(frame)

    def rate(task: str) -> Test | None:
        same = task.partition(" (")[0] in hypotheses.ONE_MODULUS
        return partial(hypotheses.rate, kappa=radius.get(task, math.nan)) if same else None

    def bound(task: str) -> Test | None:
        known = norm.get(task, math.nan)
        return None if rate(task) else partial(hypotheses.bound, kappa=known)

    def close(task: str) -> Test:
        return partial(hypotheses.close_to_exact, kappa=radius.get(task, math.nan))

    def restarts(task: str) -> Test:
        own = first[first["task"] == task]
        few = own[own["method"] == "Restarted-JFB"]
        few = few[few["restarts"] == few["restarts"].min()]

        def test(rows: pd.DataFrame) -> Finding | str:
            if rows["restarts"].isna().all():  # the control, in the place of the most restarts
                rows = pd.concat([few, rows.assign(restarts=math.inf)])
            terms = own[own["method"] == "Neumann"]
            return hypotheses.restarts_close_the_gap(rows, terms=terms)

        return test

    def limits(task: str) -> Test:
        own = trained[trained["task"] == task]
        parts = (own[own["method"] == name] for name in ("Restarted-JFB", "DEQ"))
        return partial(hypotheses.works, **dict(zip(("ends", "deq"), parts, strict=True)))

    tests = {"rate": rate, "bound": bound, "restarts": restarts, "close": close, "limits": limits}
    return [Claim(key, "Restarted-JFB", first, test) for key, test in tests.items()]


def of_memory(frame: pd.DataFrame) -> list[Claim]:
    """(d), about the peak memory of one hypergradient."""
    rows = measured_rows(frame, "peak_memory_mib")

    def flat(task: str) -> Test:
        unrolled = rows[(rows["task"] == task) & (rows["method"] == "Unrolling")]
        return partial(hypotheses.flat_memory, unrolled=unrolled)

    def linear(_: str) -> Test:
        return hypotheses.linear_memory

    methods = {"Unrolling": linear, "Restarted-JFB": linear, "JFB": flat, "DEQ": flat}
    keys = {linear: "memory-linear", flat: "memory-constant"}
    return [Claim(keys[test], name, rows, test, about=name) for name, test in methods.items()]


def of_training(frame: pd.DataFrame) -> list[Claim]:
    """(e), about test PSNRs at the end of training."""
    rows = hypotheses.ended(frame)

    def accuracy(task: str, *, lowers: Sequence[str]) -> Test | None:
        deq = rows[(rows["task"] == task) & (rows["method"] == "DEQ")]
        # a task is named: lower level, degradation (…)
        mine = task.partition(",")[0] in lowers
        return partial(hypotheses.not_less_accurate, deq=deq) if mine else None

    return [
        Claim("accuracy", "Restarted-JFB", rows, partial(accuracy, lowers=lowers), about=family)
        for family, lowers in FAMILIES.items()
    ]


def controlled(claim: Claim, task: str, test: Test) -> tuple[Finding, str]:
    """What is found, and of the control: where that HOLDS too, nothing is decided."""
    found, name = test(claim.of(task, claim.method)), STATEMENTS.loc[claim.key, "control"]
    if isinstance(found, str):
        return Finding(math.nan, NOT_TESTED, found), ""
    if not name:
        return found, ""
    rows = claim.of(task, name)
    other = "no rows" if rows.empty else test(rows)
    if isinstance(other, str):
        return found, f"{name}: {NOT_TESTED} ({other})"
    if other.verdict == found.verdict == HOLDS:
        note = f"{found.note}; it would of {name} too"
        found = found._replace(verdict=UNDECIDED, note=note)
    return found, f"{name}: {other.verdict} ({_number(other.value)})"


def listed(claim: Claim, tests: Sequence[tuple[str, Test]]) -> pd.DataFrame:
    """The rows of a claim: those tested by task, then the others by what they lack."""
    margin, statement, measure, criterion, _ = STATEMENTS.loc[claim.key]
    head = {
        "key": claim.key,
        "statement": statement.format(claim.about),
        "measure": measure.format(claim.method),
        "criterion": criterion.format(margin),
    }
    found = [(task, *controlled(claim, task, test)) for task, test in tests]
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
    bounds = found["low"].map("[{:.4g}, ".format) + found["high"].map("{:.4g}]".format)
    table = {
        "verdict": found["verdict"],
        "statement": found["statement"],
        "task": found["task"].replace("", MISSING),
        "measured": found["measure"] + ": " + found["value"].map(_number),
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


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.4g}"
