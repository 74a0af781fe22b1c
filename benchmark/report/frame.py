"""Benchopt's rows as one tidy frame, a row per evaluation, and what is drawn from it.

Every function is pure: a frame comes in, a new frame or plain Python numbers go out, and the order
of the rows that come in does not matter. Columns that a file lacks are NaN.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark.report.reading import IMAGES, METRICS, NAMES, OPTIONAL
from benchmark.report.statistics import PSNR_IMAGES
from benchmark.report.style import Style, method_order, shades

RUN = ["source", *NAMES, "repetition"]
# Parameters of the outer loop: they change what is learned, not the cost or the error of one
# hypergradient at a given θ.
TRAINING = ("steps", "learning_rate", "optimizer", "batch_size", "evaluate_every")
DEFINING = ("layers", "restarts")
# What a scaling study varies of a problem; the number of images beside the probe costs nothing.
VARIED = ("size", "n_train", "n_test", "probe_size", "ridge")


@dataclass(frozen=True)
class Call:
    """A name with keyword arguments, as in ``inpainting(keep=0.5,noise=0.05)``."""

    name: str
    arguments: Mapping[str, str]


@dataclass(frozen=True)
class Curve:
    """Median and quartiles over repetitions along x, for one configuration or series of them."""

    label: str
    method: str
    x: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    repetitions: int


@dataclass(frozen=True)
class Failure:
    """Where a run failed: its last finite point."""

    label: str
    method: str
    status: str
    x: float
    y: float


@dataclass(frozen=True)
class Cost:
    """What one configuration costs in each run that got as far, and how the failed runs ended."""

    label: str
    method: str
    values: tuple[float, ...]
    failed: tuple[str, ...]


# --- names -----------------------------------------------------------------------------------


def parse_call(text: str) -> Call:
    """``name(a=1,b=f(c=2))`` or ``name[a=1]`` taken apart; a plain name has no arguments.

    benchopt's command line writes ``name(a:1)``.
    """
    match = re.fullmatch(r"\s*([^\[(]+)[\[(](.*)[\])]\s*", text, flags=re.DOTALL)
    if match is None:
        return Call(text.strip(), {})
    pieces = [re.split("[=:]", piece, maxsplit=1) for piece in _split(match[2])]
    return Call(match[1].strip(), {key.strip(): "".join(value).strip() for key, *value in pieces})


def distinguish(
    heads: Mapping[Hashable, str],
    details: Mapping[Hashable, Mapping[str, str]],
    *,
    always: Sequence[str] = (),
) -> dict[Hashable, str]:
    """Short names ``head (a=1)``: the details that differ among equal heads, or in ``always``."""
    names = {}
    for key, head in heads.items():
        peers = [details[other] for other in heads if heads[other] == head]
        present = {name for peer in peers for name in peer}
        shown = [name for name in always if name in details[key]] + [
            name
            for name in sorted(present - set(always))
            if name in details[key] and len({peer.get(name) for peer in peers}) > 1
        ]
        inside = ", ".join(f"{name}={details[key][name]}" for name in shown)
        names[key] = f"{head} ({inside})" if inside else head
    return names


def file_names(labels: Iterable[str]) -> dict[str, str]:
    """A short file name part for each label: safe on any filesystem, no two alike."""
    names: dict[str, str] = {}
    for label in sorted(set(labels)):
        base = re.sub(r"[^A-Za-z0-9.]+", "_", label).strip("_.") or "task"
        if len(base) > 60:
            base = f"{base[:50]}_{hashlib.sha256(label.encode()).hexdigest()[:8]}"
        taken = {name.lower() for name in names.values()}
        count = 1
        while (name := base if count == 1 else f"{base}_{count}").lower() in taken:
            count += 1
        names[label] = name
    return names


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    pieces, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    return [piece for piece in pieces if piece.strip()]


def written(value: object) -> str:
    """A parameter's value as in a configuration file: 10.0 is 10."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return f"{value:g}" if number else str(value)


def _parameters(raw: pd.DataFrame, *, name: str, prefix: str) -> dict[str, dict[str, str]]:
    """For each name in a column, its parameters: from the ``p_…`` columns, else from the name."""
    columns = [column for column in raw.columns if column.startswith(prefix)]
    different = raw[[name, *columns]].drop_duplicates().astype({name: object})
    first = different.groupby(name)[columns].first() if columns else None
    found = {}
    for text in sorted(different[name].unique()):
        row = {} if first is None else first.loc[text].dropna().to_dict()
        stated = {key.removeprefix(prefix): written(value) for key, value in row.items()}
        found[text] = {**parse_call(text).arguments, **stated}
    return found


def _problems(raw: pd.DataFrame) -> pd.DataFrame:
    """A row for each (objective, dataset): ``task``, ``setting``, ``size``, ``batch``, ``ridge``.

    A task is named by the layer, the degradation, and what else differs; a setting likewise, but
    for what is ``VARIED``: tasks of one setting differ in nothing else.
    """
    objectives = _parameters(raw, name="objective_name", prefix="p_obj_")
    datasets = _parameters(raw, name="dataset_name", prefix="p_dataset_")
    heads, details, apart, numbers = {}, {}, {}, {}
    for objective, dataset in raw[["objective_name", "dataset_name"]].drop_duplicates().to_numpy():
        lower = parse_call(objectives[objective].get("lower", parse_call(objective).name))
        source = parse_call(dataset).name
        degradation = parse_call(datasets[dataset].get("degradation", source))
        groups = {
            "layer": lower.arguments,
            "degradation": degradation.arguments,
            "objective": {k: v for k, v in objectives[objective].items() if k != "lower"},
            "dataset": {k: v for k, v in datasets[dataset].items() if k != "degradation"}
            | {"dataset": source},
        }
        key = objective, dataset
        heads[key] = f"{lower.name}, {degradation.name}"
        details[key] = _merged(groups)
        apart[key] = _merged({g: _without(found, VARIED) for g, found in groups.items()})
        numbers[key] = {
            "size": datasets[dataset].get("size"),
            "batch": objectives[objective].get("probe_size"),
            "n_train": datasets[dataset].get("n_train"),
            "ridge": lower.arguments.get("ridge", 0),
        }
    tasks, settings = distinguish(heads, details), distinguish(heads, apart)
    rows = {key: {"task": tasks[key], "setting": settings[key]} | numbers[key] for key in heads}
    found = pd.DataFrame.from_dict(rows, orient="index")
    columns = ["size", "batch", "n_train", "ridge"]
    found[columns] = found[columns].apply(pd.to_numeric, errors="coerce").astype(float)
    smaller = found[["batch", "n_train"]].min(axis="columns", skipna=True)
    return found.assign(batch=smaller.where(found["batch"].notna())).drop(columns="n_train")


def _merged(groups: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """All arguments by name, the group's name before one that was there already."""
    merged: dict[str, str] = {}
    for group, arguments in groups.items():
        for key, value in arguments.items():
            merged[f"{group} {key}" if key in merged else key] = value
    return merged


def _without(arguments: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {key: value for key, value in arguments.items() if key not in names}


# --- the tidy frame --------------------------------------------------------------------------


def tidy(raw: pd.DataFrame) -> pd.DataFrame:
    """Benchopt's rows, renamed, typed, named and sorted.

    Columns: ``source``, the three benchopt names, ``task``, ``setting`` (the task but for what is
    ``VARIED``), ``size`` (side of the images, pixels), ``batch`` (images of the probe:
    ``probe_size``, or all of ``n_train``), ``ridge``,
    ``method``, three names of the configuration (``configuration``: all that differs;
    ``gradient``: without the parameters of the outer loop; ``series``: without the depth either),
    ``parameters`` (all of them, as text), ``layers``, ``restarts``, ``steps``, ``repetition``,
    ``seconds`` (of training), ``stop_val``, ``METRICS`` and ``OPTIONAL`` (NaN where not finite),
    ``status``, ``message``, ``learned`` (θ as JSON, where it is small), ``IMAGES``, and the test
    PSNR of each image, which may still be packed (``reading.unpacked``). A run is a value of
    ``RUN``; its rows come in order of outer step, a failed row last.
    """
    raw = raw.reset_index(drop=True)
    raw = raw.assign(**{name: _column(raw, name).fillna("unknown").astype(str) for name in NAMES})
    frame = pd.DataFrame({name: _column(raw, name) for name in NAMES})
    frame["source"] = _column(raw, "source").fillna("").astype(str)
    frame["repetition"] = _numbers(raw, "idx_rep").fillna(0).astype(int)
    frame["seconds"] = _numbers(raw, "time")
    frame["stop_val"] = _numbers(raw, "stop_val")
    for name in (*METRICS, *OPTIONAL):
        frame[name] = _numbers(raw, f"objective_{name}")
    finite = frame["value"].notna().map({True: "ok", False: "error"})
    status = _column(raw, "objective_status")
    frame["status"] = status.where(status.notna(), finite).astype(str)
    for name in ("message", "learned", *IMAGES, PSNR_IMAGES):
        frame[name] = _column(raw, f"objective_{name}")
    return _sorted(_named(frame, raw))


def last_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The last row of each run, failed or not."""
    return frame.groupby(RUN, sort=False).tail(1)


def first_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The first row of each run, where all methods are at the same θ."""
    return frame.groupby(RUN, sort=False).head(1)


def measured_rows(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The last row of each run in which a column is finite."""
    return frame[frame[column].notna()].groupby(RUN, sort=False).tail(1)


def _column(raw: pd.DataFrame, name: str) -> pd.Series:
    empty = pd.Series([None] * len(raw), index=raw.index, dtype=object)
    return raw[name].astype(object) if name in raw.columns else empty


def _numbers(raw: pd.DataFrame, name: str) -> pd.Series:
    if name not in raw.columns:
        return pd.Series(np.nan, index=raw.index)
    numbers = pd.to_numeric(raw[name], errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


def _mapped(keys: pd.Series, values: Mapping[str, object]) -> pd.Series:
    """The value of each key; each different value is held once."""
    codes, known = pd.factorize(keys)
    found = np.empty(len(known), dtype=object)
    found[:] = [values.get(key) for key in known]
    return pd.Series(found[codes], index=keys.index, dtype=object)


def _named(frame: pd.DataFrame, raw: pd.DataFrame) -> pd.DataFrame:
    """The frame with tasks, methods and configurations named."""
    problems = _problems(raw)
    codes, known = pd.factorize(pd.MultiIndex.from_frame(frame[["objective_name", "dataset_name"]]))
    for name, values in problems.loc[list(known)].items():
        frame[name] = pd.Series(values.to_numpy()[codes])
    stated = pd.DataFrame(
        {"solver": frame["solver_name"], "method": _column(raw, "objective_method")}
    ).drop_duplicates()
    method = {
        solver: next(iter(sorted(set(group.dropna().astype(str)))), parse_call(solver).name)
        for solver, group in stated.groupby("solver")["method"]
    }
    parameters = _parameters(raw, name="solver_name", prefix="p_solver_")
    frame["method"] = _mapped(frame["solver_name"], method)
    frame["parameters"] = _mapped(frame["solver_name"], parameters)
    for name, without in {"gradient": TRAINING, "series": (*TRAINING, "layers")}.items():
        details = {
            solver: {key: value for key, value in found.items() if key not in without}
            for solver, found in parameters.items()
        }
        names = distinguish(method, details, always=DEFINING)
        frame[name] = _mapped(frame["solver_name"], names)
    frame = renamed(frame)
    for name in (*DEFINING, "steps"):
        numbers = {
            solver: pd.to_numeric(found.get(name), errors="coerce")
            for solver, found in parameters.items()
        }
        frame[name] = _mapped(frame["solver_name"], numbers).astype(float)
    return frame


def renamed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with ``configuration`` naming what differs among its own rows."""
    solvers = frame.drop_duplicates("solver_name").set_index("solver_name")
    details = solvers["parameters"].to_dict()
    names = distinguish(solvers["method"].to_dict(), details, always=DEFINING)
    return frame.assign(configuration=_mapped(frame["solver_name"], names))


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    order = {name: rank for rank, name in enumerate(method_order(frame["method"].unique()))}
    keys = {"rank": frame["method"].map(order), "failed": frame["status"] != "ok"}
    by = ["task", "rank", "restarts", "layers", "configuration", *RUN, "outer_step", "failed"]
    keyed = frame.assign(**keys)[[*by, "stop_val"]]
    ranks = [
        pd.factorize(keyed[name], sort=True)[0] if keyed[name].dtype == object else keyed[name]
        for name in keyed
    ]
    return frame.iloc[np.lexsort(ranks[::-1])].reset_index(drop=True)


# --- what is drawn ---------------------------------------------------------------------------


def trained(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that trained: more than one evaluation, or one and a failure (not a sweep's).

    Their ``configuration`` names only what differs among them.
    """
    evaluations = frame.groupby(RUN)["status"].transform("size")
    failed = (frame["status"] != "ok") & ~(frame["steps"] == 0)
    started = failed.groupby([frame[key] for key in RUN]).transform("any")
    return renamed(frame[(evaluations > 1) | started])


def select(frame: pd.DataFrame, *, objective: str, dataset: str) -> pd.DataFrame:
    """The rows of one task, by benchopt's names of it."""
    return frame[(frame["objective_name"] == objective) & (frame["dataset_name"] == dataset)]


def labelled_styles(
    frame: pd.DataFrame, *, name: str, styles: Mapping[str, Style]
) -> dict[str, Style]:
    """A shade of its method's style for each name in a column, light to full with restarts."""
    ordered = frame.sort_values(["restarts", "layers"], kind="stable")
    return shades(dict(zip(ordered[name], ordered["method"], strict=True)), styles=styles)


def curves_over_training(frame: pd.DataFrame, *, x: str, y: str) -> list[Curve]:
    """A curve per configuration of one task: at each outer step the median x and y of its runs."""
    return [
        summarised(group, by="outer_step", x=x, y=y, label=str(label))
        for label, group in frame.groupby("configuration", sort=False)
        if group[["outer_step", *_needed(x, y)]].notna().all(axis=1).any()
    ]


def failures(frame: pd.DataFrame, *, x: str, y: str) -> list[Failure]:
    """The last finite point of each run that failed (none for a run without one)."""
    ends = last_rows(frame)
    found = []
    for _, end in ends[ends["status"] != "ok"].iterrows():
        run = frame[(frame[RUN] == end[RUN]).all(axis=1)].dropna(subset=[x, y])
        if len(run):
            at = (float(run[x].iloc[-1]), float(run[y].iloc[-1]))
            found.append(Failure(end["configuration"], end["method"], end["status"], *at))
    return found


def curves_over_depth(rows: pd.DataFrame, *, x: str, y: str) -> list[Curve]:
    """One curve per series: a point for each number of layers differentiated.

    ``x`` is ``layers`` or a measured column. A series without layers (JFB, DEQ) is one point,
    whose x is NaN when x is ``layers``: see ``across``.
    """
    keyed = rows.assign(depth=rows["layers"].fillna(0.0))
    return [
        summarised(group, by="depth", x=x, y=y, label=str(label))
        for label, group in keyed.groupby("series", sort=False)
        if group[_needed(x, y)].notna().all(axis=1).any()
    ]


def across(curve: Curve, *, start: float, stop: float) -> Curve:
    """A curve without depth (all x NaN) as a horizontal line from start to stop; others as is."""
    if not np.isnan(curve.x).all():
        return curve
    ends = {name: getattr(curve, name)[:1] * 2 for name in ("median", "low", "high")}
    return Curve(curve.label, curve.method, (start, stop), **ends, repetitions=curve.repetitions)


def depths(rows: pd.DataFrame, *, y: str) -> list[float]:
    """The numbers of layers at which y is known, in order; none where no series has two of them."""
    known = rows[rows[y].notna() & rows["layers"].notna()]
    if not (known.groupby("series")["layers"].nunique() > 1).any():
        return []
    return sorted({float(layers) for layers in known["layers"]})


def costs(frame: pd.DataFrame, *, column: str, per: str | None = None) -> list[Cost]:
    """One task's costs of one hypergradient, one entry per configuration, a value per run.

    ``per`` names a column to divide by, row by row: seconds per seconds of one layer.
    """
    rows = measured_rows(frame, column)
    ends = last_rows(frame)
    found = []
    for label, end in ends.groupby("gradient", sort=False):
        group = rows[rows["gradient"] == label]
        values = group[column] if per is None else group[column] / group[per]
        failed = tuple(status for status in end["status"] if status != "ok")
        found.append(Cost(str(label), end["method"].iloc[0], _floats(values.dropna()), failed))
    return found


def traces(
    curves: Sequence[Curve], *, styles: Mapping[str, Style]
) -> list[dict[str, str | list[float]]]:
    """Curves as benchopt's scatter plots take them: plain lists, quartiles where there are any."""
    found = []
    for curve in curves:
        style = styles[curve.label]
        known = [index for index, x in enumerate(curve.x) if not np.isnan(x)]
        values = {"x": curve.x, "y": curve.median}
        if curve.repetitions > 1:
            values |= {"y_low": curve.low, "y_high": curve.high}
        lists = {key: [line[index] for index in known] for key, line in values.items()}
        label = {"label": curve.label, "color": style.color, "marker": style.marker}
        found.append({**lists, **label})
    return found


def _needed(x: str, y: str) -> list[str]:
    """The columns a point needs: a series without layers has none, and is drawn all the same."""
    return [y] if x == "layers" else [x, y]


def summarised(group: pd.DataFrame, *, by: str, x: str, y: str, label: str) -> Curve:
    """Median and quartiles of y, and median of x, at each value of ``by``."""
    known = group.dropna(subset=_needed(x, y))
    at = known.groupby(by, sort=True)
    quartiles = at[y].quantile([0.25, 0.5, 0.75]).unstack()
    return Curve(
        label=label,
        method=str(group["method"].iloc[0]),
        x=_floats(at[x].median()),
        median=_floats(quartiles[0.5]),
        low=_floats(quartiles[0.25]),
        high=_floats(quartiles[0.75]),
        repetitions=int(at.size().max()),
    )


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
