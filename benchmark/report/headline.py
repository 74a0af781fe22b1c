"""The headline table of a study: accuracy with intervals, what the gradient costs, who is best.

A row per task and configuration, and one for the start, θ before the first outer step. The
interval is the 95 % confidence interval of the mean test PSNR (``statistics``); in bold are the
highest mean, those that paired differences over the same images cannot tell from it, and all above
one of these (``statistics.not_worse``, corrected for their number). Metrics that a study adds are
treated likewise, each in its direction; their units are the repetitions. Of each configuration it
is said whether F has come to ``REST``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark.report.frame import AT_COMMON, COMMON, counted_rows, first_rows, run_ends
from benchmark.report.names import DIRECTIONS, called, extra, higher_is_better
from benchmark.report.reading import METRIC, read_csv
from benchmark.report.statistics import difference, interval, not_worse, values
from benchmark.report.style import NOTES
from benchmark.report.tables import HEADERS, MISSING, Table, measured, spelled, summary, taken_over

START = "start"
#: methods that estimate no gradient: what one would do without this field
SEARCHES = ("Grid-Search", "TPE")
HEADS = ["task", "configuration", "method", "status"]
COSTS = ["value", "test_psnr_deployed", *COMMON, *AT_COMMON]
# what is shown of these: the first that is known; nothing carried over, and with what was
COLD, WARM = ("_reached", "_start"), ("_reached_warm", "")
BOUNDS = ["low", "high", "how", "best"]
VERDICTS = ["to_start", "to_search"]
ORDER = [*HEADS[:3], "test_psnr", *BOUNDS, "gain", *VERDICTS, "fell", "moved", *COSTS]
ORDER += ["status", "over"]
#: the relative change of F over the last fifth of the outer steps up to which it is at rest
REST = 1e-3
#: what is looked at in every row, not in the first and last of a run alone
CURVE = ["configuration", "run", "outer_step", "test_psnr", "value", "status", "ending", "task"]


def headline(frame: pd.DataFrame, ends: pd.DataFrame | None = None) -> Table:
    """The table of a tidy frame, whose ``run_ends`` may be known."""
    return table(numbers(frame, run_ends(frame) if ends is None else ends))


def read(path: Path) -> Table:
    """The table in a ``headline.csv``."""
    texts = [*HEADS, "how", "best", "over", *VERDICTS]
    known = [name for name in ORDER if name not in texts]
    found = read_csv(path, texts=texts, numbers=known, others=f"((low|high)_)?{METRIC}.*")
    marks = ["best", *(f"best_{name}" for name in extra(found))]
    return table(found.assign(**{name: found[name] == "True" for name in marks}))


def table(numbers: pd.DataFrame) -> Table:
    """The table of its numbers: the best have their test PSNR, or their metric, in bold."""
    metrics = extra(numbers)
    marked = {"best": "test_psnr"} | {f"best_{name}": name for name in metrics}
    bold = {
        (row, called(name, numbers, HEADERS))
        for mark, name in marked.items()
        for row, best in enumerate(numbers[mark])
        if best
    }
    bounds = numbers["low"].map("[{:.2f}, ".format) + numbers["high"].map("{:.2f}]".format)
    # what a method carries from step to step is seen where there are steps
    places = (COLD, WARM)[: 2 if numbers["gain"].notna().any() else 1]
    shown = ["test_psnr_deployed", "gradient_error_start"]
    shown += [_known(numbers, "gradient_error", ["_reached"])]
    shown += [_known(numbers, "gradient_cosine", COLD)]
    shown += [_known(numbers, "gradient_seconds", at) for at in places]
    shown += [_known(numbers, "peak_memory_mib", (*COLD, ""))]
    evals = {}
    for at in places:
        names = [_known(numbers, f"{kind}_evals", at) for kind in ("layer", "vjp")]
        if all(names):
            layers, products = (column for _, column in spelled(numbers, names).items())
            both = (layers + " + " + products).where(layers != MISSING, MISSING)
            evals[f"layers + products,{HEADERS[names[0]].partition(',')[2]}"] = both
    text = {
        "task": numbers["task"],
        "configuration": numbers["configuration"],
        **spelled(numbers, ["test_psnr"]),
        "95 % interval": bounds.where(numbers["low"].notna(), MISSING),
        "gain (dB)": [measured(gain, decimals=2) for gain in numbers["gain"]],
        **{called(name, numbers, HEADERS): with_bounds(numbers, name) for name in metrics},
        **spelled(numbers, ["value"]),
        **({"F at rest": at_rest(numbers)} if numbers["gain"].notna().any() else {}),
        **spelled(numbers, filter(None, shown)),
        **evals,
        "status": numbers["status"],
    }
    said = ["best", "metrics", "terms"] if metrics else ["best", "terms"]
    notes = [numbers["over"].iloc[0], *NOTES[said if bold else ["terms"]]]
    notes += [NOTES["rest"].format(REST)] if "F at rest" in text else []
    return Table("headline", numbers, pd.DataFrame(text, dtype=str), bold, " ".join(notes))


def at_rest(numbers: pd.DataFrame) -> pd.Series:
    """Whether F is at rest, and by how much it moved: ``no, 1.30%``."""
    moved = numbers["moved"]
    told = moved.le(REST).map({True: "yes, ", False: "no, "}) + moved.map("{:.2%}".format)
    told = told.where(moved.notna(), "unknown")
    return told.where(numbers["configuration"] != START, MISSING)


def _known(numbers: pd.DataFrame, name: str, places: Sequence[str]) -> str:
    """The first of a column's places where there is a number; "" where there is none."""
    return next((name + at for at in places if numbers[name + at].notna().any()), "")


def with_bounds(numbers: pd.DataFrame, name: str) -> pd.Series:
    """A metric as text, with its interval where there is one: ``0.312 [0.298, 0.326]``."""
    bounds = [spelled(numbers, [f"{side}_{name}"]).iloc[:, 0] for side in ("low", "high")]
    known = (" [" + bounds[0] + ", " + bounds[1] + "]").where(numbers[f"low_{name}"].notna(), "")
    return spelled(numbers, [name]).iloc[:, 0] + known


def numbers(frame: pd.DataFrame, ends: pd.DataFrame) -> pd.DataFrame:
    """Of a frame and its ``run_ends`` per task the start, then the configurations in their order.

    ``gain`` is over the start; ``best`` marks the best and those not significantly worse;
    ``to_start`` and ``to_search`` compare with the start and the best search without gradients
    (``told``); ``fell`` and ``moved`` are what ``overfitted`` and ``last_fifth`` find. Means are
    over ``frame.counted_rows``.
    """
    metrics = extra(frame)
    good, means = counted_rows(ends), summary(ends)
    means = means.rename(columns=lambda name: name.removesuffix("_mean"))
    parts, measures, every_first = [], ["test_psnr", *metrics], first_rows(ends)
    for task, rows in means.groupby("task", sort=False):
        own = frame.loc[frame["task"] == task, CURVE]
        runs = dict(list(good[good["task"] == task].groupby("configuration", sort=False)))
        part = rows.reindex(columns=[*HEADS, *measures, *COSTS])
        first = every_first[every_first["task"] == task]
        begin = first[(first["outer_step"] == 0) & first["test_psnr"].notna()]
        if len(begin) and (own["outer_step"] > 0).any():
            runs[START] = begin
            start = dict(zip(HEADS, (task, START, "", MISSING), strict=True))
            start["value"] = begin["value"].mean()
            part = pd.concat([pd.DataFrame([start]), part], ignore_index=True)
        names, every = part["configuration"], {}
        for name in measures:
            every[name] = {one: values(runs[one], name) for one in runs}
            higher = name == "test_psnr" or higher_is_better(name, ends)
            found = compared(names, every[name], higher=higher)
            # the mean that marks and intervals are of: one repetition, run twice, counts once
            part[name] = found.pop("mean").fillna(part[name])
            part = part.join(found if name == "test_psnr" else found.add_suffix(f"_{name}"))
        psnr = part.set_index("configuration")["test_psnr"]
        part["gain"] = part["test_psnr"] - psnr.get(START, math.nan)
        searches = psnr[part["method"].isin(SEARCHES).to_numpy()]
        search = "" if searches.isna().all() else searches.idxmax()
        for verdict, reference in zip(VERDICTS, (START, search), strict=True):
            part[verdict] = [told(name, every["test_psnr"], reference) for name in names]
        along = pd.concat([overfitted(own), last_fifth(own)], axis="columns")
        parts.append(part.join(along, on="configuration"))
    found = pd.concat(parts, ignore_index=True).assign(over=taken_over(ends))
    if not metrics:
        return found[ORDER]
    own = [f"{part}{name}" for name in metrics for part in ("", *(f"{b}_" for b in BOUNDS))]
    at = ORDER.index("gain") + 1
    found[DIRECTIONS] = means[DIRECTIONS].iloc[0]
    return found[[*ORDER[:at], *own, *ORDER[at:], DIRECTIONS]]


def compared(
    names: pd.Series, tables: Mapping[str, pd.Series], *, higher: bool | None = True
) -> pd.DataFrame:
    """For each configuration of a task the ``mean`` and ``BOUNDS`` of its ``values``: who is best
    (nobody where ``higher`` is None: it is not known whether that is better).
    """
    found = [interval(tables.get(name, pd.Series(dtype=float)))._asdict() for name in names]
    signed = {name: own if higher else -own for name, own in tables.items()}
    best = names.isin(not_worse(signed) if higher is not None else ())
    return pd.DataFrame(found, index=names.index).assign(best=best)[["mean", *BOUNDS]]


def told(name: str, tables: Mapping[str, pd.Series], reference: str) -> str:
    """Whether a test PSNR is significantly "better" or "worse" than a reference's (95 %, paired) or
    "not told" from it; "" where there is no interval. ``tables``: of ``values``.
    """
    if name == reference or not {name, reference} <= tables.keys():
        return ""
    gap = interval(difference(tables[name], tables[reference]))
    if not gap.known:
        return ""
    return "better" if gap.low > 0 else "worse" if gap.high < 0 else "not told"


def overfitted(frame: pd.DataFrame) -> pd.Series:
    """Of one task, by configuration: ``fell``, by how many dB the mean test PSNR is below its
    highest along training, F having fallen since; 0 where F was lower at the peak.
    """
    steps = frame.groupby(["configuration", "outer_step"])[["test_psnr", "value"]].mean().dropna()
    runs = steps.groupby("configuration")
    peak, end = steps.loc[runs["test_psnr"].idxmax()].droplevel(1), runs.last()
    fell = (peak["test_psnr"] - end["test_psnr"]).clip(lower=0) * (end["value"] < peak["value"])
    return fell.rename("fell")


def last_fifth(frame: pd.DataFrame) -> pd.Series:
    """Of one task, by configuration: ``moved``, the relative change of F from the last evaluation
    within four fifths of a run's outer steps to its last, in the run in which that is most. NaN
    where a run that counts was not evaluated there, its start aside.
    """
    known = frame[frame["value"].notna()]
    steps, runs = known["outer_step"], known.groupby("run", sort=False)
    there = (steps > 0) & (5 * steps <= 4 * runs["outer_step"].transform("last"))
    before, end = known[there].groupby("run")["value"].last(), runs["value"].last()
    moved = ((end - before).abs() / before).rename("moved")
    counted = counted_rows(frame).join(moved, on="run").groupby("configuration")["moved"]
    return counted.agg(lambda own: own.max(skipna=False))
