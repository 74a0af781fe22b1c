"""The headline table of a study: accuracy with intervals, what the gradient costs, who is best.

A row per task and configuration, and one for the start, θ before the first outer step. The
interval is the 95 % confidence interval of the mean test PSNR (``statistics``); in bold are the
highest mean and those that paired differences over the same images cannot tell from it
(``statistics.not_worse``, corrected for their number).
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from benchmark.report.frame import first_rows, last_rows
from benchmark.report.reading import read_csv
from benchmark.report.statistics import interval, not_worse, values
from benchmark.report.tables import HEADERS, MISSING, Table, measured, spelled, summary

START = "start"
NOTE = (
    "Bold: the highest mean test PSNR, and those that paired differences over the same test images "
    "do not put below it (95 %, corrected for the number of comparisons)."
)
HEADS = ["task", "configuration", "method", "status"]
GRADIENT = ["test_psnr_deployed", "gradient_error", "gradient_cosine", "gradient_seconds"]
COSTS = [*GRADIENT, "peak_memory_mib", "layer_evals", "vjp_evals"]
ORDER = [*HEADS[:3], "test_psnr", "low", "high", "how", "best", "gain", *COSTS, "status"]


def headline(frame: pd.DataFrame) -> Table:
    """The table of a tidy frame."""
    return table(numbers(frame))


def read(path: Path) -> Table:
    """The table in a ``headline.csv``."""
    texts = [*HEADS, "how", "best"]
    known = [name for name in ORDER if name not in texts]
    found = read_csv(path, texts=texts, numbers=known)
    return table(found.assign(best=found["best"] == "True"))


def table(numbers: pd.DataFrame) -> Table:
    """The table of its numbers: the best have their test PSNR in bold."""
    bold = {(row, HEADERS["test_psnr"]) for row in range(len(numbers)) if numbers["best"].iloc[row]}
    bounds = numbers["low"].map("[{:.2f}, ".format) + numbers["high"].map("{:.2f}]".format)
    evals = spelled(numbers, ["layer_evals"]).iloc[:, 0] + " + "
    evals += spelled(numbers, ["vjp_evals"]).iloc[:, 0]
    text = {
        "task": numbers["task"],
        "configuration": numbers["configuration"],
        **spelled(numbers, ["test_psnr"]),
        "95 % interval": bounds.where(numbers["low"].notna(), MISSING),
        "gain (dB)": [measured(gain, decimals=2) for gain in numbers["gain"]],
        **spelled(numbers, COSTS[:-2]),
        "layer + vjp evals": evals.where(numbers["layer_evals"].notna(), MISSING),
        "status": numbers["status"],
    }
    return Table("headline", numbers, pd.DataFrame(text, dtype=str), bold, NOTE if bold else "")


def numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Per task the start, then the configurations in their order.

    ``gain`` is over the start; ``best`` marks the best and those not significantly worse. Means
    are over the runs that ended well.
    """
    ends = last_rows(frame)
    good = ends[ends["status"] == "ok"]
    means = summary(frame).rename(columns=lambda name: name.removesuffix("_mean"))
    parts = []
    for task, rows in means.groupby("task", sort=False):
        runs = good[good["task"] == task]
        tables = {name: values(group) for name, group in runs.groupby("configuration", sort=False)}
        begin = starts(frame[frame["task"] == task])
        part, gain = rows[[*HEADS, "test_psnr", *COSTS]], math.nan
        if len(begin):
            tables[START] = values(begin)
            psnr = interval(tables[START]).mean
            start = pd.DataFrame([[task, START, "", MISSING, psnr]], columns=[*HEADS, "test_psnr"])
            part = pd.concat([start, part], ignore_index=True)
            gain = part["test_psnr"] - psnr
        found = [asdict(interval(tables.get(name, pd.DataFrame()))) for name in part.configuration]
        bounds = pd.DataFrame(found, index=part.index)[["low", "high", "how"]]
        best = part["configuration"].isin(not_worse(tables))
        parts.append(part.join(bounds).assign(best=best, gain=gain))
    return pd.concat(parts, ignore_index=True)[ORDER]


def starts(frame: pd.DataFrame) -> pd.DataFrame:
    """One task's evaluations of the initial θ, a row per run; empty where nothing was trained.

    All runs of a repetition begin at the same θ.
    """
    first, trained = first_rows(frame), (frame["outer_step"] > 0).any()
    return first[trained & (first["outer_step"] == 0) & first["test_psnr"].notna()]
