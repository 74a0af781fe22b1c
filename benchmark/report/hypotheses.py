"""What each of the paper's statements says of the rows of one task: a measure and a verdict.

Every test takes the rows of the method that the statement is about, and the task; given those of
the control, a method of which it is not true, it must not find that it HOLDS. It returns a
``Finding``, or a text that says why it cannot tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from benchmark.report.frame import first_rows, last_rows
from benchmark.report.statistics import LEVEL, difference, interval, student, values
from benchmark.report.style import PAGES

HOLDS, FAILS, UNDECIDED, NOT_TESTED = "HOLDS", "FAILS", "UNDECIDED", "NOT TESTED"
BETTER, WORSE = "BETTER", "WORSE"
#: statement, measure, margin, criterion and control of each claim
STATEMENTS = pd.read_csv(PAGES / "claims.csv", index_col="key", keep_default_na=False)
MARGINS = STATEMENTS["margin"].to_dict()
AT_EQUILIBRIUM = 1e-2  # the state's error κ^((R+1)K) against the truncation's κᴷ
EXACT_STATE = 1e-6  # relative residual up to which K terms are taken at the exact equilibrium
FULL = 0.1  # relative gradient error up to which DEQ is one
STRAIGHT = 0.99  # R² of a line
DEEPER = 4  # times the least layers that the most must be, and the most that could decide
MOST_CLOSED = 0.01  # a gap that shrinks more counts as this, lest one depth decide


class Finding(NamedTuple):
    """What was measured on a task, the verdict, the measure's interval, what the control gave."""

    value: float
    verdict: str
    note: str
    low: float = math.nan
    high: float = math.nan
    control: str = ""


def ended(frame: pd.DataFrame) -> pd.DataFrame:
    """The last rows of runs that were trained to their end, or diverged on the way: F is infinite
    then, lest those that did not are taken for the method.
    """
    ends = last_rows(frame)
    lost = (ends["status"] == "diverged") & (ends["steps"] != 0)
    whole = (ends["ending"] == "ok") & (ends["outer_step"] > 0) & ends["value"].notna()
    return ends.assign(value=ends["value"].mask(lost, math.inf))[whole | lost]


class Task:
    """The rows of one task: the ``first`` of all runs, where the θ is the same for all and there is
    an error; those with a ``memory``; those where training has ``ended``.

    ``radius`` and ``norm``: the spectral radius of J at x* and ‖J‖ there, at the start (medians).
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        first = first_rows(rows)
        self.name: str = rows["task"].iloc[0]
        self.first = first[first["gradient_error"] > 0]
        self.memory = last_rows(rows, "peak_memory_mib")
        self.ended = ended(rows)
        self.radius: float = first["contraction"].median()
        norms = last_rows(rows, "jacobian_norm_start")["jacobian_norm_start"]
        self.norm: float = norms.median()

    def rows(self, part: str, method: str) -> pd.DataFrame:
        """Those of a method in a part."""
        own: pd.DataFrame = getattr(self, part)
        return own[own["method"] == method]


def verdict(low: float, high: float, *, least: float = -math.inf, most: float = math.inf) -> str:
    """Of an interval against the criterion [least, most]."""
    if least <= low and high <= most:
        return HOLDS
    return FAILS if high < least or low > most else UNDECIDED


def rate(rows: pd.DataFrame, task: Task, *, exact: bool = True) -> Finding | str:
    """(a) At equilibrium the error of JFB through K layers is proportional to κᴷ, κ the spectral
    radius of J at x*, where J multiplies all that it does not remove by the same number; where that
    is not ``exact``, it falls at least as fast as κᴷ, κ = ‖J‖.
    """
    kappa = task.radius if exact else task.norm
    least = 1 - MARGINS["rate" if exact else "bound"]
    most = 1 + MARGINS["rate"] if exact else math.inf
    if not 0 < kappa < 1:
        return "κ is in no row" if math.isnan(kappa) else f"κ = {kappa:.3g}, not below 1"
    restarts = rows["restarts"].fillna(0)
    own = rows[restarts == restarts.max()]
    passed = (restarts.max() + 1) * own["layers"]
    # unrolling, the control, is not at equilibrium at any depth
    settled = (kappa**passed <= AT_EQUILIBRIUM) | (restarts.max() == 0)
    points = _told(own[settled])
    fit = line(points["layers"], np.log(points["gradient_error"]))
    if fit is None:
        return f"needs three depths at equilibrium, found {points['layers'].nunique() or 'none'}"
    high, value, low = (part / math.log(kappa) for part in (fit.low, fit.slope, fit.high))
    note = f"κ = {kappa:.4g}, K = {listed(points['layers'])}, R² = {fit.r2:.4f}"
    return Finding(value, verdict(low, high, least=least, most=most), note, low, high)


def _told(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose error is well above what the reference can tell."""
    return rows[rows["gradient_error"] > 100 * rows["reference_residual"].fillna(0)]


def restarts_close_the_gap(rows: pd.DataFrame, task: Task) -> Finding | str:
    """(b) With more restarts the error at the same K approaches that at the exact equilibrium.

    That is Neumann's, of K terms. The gap is the difference from it, relative to it; the measure is
    the geometric mean over depths of the gap at the most restarts over that at the fewest.
    """
    if rows["restarts"].isna().all():  # the control, in the place of the most restarts
        own = task.rows("first", "Restarted-JFB")
        few = own[own["restarts"] == own["restarts"].min()]
        rows = pd.concat([few, rows.assign(restarts=math.inf)])
    terms = task.rows("first", "Neumann")
    exact = _told(terms[terms["state_residual"] <= EXACT_STATE])
    exact = exact[exact["gradient_error"] > 100 * exact["state_residual"]]
    exact = exact.groupby(exact["parameters"].map(lambda own: float(own.get("terms", "nan"))))
    errors = _told(rows).groupby(["layers", "restarts"])["gradient_error"].median().unstack()
    table = errors.join(exact["gradient_error"].median().rename("exact"), how="inner").dropna()
    if errors.shape[1] < 2 or len(table) < 3:
        return "needs two numbers of restarts, and Neumann of as many terms, at three depths"
    first, last = (errors.columns[at] for at in (0, -1))
    few, more = (abs(table[at] / table["exact"] - 1) for at in (first, last))
    wide = few > MOST_CLOSED
    if wide.sum() < 2:
        return f"the fewest restarts, {first:g}, leave no gap to close"
    logs = np.log(np.maximum(more[wide] / few[wide], MOST_CLOSED)).to_numpy()
    low, high = np.exp(student(logs))
    note = f"R = {first:g} and {last:g}, K = {listed(few.index[wide])}"
    found = verdict(low, high, most=MARGINS["restarts"])
    return Finding(float(np.exp(logs.mean())), found, note, float(low), float(high))


def close_to_exact(rows: pd.DataFrame, task: Task) -> Finding | str:
    """(c) Steps come arbitrarily close to the exact gradient: the error at the largest K tested,
    with the most restarts, which are chosen before any error is seen.

    Above the criterion it is undecided while the error still falls, from the last depth but one, at
    half the rate of κᴷ or faster (its logarithm), and fails otherwise. The interval is over
    repetitions. JFB, the control, has one depth.
    """
    depths, restarts = rows["layers"].fillna(1), rows["restarts"].fillna(0)
    known = sorted(depths.unique())
    if len(known) < 2 and rows["layers"].notna().all():
        return "needs two depths"
    most = restarts[depths == known[-1]].max()
    deepest = rows[(depths == known[-1]) & (restarts == most)]
    errors = deepest.groupby("repetition")["gradient_error"].median()
    value, low, high = float(errors.median()), math.nan, math.nan
    if len(errors) > 1:
        low, high = np.exp(student(np.log(errors.to_numpy())))
    found = verdict(*((low, high) if len(errors) > 1 else (value, value)), most=MARGINS["close"])
    note = f"K = {known[-1]:g}, R = {most:g}; cosine {deepest['gradient_cosine'].median():.6f}"
    if found != HOLDS and len(known) > 1:
        before = rows[(depths == known[-2]) & (restarts == most)]["gradient_error"].median()
        pace = min(task.radius, 1.0) ** ((known[-1] - known[-2]) / 2)
        falling = value / before < min(0.9, pace)
        note += f"; {'still' if falling else 'no longer'} falling in K"
        found = UNDECIDED if falling else found
    return Finding(value, found, note, float(low), float(high))


def works(rows: pd.DataFrame, task: Task) -> Finding | str:
    """(c) With the most restarts the cosine at the start is above 0 at every depth, and the trained
    F at most 1 % above DEQ's, where both were trained.

    It fails where a depth stops working in every repetition, and is undecided where in some, or
    where none does but only the cosine is known. JFB, the control, has one depth.
    """
    if rows["gradient_cosine"].isna().all():
        return "no gradient cosine of Restarted-JFB"
    ends, most = task.rows("ended", rows["method"].iloc[0]), rows["restarts"].fillna(0).max()
    one = rows["layers"].isna().all()
    rows, ends = (
        own[own["restarts"].fillna(0) == most].fillna({"layers": 1.0}) for own in (rows, ends)
    )
    deq = task.rows("ended", "DEQ")
    deq = deq[~(deq["gradient_error"] > FULL) & np.isfinite(deq["value"])]
    target = ends["repetition"].map(deq.groupby("repetition")["value"].min())
    target *= 1 + MARGINS["limits"]
    over = ends.assign(stops=ends["value"] > target)[target.notna()]
    # of an estimate that is zero there is no cosine
    lost = rows.assign(stops=~(rows["gradient_cosine"] > 0))
    each = pd.concat([lost, over]).groupby(["layers", "repetition"])["stops"].any()
    share = each.groupby("layers").mean()
    stopped = share.index[share > 0]
    if len(share) < 2 and not len(stopped) and not one:
        return f"needs two depths, found K = {listed(share.index)}"
    found = HOLDS if not len(stopped) else FAILS if share.max() == 1 else UNDECIDED
    where = f"stops at {listed(stopped)}" if len(stopped) else "none stops"
    note = f"K = {listed(share.index)}; {where}"
    if not len(over):
        note += "; by the cosine alone, F of DEQ is not known"
        found = UNDECIDED if found == HOLDS else found
    return Finding(float((share == 0).mean()), found, note)


def linear_memory(rows: pd.DataFrame, task: Task) -> Finding | str:
    """(d) Peak memory of differentiating K layers is a line in K, most of it due to K.

    The measure: of the line at the most layers, what lies above it at no layer. On a small task it
    is little however straight the line: where ``DEEPER`` times the layers would bring it to the
    margin, nothing is decided. For a method without depth, the control, layers that it runs count.
    """
    depth = rows["layers"].fillna(rows["layer_evals"])
    fit = line(depth, rows["peak_memory_mib"])
    if fit is None:
        return f"needs three depths, found {depth.nunique() or 'none'}"
    if rows["layers"].notna().all() and depth.max() < DEEPER * depth.min():
        return f"needs depths four times as large as others, found {listed(depth)}"
    peak = rows.loc[depth == depth.max(), "peak_memory_mib"].median()
    low, value, high = (part * depth.max() / peak for part in (fit.low, fit.slope, fit.high))
    straight = fit.r2 >= STRAIGHT
    found = verdict(low, high, least=MARGINS["memory-linear"]) if straight else FAILS
    note = f"R² = {fit.r2:.4f}, {fit.slope:.4g} MiB per layer, K = {listed(depth)}"
    deep = DEEPER * value / (1 + (DEEPER - 1) * value)  # the share, on this line
    if straight and found == FAILS and value > 0 and deep >= MARGINS["memory-linear"]:
        found = UNDECIDED
        note += f"; of {DEEPER} times as many layers the share would be {deep:.2g}"
    return Finding(value, found, note, low, high)


def flat_memory(rows: pd.DataFrame, task: Task) -> Finding | str:
    """(d) Peak memory does not depend on how many layers are run: its growth in MiB per layer run,
    as a share of unrolling's.
    """
    unrolled = task.rows("memory", "Unrolling")
    fit = line(unrolled["layers"], unrolled["peak_memory_mib"])
    if fit is None or not fit.slope > 0:
        return f"needs Unrolling at three depths, found {unrolled['layers'].nunique() or 'none'}"
    memory = rows.groupby("layer_evals")["peak_memory_mib"].median()
    own = line(memory.index.to_series(), memory)
    if own is None:
        return f"needs three numbers of layers run, found {len(memory) or 'none'}"
    value, low, high = (part / fit.slope for part in (own.slope, own.low, own.high))
    found = verdict(low, high, most=MARGINS["memory-constant"])
    return Finding(value, found, f"layers run: {listed(memory.index)}", low, high)


def accurate(rows: pd.DataFrame, task: Task) -> Finding | str:
    """(e) Trained with it, the test PSNR is DEQ's or more, but for a margin (non-inferiority).

    HOLDS where the interval is above −margin; BETTER, if it is also above 0 and reaches beyond the
    margin; neither where a run of the method diverged; FAILS where it is below −margin; WORSE where
    it is below 0 and reaches beyond −margin. Of several configurations of a method it is the one
    with the least mean F(θ) at its end: a choice by the training set.
    """
    deq = task.rows("ended", "DEQ")
    if rows.empty or deq.empty:
        return "no trained runs of " + ("DEQ" if deq.empty else "Restarted-JFB")
    chosen = []
    for own in (rows, deq):
        name = own.groupby("configuration")["value"].mean().idxmin()
        chosen.append(own[own["configuration"] == name])
    about = " against ".join(own["configuration"].iloc[0] for own in chosen)
    error = chosen[1]["gradient_error"].median()
    if error > FULL:
        return f"DEQ is none: its gradient error is {error:.3g}"
    gap = interval(difference(*(values(own[np.isfinite(own["value"])]) for own in chosen)))
    if not gap.known:
        return f"{about}: no interval ({gap.how})"
    margin = MARGINS["accuracy"]
    found = verdict(gap.low, gap.high, least=-margin)
    if gap.low > 0 and gap.high > margin:
        found = BETTER
    elif gap.high < 0 and found == UNDECIDED:
        found = WORSE
    note = f"{about}; paired, over {gap.how}"
    lost = [int(np.isinf(own["value"]).sum()) for own in chosen]
    if any(lost):
        note += f"; diverged: {lost[0]} and {lost[1]} runs, which are in no difference"
        found = UNDECIDED if lost[0] and found in (HOLDS, BETTER) else found
    return Finding(gap.mean, found, note, gap.low, gap.high)


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


def listed(numbers: Sequence[float]) -> str:
    """Different numbers in order."""
    return ", ".join(f"{number:g}" for number in sorted(set(numbers)))


#: the test of each of the ``STATEMENTS``
TESTS = {"rate": rate, "bound": partial(rate, exact=False), "restarts": restarts_close_the_gap}
TESTS |= {"close": close_to_exact, "limits": works, "memory-linear": linear_memory}
TESTS |= {"memory-constant": flat_memory, "accuracy": accurate}
