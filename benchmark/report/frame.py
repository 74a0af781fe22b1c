"""Benchopt's rows as one tidy frame, what is in it called by what differs, and parts of it.

Every function is pure: a frame comes in and a new one goes out, and the order of the rows that come
in does not matter. Columns that a file lacks are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from benchmark.report import names
from benchmark.report.names import LOSS, MACHINE, MSE, PROBLEM, distinguish
from benchmark.report.reading import METRIC, NAMES, RAW_COLUMNS
from benchmark.report.style import Style, method_order

RUN = ["source", *PROBLEM, NAMES[2], "repetition"]
# What names are made of, raw and tidy: it is the same in all rows of a run, and names are made once
# for each of its values, not for each of a million rows.
HEAD = ["source", *NAMES, "idx_rep", "objective_method", "objective_loss", "base_seed"]
HEAD += ["objective_images_digest", "objective_device_name", *MACHINE.values()]
HEADED = ["source", *NAMES, "repetition", "stated", LOSS]
# methods that are the gradient itself but for a tolerance, and the error above which they are not
EXACT, EXACT_TO = ("DEQ", "Newton-DEQ", "Recycled-DEQ", "Piggyback", "Forward-Mode"), 0.1
EXACT = (*EXACT, "torchdeq-IFT", "deepinv-DEQ", "TorchOpt")
# what is measured at a θ that all methods have in common: the start, and what exact gradients reach
# from there, without what a method carries along and with it
COMMON = ("gradient_error", "gradient_cosine", "gradient_seconds", "peak_memory_mib")
COMMON = (*COMMON, "layer_evals", "vjp_evals")
#: what one hypergradient takes
SPENT = ["gradient_seconds", "layer_evals", "vjp_evals", "peak_memory_mib"]
AT_COMMON = [f"{name}_{at}" for at in ("start", "reached", "reached_warm") for name in COMMON]
# what a run's last row says where it was cut, though it did not fail
CUT = {"time limit": "cut by the time limit", "row limit": "cut by the row limit"}
CUT |= {name: name for name in ("interrupted", "unfinished")}

# what ``tidied`` was given last, and what it made of it
_LATEST: list[pd.DataFrame] = []


def tidy(raw: pd.DataFrame) -> pd.DataFrame:
    """Benchopt's rows, renamed (``RAW_COLUMNS``), typed, named and sorted; numbers NaN or finite.

    Added are: ``source``, what may be compared in time (a file, a device, one of several equal
    runs); ``device`` ("" where there is one alone); what ``names.problems`` and ``names.solvers``
    find; ``drawn``, what tells apart other images of the same name; three names of a configuration
    (``configuration``: all that differs; ``gradient``: without the parameters of the outer loop;
    ``series``: without the depth either); ``training_evals`` (layers and products); what ``judged``
    finds. ``seconds`` are those of training, ``learned`` is θ as JSON, where it is small. A run is
    a value of ``RUN``, which has the number ``run``; its rows come in order of outer step, a failed
    row last.
    """
    raw = raw.reset_index(drop=True)
    head = numbered(raw.reindex(columns=HEAD))
    heads = headed(raw[~head.duplicated()].reset_index(drop=True))
    frame = typed(raw, of_runs=False)
    frame["training_evals"] = frame["training_layer_evals"] + frame["training_vjp_evals"].fillna(0)
    frame["status"] = each(frame["status"], str)
    if (unknown := frame["status"].isna()).any():
        frame.loc[unknown, "status"] = np.where(frame.loc[unknown, "value"].notna(), "ok", "error")
    dates = raw.reindex(columns=["run_date"])["run_date"]
    del raw  # its numbers are those of the frame until that is sorted
    again = repeats(frame.assign(run=head.map(heads["run"])), dates)
    if again.any():
        pairs = pd.DataFrame({"head": head, "again": again})
        head = numbered(pairs)
        pairs = pairs[~head.duplicated()]
        heads = heads.iloc[pairs["head"]].reset_index(drop=True)
        heads["source"] += [f" run {count + 1}" if count else "" for count in pairs["again"]]
    heads = in_order(heads)
    failed, run = frame["status"] != "ok", head.map(heads["run"])
    order = np.lexsort((frame["stop_val"], failed, frame["outer_step"], run))
    frame = frame.take(order).reset_index(drop=True)
    return judged(frame.join(heads.take(head[order]).reset_index(drop=True)))


def typed(raw: pd.DataFrame, *, of_runs: bool) -> pd.DataFrame:
    """The columns that are read, those that are ``HEADED`` or all others, under their names:
    numbers finite or NaN, all else objects.
    """
    own = f"objective_{METRIC}"
    metrics = {name: name.removeprefix("objective_") for name in raw if name.startswith(own)}
    renames = RAW_COLUMNS["name"].to_dict() | metrics
    renames = {column: name for column, name in renames.items() if (name in HEADED) == of_runs}
    frame = raw.reindex(columns=[*renames]).set_axis([*renames.values()], axis="columns")
    numbers = [*RAW_COLUMNS["name"][RAW_COLUMNS["kind"] == "number"], *metrics.values()]
    numbers, objects = frame.columns.intersection(numbers), frame.columns.difference(numbers)
    return frame.assign(
        **{name: finite_numbers(frame[name]) for name in numbers},
        **{name: frame[name].astype(object) for name in objects},
    )


def finite_numbers(cells: pd.Series) -> pd.Series:
    """A column as numbers, NaN where it holds none; not copied where nothing changes."""
    known = cells.dtype == float
    found = cells if known else pd.to_numeric(cells, errors="coerce").astype(float)
    return found.where(np.isfinite(found)) if np.isinf(found).any() else found


def each(cells: pd.Series, what: Callable[[object], object]) -> pd.Series:
    """``what`` of each cell as objects, done once for each value: of a million few are different;
    None where there is none.
    """
    codes, values = pd.factorize(cells)
    found = pd.Series([*map(what, values), None], dtype=object).to_numpy()
    return pd.Series(found[codes], index=cells.index, dtype=object)


def numbered(columns: pd.DataFrame) -> pd.Series:
    """The number of each row's values among all that there are, in order of appearance."""
    codes = columns.groupby([*columns], dropna=False, sort=False).ngroup()
    return pd.Series(pd.factorize(codes)[0], index=columns.index)


def headed(raw: pd.DataFrame) -> pd.DataFrame:
    """What raw rows are of, one of each ``HEAD``: ``RUN``, its number ``run``, and all names."""
    frame = typed(raw, of_runs=True)[HEADED]
    absent = {**dict.fromkeys(NAMES, "unknown"), "source": "", "repetition": 0, "stated": ""}
    frame = frame.fillna(absent).astype({"repetition": int})
    frame["device"] = names.devices(raw)
    if frame["device"].any():
        frame["source"] += frame["device"]
        pairs = zip(frame["solver_name"], frame["device"], strict=True)
        frame["solver_name"] = [names.on_device(*pair) for pair in pairs]
    raw = raw.assign(**frame[list(NAMES)])
    raw[LOSS] = frame[LOSS] = upper_losses(raw, frame)
    raw["drawn"] = frame["drawn"] = names.drawn(raw)
    found = frame.join(names.problems(raw), on=PROBLEM).join(names.solvers(raw, frame), on=NAMES[2])
    return renamed(found.drop(columns="stated").assign(run=numbered(found[RUN])))


def in_order(heads: pd.DataFrame) -> pd.DataFrame:
    """What ``headed`` found, with runs numbered in the order in which tables have them."""
    ranks = {name: rank for rank, name in enumerate(method_order(heads["method"].unique()))}
    read = heads[["task", "configuration"]].apply(names.in_order)
    keyed = heads.assign(rank=heads["method"].map(ranks), **read)
    keyed = keyed.sort_values(["task", "rank", "restarts", "layers", "configuration", *RUN])
    return heads.assign(run=numbered(keyed[RUN]))


def tidied(raw: pd.DataFrame) -> pd.DataFrame:
    """``tidy``, done once where the same frame is given again: benchopt's page asks each plot for
    all of its choices. Neither frame may be changed.
    """
    if not _LATEST or _LATEST[0] is not raw:
        _LATEST[:] = raw, tidy(raw)
    return _LATEST[1]


def repeats(frame: pd.DataFrame, dates: pd.Series) -> pd.Series:
    """Which of several equal runs each row is of, 0 the first: one has an outer step once. Told by
    the date of the call that they were made by: one that was cut has fewer rows.
    """
    key = ["run", "stop_val", "outer_step"]
    if not frame.duplicated(key).any():
        return pd.Series(0, index=frame.index)
    number = frame.groupby(key, dropna=False, sort=False).cumcount()
    several = number.groupby(frame["run"]).transform("max") > 0
    dated = frame[key].assign(date=dates.astype(object).fillna("").astype(str)).loc[several]
    once = dated.groupby([*key, "date"], dropna=False, sort=False)
    pair = dated["date"] + once.cumcount().map(" {:09d}".format)
    own = pair.groupby(dated["run"]).rank(method="dense").astype(int) - 1
    return own.reindex(frame.index, fill_value=0)


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with what is the same in all rows of a run: ``AT_COMMON`` (at the start as measured
    there, else as in the first row, which is at it); ``ending``, "ok", how it failed, or by what it
    was cut; ``inexact``, whether a gradient's error, or the method's estimate of it, was once above
    what it claims: its ``gradient_tol``, or ``EXACT_TO``.
    """
    run, start = frame["run"], frame["outer_step"] == 0
    runs, first = frame.groupby(run), first_rows(frame).set_index("run")
    known = {name: frame[name] for name in AT_COMMON}
    for name in [name for name in known if name.endswith("_start")]:
        known[name] = known[name].fillna(frame[name.removesuffix("_start")].where(start))
    found = pd.DataFrame(known, copy=False).groupby(run).first()
    last = runs[["status", "ended"]].last()
    # a method may be done before its last step; a row that does not say so is of one that was cut
    short = (runs["outer_step"].max() < first["steps"]) & (last["ended"] != "finished")
    cut = last["ended"].map(CUT)
    cut = cut.mask(cut.isna() & short, "cut before its last step")
    found["ending"] = last["status"].mask((last["status"] == "ok") & cut.notna(), cut)
    claimed = first["parameters"].map(lambda stated: stated.get("gradient_tol"))
    exact = first["method"].isin(EXACT).map({True: EXACT_TO, False: math.inf})
    claimed = pd.to_numeric(claimed, errors="coerce").fillna(exact)
    errors = ["gradient_error", "gradient_error_estimate", *(n for n in AT_COMMON if "_error" in n)]
    found["inexact"] = runs[errors].max().max(axis="columns") > claimed
    return frame.assign(**found.reindex(run).set_axis(frame.index))


def upper_losses(raw: pd.DataFrame, frame: pd.DataFrame) -> pd.Series:
    """The upper loss of each row: as its run says, else as its parameters do, else MSE."""
    if frame[LOSS].notna().all():
        return each(frame[LOSS], str)
    runs = frame.groupby(["source", *NAMES, "repetition"])
    objectives = names.parameters(raw, "objective_name", "p_obj_")
    known = frame["objective_name"].map(lambda name: objectives[name].get(LOSS))
    found = frame[LOSS].fillna(runs[LOSS].transform("first")).fillna(known).fillna(MSE)
    return each(found, str)


def renamed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with ``configuration`` naming what differs among its own rows."""
    known = frame.drop_duplicates("solver_name").set_index("solver_name")
    found = distinguish(known["method"].to_dict(), known["parameters"].to_dict(), names.DEFINING)
    return frame.assign(configuration=each(frame["solver_name"], found.get))


def part(frame: pd.DataFrame, rows: pd.Series) -> pd.DataFrame:
    """Some rows of a frame; a view of it where they are in one piece, as those of a task are."""
    at = np.flatnonzero(rows)
    whole = len(at) > 0 and at[-1] - at[0] == len(at) - 1
    return frame.iloc[at[0] : at[-1] + 1] if whole else frame[rows]


def run_ends(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a tidy frame that all but curves are made of: of each run the first and the last,
    and those in which each column is known first and last.
    """
    run, kept = frame["run"].to_numpy(), np.zeros(len(frame), dtype=bool)
    for name in frame:
        known = frame[name].notna()
        if name == "run" or not known.all():
            at = np.flatnonzero(known)
            other = np.diff(run[at], prepend=-1, append=-1) != 0
            kept[at[other[:-1]]] = kept[at[other[1:]]] = True
    return frame[kept]


def last_rows(frame: pd.DataFrame, known: str | None = None) -> pd.DataFrame:
    """The last row of each run, failed or not; or the last in which a column is ``known``."""
    at = np.arange(len(frame)) if known is None else np.flatnonzero(frame[known].notna())
    return frame.iloc[at[~frame["run"].iloc[at].duplicated(keep="last").to_numpy()]]


def first_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The first row of each run, where all methods are at the same θ."""
    return frame[~frame["run"].duplicated()]


def cost_column(rows: pd.DataFrame, name: str) -> str:
    """A cost at the start, with nothing carried over, where that is known; else as measured."""
    start = f"{name}_start"
    return start if rows[start].notna().any() else name


def timed_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The last row of each run in which a hypergradient was timed; ``SPENT`` are those at the
    start, with nothing carried over, where they are known.
    """
    rows = last_rows(frame, cost_column(frame, "gradient_seconds"))
    return rows.assign(**{name: rows[cost_column(rows, name)] for name in SPENT})


def more_than_tried(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` without the configurations that a sweep has tried, and found not worth timing: the
    error of their gradients is known, and no time, on a task where others have one.
    """
    times = frame[[name for name in frame if name.startswith("gradient_seconds")]]
    timed = times.notna().any(axis="columns")
    tried = (frame["ending"] == "ok") & frame["gradient_error"].notna() & ~timed
    tried &= timed.groupby(frame["task"]).transform("any")
    of = [frame["task"], frame["configuration"]]
    return part(frame, ~tried.groupby(of).transform("all"))


def counted_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The last rows that numbers are taken over: of runs that ended well; if none did, were cut."""
    ends = last_rows(frame)
    ends = ends[ends["status"] == "ok"]
    whole = ends["ending"] == "ok"
    return ends[whole | ~whole.groupby([ends["task"], ends["configuration"]]).transform("any")]


def how_ended(ends: pd.DataFrame) -> dict[str, int]:
    """How many of some runs' last rows are of runs that failed or were cut, and are inexact."""
    found = ends.loc[ends["ending"] != "ok", "ending"].value_counts().sort_index().to_dict()
    return found | ({"inexact": int(ends["inexact"].sum())} if ends["inexact"].any() else {})


def endings(frame: pd.DataFrame, by: str) -> dict[str, str]:
    """For a legend, by a column's values: ``, 1 of 2 diverged``; "" where all is well."""
    return {
        name: "".join(f", {n} of {len(ends)} {how}" for how, n in how_ended(ends).items())
        for name, ends in last_rows(frame[["run", "ending", "inexact", by]]).groupby(by, sort=False)
    }


def trained(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that trained: more than one evaluation, or one and a failure (not a sweep's); their
    ``configuration`` names only what differs among them.
    """
    runs = ((frame["status"] != "ok") & (frame["steps"] != 0)).groupby(frame["run"])
    return renamed(part(frame, (runs.transform("size") > 1) | runs.transform("any")))


def select(frame: pd.DataFrame, objective: str, dataset: str) -> pd.DataFrame:
    """The rows of one task, by benchopt's names of it."""
    return frame[(frame["objective_name"] == objective) & (frame["dataset_name"] == dataset)]


def depths(rows: pd.DataFrame, y: str) -> list[float]:
    """The numbers of layers at which y is known, in order; none where no series has two of them."""
    known = rows[rows[y].notna() & rows["layers"].notna()]
    if not (known.groupby("series")["layers"].nunique() > 1).any():
        return []
    return sorted({float(layers) for layers in known["layers"]})


def traces(
    rows: pd.DataFrame,
    across: tuple[str, str],
    x: str,
    y: str,
    styles: Mapping[str, Style],
    ends: Sequence[float] = (),
) -> list[dict[str, object]]:
    """A curve for each value of the first of two columns, through the values of the second, as
    benchopt's scatter plots take it: medians of x and y, and of several runs the quartiles of y.
    Where x is ``layers``, what has no depth is level, from one of the ``ends`` to the other.
    """
    label, by = across
    known = rows[[*dict.fromkeys([label, by, x, y])]]
    known = known.dropna(subset=[y] if x == "layers" else [x, y])
    known = known.assign(by=known[by].fillna(0.0))
    known["at"] = known.groupby([label, "by"], sort=False)[x].transform("median")
    level = known[known["at"].isna()]
    known = pd.concat([known.dropna(subset="at"), *(level.assign(at=end) for end in ends)])
    known = known.sort_index(kind="stable")
    runs = known.groupby([label, "by", "at"], sort=False)[y]
    if known.empty:
        return []
    # all quartiles at once, of all curves: a row of three for each group
    points = runs.size().reset_index(name="size")
    points[["y_low", "y", "y_high"]] = runs.quantile([0.25, 0.5, 0.75]).to_numpy().reshape(-1, 3)
    found = []
    for name, own in points.groupby(label, sort=False):
        own = own.sort_values("by", kind="stable")
        parts = ["y", "y_low", "y_high"] if own["size"].max() > 1 else ["y"]
        lists = {key: own[key].tolist() for key in parts} | {"x": own["at"].tolist()}
        look = {"color": styles[name].color, "marker": styles[name].marker}
        found.append({"label": str(name), **lists, **look})
    return found


def costs(frame: pd.DataFrame, column: str, per: str | None = None) -> pd.DataFrame:
    """One task's costs of one hypergradient: a row per configuration, ``values`` one per run, and
    which runs ``failed``, were cut, or are inexact. ``per`` names a column to divide by.
    """
    rows = last_rows(frame, column)
    cost = rows[column] if per is None else rows[column] / rows[per]
    values = cost.dropna().groupby(rows["gradient"]).agg(list)
    ends = last_rows(frame).groupby("gradient", sort=False)
    found = {
        name: (own["method"].iloc[0], ", ".join(how_ended(own)), values.get(name, []))
        for name, own in ends
    }
    return pd.DataFrame.from_dict(found, orient="index", columns=["method", "failed", "values"])
