"""The paper's statements, held against results: what was measured, how surely, whether it holds.

    python -m benchmark.report claims PARQUET … [--out FILE.md|FILE.json] [--strict]

A claim HOLDS if the whole 95 % interval of its measure meets the criterion, FAILS if the whole
interval misses it, and is UNDECIDED in between; it is NOT TESTED where data are missing, and then
says which. The exit code is 0 whatever the verdicts, 1 if a claim fails under ``--strict``, 2 if an
input cannot be used. Beside FILE.md the same table is written as FILE.csv, for the site.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from benchmark.report.frame import first_rows, last_rows, measured_rows, tidy
from benchmark.report.reading import ReportError, read, write
from benchmark.report.statistics import LEVEL, difference, interval, student, values
from benchmark.report.style import PAGES
from benchmark.report.tables import MISSING, to_csv, to_markdown

HOLDS, FAILS, UNDECIDED, NOT_TESTED = "HOLDS", "FAILS", "UNDECIDED", "NOT TESTED"
PAIR = ("Restarted-JFB", "DEQ")
FAMILIES = {
    "weighted norms": ("wavelet_l1", "wavelet_l12"),
    "Plug-and-Play": ("pnp",),
    "DRUNet": ("drunet",),
}
AT_EQUILIBRIUM = 1e-2  # the state's error κ^((R+1)K) against the truncation's κᴷ
#: what is said of each method or family, how it is measured, and when it holds. The bounds: of
#: log κ (κᴷ bounds the error, so a faster fall is no failure); of the gap; the relative gradient
#: error that counts as DEQ's step; R² of memory against depth; growth of memory per layer run, as
#: a share of unrolling's; the difference of test PSNRs up to which accuracies are the same.
STATEMENTS = pd.read_csv(PAGES / "claims.csv", index_col="key")
BOUNDS = STATEMENTS["bound"].to_dict()


class Finding(NamedTuple):
    """What was measured on a task, the verdict, and the measure's interval."""

    value: float
    verdict: str
    note: str
    low: float = math.nan
    high: float = math.nan


#: finds something in the rows of a task, or says why it cannot
Test = Callable[[pd.DataFrame], Finding | str]


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
    """A row for every statement on every task of the tidy frame, or one as not tested.

    (a)–(c) are about restarted JFB's gradient errors above zero at the first θ, (d) about the peak
    memory of one hypergradient, (e) about test PSNRs at the end of training. Of (a)–(d) what could
    not be tested is left out, or said once if nothing could be.
    """
    first, memory = first_rows(frame), measured_rows(frame, "peak_memory_mib")
    restarted = first[(first["method"] == "Restarted-JFB") & (first["gradient_error"] > 0)]
    restarted = restarted.dropna(subset=["layers", "restarts"])
    of = {method: memory[memory["method"] == method] for method in (*PAIR, "JFB", "Unrolling")}
    close = partial(close_to_deq, deq=first[first["method"] == "DEQ"])
    flat = partial(flat_memory, unrolled=of["Unrolling"])
    found = [
        tested("rate", restarted, rate),
        tested("restarts", restarted, restarts_close_the_gap),
        tested("close", restarted, close),
        *(tested("memory-linear", of[m], linear_memory, m) for m in ("Unrolling", PAIR[0])),
        *(tested("memory-constant", of[m], flat, m) for m in ("JFB", "DEQ")),
    ]
    ends = last_rows(frame)
    ends = ends[(ends["status"] == "ok") & (ends["outer_step"] > 0) & ends["value"].notna()]
    ends = ends[ends["method"].isin(PAIR)]
    for family, lowers in FAMILIES.items():
        # a task is named: lower level, degradation (…)
        rows = ends[ends["task"].str.replace(",.*", "", regex=True).isin(lowers)]
        both = rows[rows.groupby("task")["method"].transform("nunique") == len(PAIR)]
        found.append(tested("accuracy", both, partial(same_accuracy, lowers=lowers), family))
    table = pd.concat(found, ignore_index=True)
    known = (table["verdict"] != NOT_TESTED) | (table["key"] == "accuracy")
    none = ~known.groupby(table["key"]).transform("any")
    return table[known | none & ~table["key"].duplicated()].reset_index(drop=True)


def tested(key: str, rows: pd.DataFrame, test: Test, about: str = "") -> pd.DataFrame:
    """A claim for each task in order; a single one on no task if there is no row."""
    bound, statement, measure, criterion = STATEMENTS.loc[key]
    found = []
    for task, group in list(rows.groupby("task")) or [("", rows)]:
        finding = test(group)
        if isinstance(finding, str):
            finding = Finding(math.nan, NOT_TESTED, finding)
        head = {"key": key, "statement": statement.format(about), "task": task, "measure": measure}
        found.append(head | {"criterion": criterion.format(bound)} | finding._asdict())
    order = ["key", "statement", "task", "measure", "value", "low", "high"]
    return pd.DataFrame(found)[[*order, "criterion", "verdict", "note"]].astype({"value": float})


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
        "note": found["note"].replace("", MISSING),
    }
    return pd.DataFrame(table, dtype=str)


def to_json(found: pd.DataFrame) -> str:
    """The claims as a list of objects; what is not known is null."""
    entries = found.astype(object).where(found.notna(), None).to_dict("records")
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def rate(rows: pd.DataFrame) -> Finding | str:
    """(a) At equilibrium the error of JFB through K layers falls as κᴷ."""
    kappa = float(rows["contraction"].median())
    if not 0 < kappa < 1:
        return f"no contraction below 1 (κ = {kappa:.3g})"
    most = rows[rows["restarts"] == rows["restarts"].max()]
    settled = kappa ** (most["restarts"] * most["layers"]) <= AT_EQUILIBRIUM
    above = most["gradient_error"] > 100 * most["reference_residual"].fillna(0)
    points = most[settled & above]
    fit = line(points["layers"], np.log(points["gradient_error"]))
    if fit is None:
        found = points["layers"].nunique() or "none"
        return f"needs Restarted-JFB at equilibrium at three depths, found {found}"
    high, value, low = (part / np.log(kappa) for part in (fit.low, fit.slope, fit.high))
    note = f"κ = {kappa:.4g}, K = {_listed(points['layers'])}, R² = {fit.r2:.4f}"
    return Finding(value, _verdict((low, high), low=BOUNDS["rate"]), note, low, high)


def restarts_close_the_gap(rows: pd.DataFrame) -> Finding | str:
    """(b) With more restarts the error at the same K approaches that at equilibrium.

    The gap at R restarts is |error(R) − error(most restarts)|; the measure is the geometric mean
    over depths of the gap at the second most restarts over that at the fewest, a depth at which it
    shrinks more than tenfold counting as tenfold, lest one depth decide.
    """
    table = rows.groupby(["layers", "restarts"])["gradient_error"].median().unstack()
    complete = table.dropna(axis="columns", thresh=3).dropna()
    if complete.shape[1] < 3 or len(complete) < 3:
        return "needs three numbers of restarts at three depths"
    first, second, last = (complete.columns[at] for at in (0, -2, -1))
    few, more = (abs(complete[at] - complete[last]) / complete[last] for at in (first, second))
    open_ = few > 0.01
    if open_.sum() < 2:
        return f"the fewest restarts, {first:g}, leave no gap to close"
    logs = np.log(np.maximum(more[open_] / few[open_], 0.1)).to_numpy()
    bounds = np.exp(student(logs)).tolist()
    note = (
        f"R = {first:g}, {second:g} against {last:g}; K = {_listed(few.index[open_])}; "
        f"the error left at R = {last:g} is the truncation's"
    )
    verdict = _verdict(bounds, high=BOUNDS["restarts"])
    return Finding(np.exp(logs.mean()), verdict, note, *bounds)


def close_to_deq(rows: pd.DataFrame, *, deq: pd.DataFrame) -> Finding | str:
    """(c) The steps of restarted JFB come arbitrarily close to DEQ's: error at the largest K.

    Above the criterion it is undecided while the error still falls, from the last depth but one, at
    half the rate of κᴷ or faster (its logarithm), and fails otherwise.
    """
    if rows["layers"].nunique() < 2:
        return "needs Restarted-JFB at two depths"
    own = float(deq.loc[deq["task"].isin(rows["task"]), "gradient_error"].median())
    errors = rows.groupby(["layers", "restarts"])["gradient_error"].median()
    least = errors.groupby("layers").min()
    (depth, restarts), value = errors.idxmin(), float(errors.min())
    best = rows[(rows["layers"] == depth) & (rows["restarts"] == restarts)]
    kappa = min(float(rows["contraction"].median()), 1.0)
    pace = kappa ** ((least.index[-1] - least.index[-2]) / 2)
    falling = least.iloc[-1] / least.iloc[-2] < min(0.9, pace)
    reached = value <= np.nanmax([BOUNDS["close"], own])
    cosine = best["gradient_cosine"].median()
    note = f"K = {depth:g}, R = {restarts:g}; cosine {cosine:.6f}; DEQ's error {_number(own)}"
    if not reached:
        note += f"; {'still falling' if falling else 'no longer falling'} in K"
    bounds = student(best["gradient_error"].to_numpy()) if len(best) > 1 else ()
    verdict = HOLDS if reached else UNDECIDED if falling else FAILS
    return Finding(value, verdict, note, *bounds)


def linear_memory(rows: pd.DataFrame) -> Finding | str:
    """(d) Peak memory of differentiating K layers is linear in K."""
    fit = line(rows["layers"], rows["peak_memory_mib"])
    if fit is None:
        return f"needs three depths, found {rows['layers'].nunique() or 'none'}"
    straight = fit.r2 >= BOUNDS["memory-linear"]
    verdict = _verdict((fit.low, fit.high), low=0) if straight else FAILS
    note = f"slope {fit.slope:.4g} [{fit.low:.4g}, {fit.high:.4g}] MiB per layer"
    return Finding(fit.r2, verdict, note)


def flat_memory(rows: pd.DataFrame, *, unrolled: pd.DataFrame) -> Finding | str:
    """(d) Peak memory of JFB and DEQ does not depend on how many layers they run.

    The measure is the growth in MiB per layer run, as a share of unrolling's. With one number of
    layers in the data it is bounded: all that a method holds beyond one layer's graph, over the
    layers it ran; a Krylov basis counts in that bound.
    """
    peers = unrolled[unrolled["task"].isin(rows["task"])]
    fit = line(peers["layers"], peers["peak_memory_mib"])
    if fit is None or not fit.slope > 0:
        return f"needs Unrolling at three depths, found {peers['layers'].nunique() or 'none'}"
    memory = rows.groupby("layer_evals")["peak_memory_mib"].median()
    own = line(memory.index.to_series(), memory)
    if own is not None:
        value, *bounds = (part / fit.slope for part in (own.slope, own.low, own.high))
        note = f"layers run: {_listed(memory.index)}"
        return Finding(value, _verdict(bounds, high=BOUNDS["memory-constant"]), note, *bounds)
    base = float(peers.loc[peers["layers"].idxmin(), "peak_memory_mib"])
    value = (memory.iloc[-1] - base) / (memory.index[-1] - 1) / fit.slope
    note = (
        f"a bound: {memory.iloc[-1]:.3g} MiB at {memory.index[-1]:g} layers run, "
        f"{base:.3g} MiB for one unrolled layer; fewer than three depths in the data"
    )
    return Finding(value, HOLDS if value <= BOUNDS["memory-constant"] else UNDECIDED, note)


def same_accuracy(rows: pd.DataFrame, *, lowers: Sequence[str]) -> Finding | str:
    """(e) Training with restarted JFB reaches DEQ's accuracy: equivalence within 0.1 dB.

    Of several configurations of a method the one with the least mean F(θ) at its end is taken: a
    choice by the training set, not by the test set.
    """
    if rows.empty:
        return f"no trained runs of {' and '.join(PAIR)} on {' or '.join(lowers)}"
    means = rows.groupby(["method", "configuration"])["value"].mean()
    names = [means[method].idxmin() for method in PAIR]
    gap = interval(difference(*(values(rows[rows["configuration"] == name]) for name in names)))
    bounds, about, same = (gap.low, gap.high), " against ".join(names), BOUNDS["accuracy"]
    if not gap.known:
        return Finding(gap.mean, NOT_TESTED, f"{about}; no interval: {gap.how}")
    verdict = _verdict(bounds, low=-same, high=same)
    return Finding(gap.mean, verdict, f"{about}; paired, {gap.how}", *bounds)


class Fit(NamedTuple):
    """A straight line through points: its slope with Student's interval, and R²."""

    slope: float
    low: float
    high: float
    r2: float


def line(x: pd.Series, y: pd.Series) -> Fit | None:
    """The least-squares line; None for fewer than three different x."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known].astype(float), y[known]
    if x.nunique() < 3:
        return None
    if np.ptp(y) == 0:
        return Fit(0.0, 0.0, 0.0, r2=1.0)
    fit = stats.linregress(x, y)
    half = stats.t.ppf((1 + LEVEL) / 2, len(x) - 2) * fit.stderr
    return Fit(fit.slope, fit.slope - half, fit.slope + half, r2=fit.rvalue**2)


def _verdict(bounds: Sequence[float], *, low: float = -math.inf, high: float = math.inf) -> str:
    """Of an interval against the criterion [low, high]."""
    if low <= bounds[0] and bounds[1] <= high:
        return HOLDS
    return FAILS if bounds[1] < low or bounds[0] > high else UNDECIDED


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in sorted(set(numbers)))


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.4g}"
