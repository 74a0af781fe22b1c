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
from benchmark.report.tables import MISSING, to_csv, to_markdown

HOLDS, FAILS, UNDECIDED, NOT_TESTED = "HOLDS", "FAILS", "UNDECIDED", "NOT TESTED"
RATE = 0.8  # of log κ: κᴷ bounds the error, so a faster fall is no failure
AT_EQUILIBRIUM = 1e-2  # the state's error κ^((R+1)K) against the truncation's κᴷ
CLOSE = 1e-3  # relative gradient error that counts as DEQ's step
LINEAR = 0.99  # R² of memory against depth
FLAT = 0.05  # growth per layer run, as a share of unrolling's
SAME_DB = 0.1  # test PSNRs this close are the same accuracy
UNKNOWN = (math.nan, math.nan)
PAIR = ("Restarted-JFB", "DEQ")
FAMILIES = {
    "weighted norms": ("wavelet_l1", "wavelet_l12"),
    "Plug-and-Play": ("pnp",),
    "DRUNet": ("drunet",),
}
#: what is said of each method or family, how it is measured, and when it holds
STATEMENTS = {
    "rate": (
        "JFB through K layers at equilibrium: its gradient error falls as κᴷ",
        "slope of log error in K / log κ",
        f"at least {RATE:g} (κᴷ is a bound)",
    ),
    "restarts": (
        "restarts close the gap that the state leaves",
        "gap left by more restarts / gap left by the fewest",
        "below 1",
    ),
    "close": (
        "steps of restarted JFB come arbitrarily close to DEQ's",
        "smallest relative gradient error reached",
        f"at most {CLOSE:g}, or DEQ's own",
    ),
    "memory-linear": (
        "memory of {} is linear in K",
        "R² of a line",
        f"R² at least {LINEAR:g}, slope above 0",
    ),
    "memory-constant": (
        "memory of {} is constant in depth",
        "growth per layer run / unrolling's",
        f"at most {FLAT:g}",
    ),
    "accuracy": (
        "training with restarted JFB reaches DEQ's accuracy: {}",
        "test PSNR, Restarted-JFB − DEQ (dB)",
        f"the interval within ±{SAME_DB:g} dB",
    ),
}


class Finding(NamedTuple):
    """What was measured on a task, with its interval, and the verdict."""

    value: float
    low: float
    high: float
    verdict: str
    note: str


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
    memory of one hypergradient, (e) about test PSNRs at the end of training.
    """
    first, memory = first_rows(frame), measured_rows(frame, "peak_memory_mib")
    of, nothing = dict(list(memory.groupby("method"))), memory.iloc[:0]
    restarted = first[(first["method"] == "Restarted-JFB") & (first["gradient_error"] > 0)]
    restarted = restarted.dropna(subset=["layers", "restarts"])
    flat = partial(flat_memory, unrolled=of.get("Unrolling", nothing))
    deq = partial(close_to_deq, deq=first[first["method"] == "DEQ"])
    found = [
        _once(tested("rate", restarted, rate)),
        _once(tested("restarts", restarted, restarts_close_the_gap)),
        _once(tested("close", restarted, deq)),
    ]
    for key, methods, test in (
        ("memory-linear", ("Unrolling", "Restarted-JFB"), linear_memory),
        ("memory-constant", ("JFB", "DEQ"), flat),
    ):
        found.append(_once(pd.concat(tested(key, of.get(m, nothing), test, m) for m in methods)))
    ends = last_rows(frame)
    ends = ends[(ends["status"] == "ok") & (ends["outer_step"] > 0) & ends["value"].notna()]
    ends = ends[ends["method"].isin(PAIR)]
    for family, lowers in FAMILIES.items():
        # a task is named: lower level, degradation (…)
        rows = ends[ends["task"].str.replace(",.*", "", regex=True).isin(lowers)]
        both = rows[rows.groupby("task")["method"].transform("nunique") == len(PAIR)]
        found.append(tested("accuracy", both, partial(same_accuracy, lowers=lowers), family))
    return pd.concat(found, ignore_index=True)


def tested(key: str, rows: pd.DataFrame, test: Test, about: str = "") -> pd.DataFrame:
    """A claim for each task in order; a single one on no task if there is no row."""
    statement, measure, criterion = STATEMENTS[key]
    found = []
    for task, group in dict(list(rows.groupby("task"))).items() or [("", rows)]:
        finding = test(group)
        if isinstance(finding, str):
            finding = Finding(math.nan, *UNKNOWN, NOT_TESTED, finding)
        value, low, high, verdict, note = finding
        head = {"key": key, "statement": statement.format(about), "task": task}
        measured = {"measure": measure, "value": float(value), "low": low, "high": high}
        found.append(head | measured | {"criterion": criterion, "verdict": verdict, "note": note})
    return pd.DataFrame(found)


def _once(found: pd.DataFrame) -> pd.DataFrame:
    """The claims that are tested; if none is, the first."""
    known = found[found["verdict"] != NOT_TESTED]
    return found.head(1) if known.empty else known


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
        return f"needs Restarted-JFB at equilibrium at three depths, found {_depths(points)}"
    bounds = sorted((fit.low / np.log(kappa), fit.high / np.log(kappa)))
    note = f"κ = {kappa:.4g}, K = {_listed(points['layers'])}, R² = {fit.r2:.4f}"
    return Finding(fit.slope / np.log(kappa), *bounds, _verdict(bounds, low=RATE), note)


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
    return Finding(np.exp(logs.mean()), *bounds, _verdict(bounds, high=1), note)


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
    reached = value <= max(CLOSE, 0.0 if math.isnan(own) else own)
    cosine = best["gradient_cosine"].median()
    note = f"K = {depth:g}, R = {restarts:g}; cosine {cosine:.6f}; DEQ's error {_number(own)}"
    if not reached:
        note += f"; {'still falling' if falling else 'no longer falling'} in K"
    bounds = student(best["gradient_error"].to_numpy()) if len(best) > 1 else UNKNOWN
    return Finding(value, *bounds, HOLDS if reached else UNDECIDED if falling else FAILS, note)


def linear_memory(rows: pd.DataFrame) -> Finding | str:
    """(d) Peak memory of differentiating K layers is linear in K."""
    fit = line(rows["layers"], rows["peak_memory_mib"])
    if fit is None:
        return f"needs three depths, found {_depths(rows)}"
    verdict = _verdict((fit.low, fit.high), low=0) if fit.r2 >= LINEAR else FAILS
    note = f"slope {fit.slope:.4g} [{fit.low:.4g}, {fit.high:.4g}] MiB per layer"
    return Finding(fit.r2, *UNKNOWN, verdict, note)


def flat_memory(rows: pd.DataFrame, *, unrolled: pd.DataFrame) -> Finding | str:
    """(d) Peak memory of JFB and DEQ does not depend on how many layers they run.

    The measure is the growth in MiB per layer run, as a share of unrolling's. With one number of
    layers in the data it is bounded: all that a method holds beyond one layer's graph, over the
    layers it ran; a Krylov basis counts in that bound.
    """
    peers = unrolled[unrolled["task"].isin(rows["task"])]
    fit = line(peers["layers"], peers["peak_memory_mib"])
    if fit is None or not fit.slope > 0:
        return f"needs Unrolling at three depths, found {_depths(peers)}"
    memory = rows.groupby("layer_evals")["peak_memory_mib"].median()
    own = line(memory.index.to_series(), memory)
    if own is not None:
        value, *bounds = (part / fit.slope for part in (own.slope, own.low, own.high))
        note = f"layers run: {_listed(memory.index)}"
        return Finding(value, *bounds, _verdict(bounds, high=FLAT), note)
    base = float(peers.loc[peers["layers"].idxmin(), "peak_memory_mib"])
    value = (memory.iloc[-1] - base) / (memory.index[-1] - 1) / fit.slope
    note = (
        f"a bound: {memory.iloc[-1]:.3g} MiB at {memory.index[-1]:g} layers run, "
        f"{base:.3g} MiB for one unrolled layer; fewer than three depths in the data"
    )
    return Finding(value, *UNKNOWN, HOLDS if value <= FLAT else UNDECIDED, note)


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
    bounds, about = (gap.low, gap.high), " against ".join(names)
    if not gap.known:
        return Finding(gap.mean, *bounds, NOT_TESTED, f"{about}; no interval: {gap.how}")
    verdict = _verdict(bounds, low=-SAME_DB, high=SAME_DB)
    return Finding(gap.mean, *bounds, verdict, f"{about}; paired, {gap.how}")


class Fit(NamedTuple):
    """A straight line through points: its slope with Student's interval, and R²."""

    slope: float
    low: float
    high: float
    r2: float


def line(x: pd.Series, y: pd.Series) -> Fit | None:
    """The least-squares line; None for fewer than three different x."""
    known = np.isfinite(x.to_numpy(dtype=float)) & np.isfinite(y.to_numpy(dtype=float))
    if len(set(x[known])) < 3:
        return None
    if np.ptp(y[known]) == 0:
        return Fit(0.0, 0.0, 0.0, r2=1.0)
    fit = stats.linregress(x[known], y[known])
    half = stats.t.ppf((1 + LEVEL) / 2, known.sum() - 2) * fit.stderr
    bounds = float(fit.slope - half), float(fit.slope + half)
    return Fit(float(fit.slope), *bounds, r2=float(fit.rvalue**2))


def _verdict(bounds: Sequence[float], *, low: float = -math.inf, high: float = math.inf) -> str:
    """Of an interval against the criterion [low, high]."""
    if low <= bounds[0] and bounds[1] <= high:
        return HOLDS
    return FAILS if bounds[1] < low or bounds[0] > high else UNDECIDED


def _depths(rows: pd.DataFrame) -> str:
    return str(rows["layers"].nunique()) if len(rows) else "none"


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in sorted(set(numbers)))


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.4g}"
