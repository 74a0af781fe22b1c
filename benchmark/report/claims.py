"""The paper's statements, held against results: what was measured, how surely, whether it holds.

    python -m benchmark.report claims PARQUET … [--out FILE.md|FILE.json] [--strict]

A claim HOLDS if the whole 95 % interval of its measure meets the criterion, FAILS if the whole
interval misses it, and is UNDECIDED in between; it is NOT TESTED where data are missing, and then
says which. The exit code is 0 whatever the verdicts, 1 if a claim fails under ``--strict``, 2 if an
input cannot be used.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmark.report.frame import first_rows, last_rows, measured_rows, tidy
from benchmark.report.reading import ReportError, read
from benchmark.report.statistics import LEVEL, difference, interval, values
from benchmark.report.tables import MISSING, to_markdown

HOLDS, FAILS, UNDECIDED, NOT_TESTED = "HOLDS", "FAILS", "UNDECIDED", "NOT TESTED"
RATE = 0.8  # of log κ: κᴷ bounds the error, so a faster fall is no failure
AT_EQUILIBRIUM = 1e-2  # the state's error κ^((R+1)K) against the truncation's κᴷ
CLOSE = 1e-3  # relative gradient error that counts as DEQ's step
LINEAR = 0.99  # R² of memory against depth
FLAT = 0.05  # growth per layer run, as a share of unrolling's
SAME_DB = 0.1  # test PSNRs this close are the same accuracy
FAMILIES = {
    "weighted norms": ("wavelet_l1", "wavelet_l12"),
    "Plug-and-Play": ("pnp",),
    "DRUNet": ("drunet",),
}


@dataclass(frozen=True)
class Claim:
    """One statement on one task: the measure with its interval, the criterion, the verdict."""

    key: str
    statement: str
    task: str
    measure: str
    value: float
    low: float
    high: float
    criterion: str
    verdict: str
    note: str


@dataclass(frozen=True)
class Fit:
    """A straight line through points: its slope with an interval, and R²."""

    slope: float
    low: float
    high: float
    r2: float


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.report claims",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parquet", nargs="+", type=Path, help="benchopt result files")
    parser.add_argument("--out", type=Path, help="a .md or .json file to write as well")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a claim fails")
    arguments = parser.parse_args(argv)
    if arguments.out is not None and arguments.out.suffix not in (".md", ".json"):
        raise ReportError(f"{arguments.out}: expected a name that ends in .md or .json")
    found = claims(tidy(read(arguments.parquet).rows))
    text = markdown(found)
    print(text, end="")
    if arguments.out is not None:
        written = to_json(found) if arguments.out.suffix == ".json" else text
        try:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(written, encoding="utf-8", newline="\n")
        except OSError as error:
            raise ReportError(f"{arguments.out}: cannot be written ({error.strerror})") from error
    return int(arguments.strict and any(claim.verdict == FAILS for claim in found))


def claims(frame: pd.DataFrame) -> list[Claim]:
    """Every statement on every task of the tidy frame, or once as not tested."""
    found = []
    for test in (rate, restarts_close_the_gap, close_to_deq, linear_memory, flat_memory):
        tested = list(test(frame))
        kept = [claim for claim in tested if claim.verdict != NOT_TESTED]
        found += kept or tested[:1]
    return [*found, *same_accuracy(frame)]


def markdown(found: Sequence[Claim]) -> str:
    """The claims as a pipe table."""
    rows = [
        {
            "verdict": claim.verdict,
            "statement": claim.statement,
            "task": claim.task or MISSING,
            "measured": f"{claim.measure}: {_number(claim.value)}",
            "95 % interval": _bounds(claim),
            "criterion": claim.criterion,
            "note": claim.note or MISSING,
        }
        for claim in found
    ]
    return to_markdown(pd.DataFrame(rows, dtype=str))


def to_json(found: Sequence[Claim]) -> str:
    """The claims as a list of objects; what is not known is null."""
    entries = [
        {key: None if value != value else value for key, value in asdict(claim).items()}
        for claim in found
    ]
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


# --- gradient error --------------------------------------------------------------------------


def rate(frame: pd.DataFrame) -> Iterator[Claim]:
    """(a) At equilibrium the error of JFB through K layers falls as κᴷ."""
    about = {
        "key": "rate",
        "statement": "JFB through K layers at equilibrium: its gradient error falls as κᴷ",
        "measure": "slope of log error in K / log κ",
        "criterion": f"at least {RATE:g} (κᴷ is a bound)",
    }
    for task, rows in _tasks(_restarted(frame)):
        kappa = float(rows["contraction"].median())
        if not 0 < kappa < 1:
            yield _missing(**about, task=task, note=f"no contraction below 1 (κ = {kappa:.3g})")
            continue
        most = rows[rows["restarts"] == rows["restarts"].max()]
        settled = kappa ** (most["restarts"] * most["layers"]) <= AT_EQUILIBRIUM
        above = most["gradient_error"] > 100 * most["reference_residual"].fillna(0)
        points = most[settled & above]
        fit = line(points["layers"], np.log(points["gradient_error"]))
        if fit is None:
            what = f"needs Restarted-JFB at equilibrium at three depths, found {_depths(points)}"
            yield _missing(**about, task=task, note=what)
            continue
        bounds = sorted((fit.low / np.log(kappa), fit.high / np.log(kappa)))
        verdict = _verdict(bounds, low=RATE, high=math.inf)
        note = f"κ = {kappa:.4g}, K = {_listed(points['layers'])}, R² = {fit.r2:.4f}"
        value = fit.slope / np.log(kappa)
        yield Claim(**about, task=task, value=value, **_span(bounds), verdict=verdict, note=note)


def restarts_close_the_gap(frame: pd.DataFrame) -> Iterator[Claim]:
    """(b) With more restarts the error at the same K approaches that at equilibrium.

    The gap at R restarts is |error(R) − error(most restarts)|; the measure is the geometric mean
    over depths of the gap at the second most restarts over that at the fewest, a depth at which it
    shrinks more than tenfold counting as tenfold, lest one depth decide.
    """
    about = {
        "key": "restarts",
        "statement": "restarts close the gap that the state leaves",
        "measure": "gap left by more restarts / gap left by the fewest",
        "criterion": "below 1",
    }
    for task, rows in _tasks(_restarted(frame)):
        table = rows.pivot_table(
            index="layers", columns="restarts", values="gradient_error", aggfunc="median"
        )
        complete = table.dropna(axis="columns", thresh=3).dropna()
        if complete.shape[1] < 3 or len(complete) < 3:
            what = "needs three numbers of restarts at three depths"
            yield _missing(**about, task=task, note=what)
            continue
        floor = complete.iloc[:, -1]
        few, more = ((complete.iloc[:, at] - floor).abs() / floor for at in (0, -2))
        open_ = few > 0.01
        if open_.sum() < 2:
            what = f"the fewest restarts, {complete.columns[0]:g}, leave no gap to close"
            yield _missing(**about, task=task, note=what)
            continue
        logs = np.log(np.maximum(more[open_] / few[open_], 0.1)).to_numpy()
        bounds = np.exp(_student(logs))
        verdict = _verdict(bounds, low=-math.inf, high=1)
        first, second, last = (complete.columns[at] for at in (0, -2, -1))
        note = (
            f"R = {first:g}, {second:g} against {last:g}; K = {_listed(few.index[open_])}; "
            f"the error left at R = {last:g} is the truncation's"
        )
        value = float(np.exp(logs.mean()))
        yield Claim(**about, task=task, value=value, **_span(bounds), verdict=verdict, note=note)


def close_to_deq(frame: pd.DataFrame) -> Iterator[Claim]:
    """(c) The steps of restarted JFB come arbitrarily close to DEQ's: error at the largest K.

    Above the criterion it is undecided while the error still falls, from the last depth but one, at
    half the rate of κᴷ or faster (its logarithm), and fails otherwise.
    """
    about = {
        "key": "close",
        "statement": "steps of restarted JFB come arbitrarily close to DEQ's",
        "measure": "smallest relative gradient error reached",
        "criterion": f"at most {CLOSE:g}, or DEQ's own",
    }
    for task, rows in _tasks(_restarted(frame)):
        if rows["layers"].nunique() < 2:
            yield _missing(**about, task=task, note="needs Restarted-JFB at two depths")
            continue
        everything = first_rows(frame[frame["task"] == task])
        deq = float(everything.loc[everything["method"] == "DEQ", "gradient_error"].median())
        errors = rows.groupby(["layers", "restarts"])["gradient_error"].median()
        least = errors.groupby("layers").min()
        (depth, restarts), value = errors.idxmin(), float(errors.min())
        best = rows[(rows["layers"] == depth) & (rows["restarts"] == restarts)]
        goal = max(CLOSE, 0.0 if math.isnan(deq) else deq)
        kappa = min(float(rows["contraction"].median()), 1.0)
        pace = kappa ** ((least.index[-1] - least.index[-2]) / 2)
        falling = least.iloc[-1] / least.iloc[-2] < min(0.9, pace)
        verdict = HOLDS if value <= goal else UNDECIDED if falling else FAILS
        note = (
            f"K = {depth:g}, R = {restarts:g}; cosine {best['gradient_cosine'].median():.6f}; "
            f"DEQ's error {_number(deq)}"
        )
        if verdict != HOLDS:
            note += f"; {'still falling' if falling else 'no longer falling'} in K"
        bounds = _spread(best["gradient_error"])
        yield Claim(**about, task=task, value=value, **_span(bounds), verdict=verdict, note=note)


# --- memory ----------------------------------------------------------------------------------


def linear_memory(frame: pd.DataFrame) -> Iterator[Claim]:
    """(d) Peak memory of differentiating K layers is linear in K."""
    for method in ("Unrolling", "Restarted-JFB"):
        about = {
            "key": "memory-linear",
            "statement": f"memory of {method} is linear in K",
            "measure": "R² of a line, slope in MiB per layer in brackets",
            "criterion": f"R² at least {LINEAR:g}, slope above 0",
        }
        rows = measured_rows(frame, "peak_memory_mib")
        for task, group in _tasks(rows[rows["method"] == method]):
            fit = line(group["layers"], group["peak_memory_mib"])
            if fit is None:
                note = f"needs {method} at three depths, found {_depths(group)}"
                yield _missing(**about, task=task, note=note)
                continue
            grows = _verdict((fit.low, fit.high), low=0, high=math.inf)
            verdict = grows if fit.r2 >= LINEAR else FAILS
            note = f"slope {fit.slope:.4g} [{fit.low:.4g}, {fit.high:.4g}] MiB per layer"
            about_slope = {**about, "measure": "R² of a line"}
            span = {"low": math.nan, "high": math.nan}
            yield Claim(**about_slope, task=task, value=fit.r2, **span, verdict=verdict, note=note)


def flat_memory(frame: pd.DataFrame) -> Iterator[Claim]:
    """(d) Peak memory of JFB and DEQ does not depend on how many layers they run.

    The measure is the growth in MiB per layer run, as a share of unrolling's. With one number of
    layers in the data it is bounded: all that a method holds beyond one layer's graph, over the
    layers it ran; a Krylov basis counts in that bound.
    """
    rows = measured_rows(frame, "peak_memory_mib")
    for method in ("JFB", "DEQ"):
        about = {
            "key": "memory-constant",
            "statement": f"memory of {method} is constant in depth",
            "measure": "growth per layer run / unrolling's",
            "criterion": f"at most {FLAT:g}",
        }
        for task, group in _tasks(rows[rows["method"] == method]):
            peers = rows[(rows["task"] == task) & (rows["method"] == "Unrolling")]
            fit = line(peers["layers"], peers["peak_memory_mib"])
            if fit is None or not fit.slope > 0:
                note = f"needs Unrolling at three depths, found {_depths(peers)}"
                yield _missing(**about, task=task, note=note)
                continue
            memory = group.groupby("layer_evals")["peak_memory_mib"].median()
            own = line(memory.index.to_series(), memory)
            if own is not None:
                value, bounds = own.slope / fit.slope, (own.low / fit.slope, own.high / fit.slope)
                verdict = _verdict(bounds, low=-math.inf, high=FLAT)
                note = f"layers run: {_listed(memory.index)}"
            else:
                base = float(peers.loc[peers["layers"].idxmin(), "peak_memory_mib"])
                value = float((memory.iloc[-1] - base) / (memory.index[-1] - 1) / fit.slope)
                bounds = (math.nan, math.nan)
                verdict = HOLDS if value <= FLAT else UNDECIDED
                note = (
                    f"a bound: {memory.iloc[-1]:.3g} MiB at {memory.index[-1]:g} layers run, "
                    f"{base:.3g} MiB for one unrolled layer; fewer than three depths in the data"
                )
            yield Claim(
                **about, task=task, value=value, **_span(bounds), verdict=verdict, note=note
            )


# --- accuracy --------------------------------------------------------------------------------


def same_accuracy(frame: pd.DataFrame) -> Iterator[Claim]:
    """(e) Training with restarted JFB reaches DEQ's accuracy: equivalence within 0.1 dB.

    Of several configurations of a method the one with the least mean F(θ) at its end is taken: a
    choice by the training set, not by the test set.
    """
    ends = last_rows(frame)
    ends = ends[(ends["status"] == "ok") & (ends["outer_step"] > 0)]
    for family, lowers in FAMILIES.items():
        about = {
            "key": "accuracy",
            "statement": f"training with restarted JFB reaches DEQ's accuracy: {family}",
            "measure": "test PSNR, Restarted-JFB − DEQ (dB)",
            "criterion": f"the interval within ±{SAME_DB:g} dB",
        }
        tasks = [task for task in set(ends["task"]) if _lower(task) in lowers]
        of_family = ends[ends["task"].isin(tasks)]
        chosen = [
            (task, *(_chosen(rows, method) for method in PAIR)) for task, rows in _tasks(of_family)
        ]
        both = [entry for entry in chosen if all(len(runs) for runs in entry[1:])]
        if not both:
            what = f"no trained runs of {' and '.join(PAIR)} on {' or '.join(lowers)}"
            yield _missing(**about, task="", note=what)
        for task, restarted, deq in both:
            gap = interval(difference(values(restarted), values(deq)))
            span = {"low": gap.low, "high": gap.high}
            if not gap.known:
                verdict, note = NOT_TESTED, f"no interval: {gap.how}"
            else:
                verdict = _verdict((gap.low, gap.high), low=-SAME_DB, high=SAME_DB)
                note = f"paired, {gap.how}"
            names = " against ".join(run["configuration"].iloc[0] for run in (restarted, deq))
            yield Claim(
                **about, task=task, value=gap.mean, **span, verdict=verdict, note=f"{names}; {note}"
            )


PAIR = ("Restarted-JFB", "DEQ")


def _chosen(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """The runs of the configuration of a method with the least mean F(θ)."""
    own = rows[(rows["method"] == method) & rows["value"].notna()]
    if own.empty:
        return own
    return own[own["configuration"] == own.groupby("configuration")["value"].mean().idxmin()]


def _lower(task: str) -> str:
    """The lower level of a task, from its name ``lower, degradation (…)``."""
    return task.partition(",")[0]


# --- parts -----------------------------------------------------------------------------------


def line(x: pd.Series, y: pd.Series) -> Fit | None:
    """The least-squares line; None for fewer than three different x. Its interval is Student's."""
    known = np.isfinite(x.to_numpy(dtype=float)) & np.isfinite(y.to_numpy(dtype=float))
    if len(set(x[known])) < 3:
        return None
    if np.ptp(y[known]) == 0:
        return Fit(0.0, 0.0, 0.0, r2=1.0)
    fit = stats.linregress(x[known], y[known])
    half = stats.t.ppf((1 + LEVEL) / 2, known.sum() - 2) * fit.stderr
    bounds = float(fit.slope - half), float(fit.slope + half)
    return Fit(float(fit.slope), *bounds, r2=float(fit.rvalue**2))


def _restarted(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of Restarted-JFB at the first θ with a gradient error above zero."""
    rows = first_rows(frame)
    known = rows[["layers", "restarts"]].notna().all(axis=1) & (rows["gradient_error"] > 0)
    return rows[(rows["method"] == "Restarted-JFB") & known]


def _tasks(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tasks in order; one empty task, to be called not tested, if there is no row."""
    if rows.empty:
        yield "", rows
    for task in sorted(set(rows["task"])):
        yield task, rows[rows["task"] == task]


def _missing(*, task: str, note: str, **about: str) -> Claim:
    unknown = dict.fromkeys(("value", "low", "high"), math.nan)
    return Claim(**about, task=task, **unknown, verdict=NOT_TESTED, note=note)


def _verdict(bounds: Sequence[float], *, low: float, high: float) -> str:
    """Of an interval against the criterion [low, high]."""
    if low <= bounds[0] and bounds[1] <= high:
        return HOLDS
    return FAILS if bounds[1] < low or bounds[0] > high else UNDECIDED


def _student(numbers: np.ndarray) -> tuple[float, float]:
    """Student's interval of a mean."""
    if np.ptp(numbers) == 0:
        return float(numbers[0]), float(numbers[0])
    half = stats.t.ppf((1 + LEVEL) / 2, len(numbers) - 1) * stats.sem(numbers)
    return float(numbers.mean() - half), float(numbers.mean() + half)


def _spread(numbers: pd.Series) -> tuple[float, float]:
    """Student's interval over repetitions, NaN for one."""
    return _student(numbers.to_numpy()) if len(numbers) > 1 else (math.nan, math.nan)


def _span(bounds: Sequence[float]) -> dict[str, float]:
    return {"low": float(bounds[0]), "high": float(bounds[1])}


def _depths(rows: pd.DataFrame) -> str:
    return str(rows["layers"].nunique()) if len(rows) else "none"


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in sorted(set(numbers)))


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.4g}"


def _bounds(claim: Claim) -> str:
    if math.isnan(claim.low):
        return MISSING
    return f"[{_number(claim.low)}, {_number(claim.high)}]"
