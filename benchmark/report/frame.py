"""Benchopt's rows as one tidy frame, what is in it called by what differs, and parts of it.

Every function is pure: a frame comes in and a new one goes out, and the order of the rows that come
in does not matter. Columns that a file lacks are NaN.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from benchmark.options.spec import split_call
from benchmark.report.metrics import DIRECTIONS, LOSS, MSE
from benchmark.report.reading import IMAGES, METRIC, METRICS, NAMES, OPTIONAL
from benchmark.report.statistics import PHOTOGRAPHS, PSNR_IMAGES
from benchmark.report.style import Style, method_order

# what a scaling study varies of a problem; the number of images beside the probe costs nothing
VARIED = ("size", "n_train", "n_test", "probe_size", "ridge")
PROBLEM = [*NAMES[:2], LOSS]
RUN = ["source", *PROBLEM, NAMES[2], "repetition"]
# Parameters of the outer loop: they change what is learned, not the cost or the error of one
# hypergradient at a given θ.
TRAINING = ("steps", "learning_rate", "optimizer", "batch_size", "evaluate_every")
DEFINING = ("layers", "restarts")
# of an objective: its loss is a column, and its metrics change nothing that is learned
UPPER = (LOSS, "metrics")
_MEASURED = (*METRICS, *OPTIONAL)
_IMAGES = (*IMAGES, PSNR_IMAGES, PHOTOGRAPHS, "images_digest")
_TEXTS = ("status", "message", "learned", *_IMAGES, LOSS, DIRECTIONS)
#: columns of the frame by benchopt's names of them
COLUMNS = {name: name for name in (*NAMES, "source", "stop_val")}
COLUMNS |= {"idx_rep": "repetition", "time": "seconds", "objective_method": "stated"}
COLUMNS |= {f"objective_{name}": name for name in (*_MEASURED, *_TEXTS)}
NUMBERS = ["stop_val", "repetition", "seconds", *_MEASURED]


def tidy(raw: pd.DataFrame) -> pd.DataFrame:
    """Benchopt's rows, renamed, typed, named and sorted.

    Columns: ``source``, the three benchopt names, ``task``, ``setting`` (the task but for what
    ``names.VARIED`` lists), ``size`` (side of the images, pixels), ``batch`` (images of the probe:
    ``probe_size``, or all of ``n_train``), ``ridge``,
    ``method``, three names of the configuration (``configuration``: all that differs;
    ``gradient``: without the parameters of the outer loop; ``series``: without the depth either),
    ``parameters`` (all of them, as text), ``layers``, ``restarts``, ``steps``, ``repetition``,
    ``seconds`` (of training), ``stop_val``, ``METRICS`` and ``OPTIONAL`` (NaN where not finite),
    ``status``, ``message``, ``learned`` (θ as JSON, where it is small), ``IMAGES``, the test
    PSNR of each image, which may still be packed (``reading.unpacked``), their photographs and
    the digest of all images, and what
    ``benchmark.report.metrics`` tells of: ``loss``, ``metric_…``, ``higher_is_better``. A run is a
    value of ``RUN``; its rows come in order of outer step, a failed row last.
    """
    raw = raw.reset_index(drop=True)
    metrics = [name for name in raw if name.startswith(f"objective_{METRIC}")]
    names = COLUMNS | {name: name.removeprefix("objective_") for name in metrics}
    frame = raw.reindex(columns=list(names)).astype(object).rename(columns=names)
    measured = [*NUMBERS, *map(names.get, metrics)]
    numbers = frame[measured].apply(pd.to_numeric, errors="coerce").astype(float)
    frame[measured] = numbers.where(np.isfinite(numbers))
    absent = {**dict.fromkeys(NAMES, "unknown"), "source": "", "repetition": 0, "stated": ""}
    frame = frame.fillna(absent).astype({"repetition": int})
    finite = frame["value"].notna().map({True: "ok", False: "error"})
    frame["status"] = frame["status"].where(frame["status"].notna(), finite).astype(str)
    raw = raw.assign(**frame[list(NAMES)])
    raw[LOSS] = frame[LOSS] = upper_losses(raw, frame)
    frame = frame.join(problems(raw), on=PROBLEM).join(solvers(raw, frame), on=NAMES[2])
    frame = renamed(frame.drop(columns="stated"))
    ranks = {name: rank for rank, name in enumerate(method_order(frame["method"].unique()))}
    keyed = frame.assign(rank=frame["method"].map(ranks), failed=frame["status"] != "ok")
    by = ["task", "rank", "restarts", "layers", "configuration", *RUN, "outer_step", "failed"]
    order = keyed[[*by, "stop_val"]].sort_values([*by, "stop_val"], kind="stable").index
    return frame.loc[order].reset_index(drop=True)


def upper_losses(raw: pd.DataFrame, frame: pd.DataFrame) -> pd.Series:
    """The upper loss of each row: as its run says, else as its parameters do, else MSE."""
    runs = frame.groupby(["source", *NAMES, "repetition"])
    objectives = parameters(raw, "objective_name", "p_obj_")
    known = frame["objective_name"].map(lambda name: objectives[name].get(LOSS))
    return frame[LOSS].fillna(runs[LOSS].transform("first")).fillna(known).fillna(MSE).astype(str)


def solvers(raw: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each solver: ``method``, ``parameters``, ``DEFINING``, ``steps``, its names."""
    own = parameters(raw, "solver_name", "p_solver_")
    stated = frame[frame["stated"] != ""].groupby("solver_name")["stated"].min()
    methods = {solver: stated.get(solver) or split_call(solver)[0] for solver in own}
    found = pd.DataFrame({"method": methods, "parameters": own}, dtype=object)
    for name, without in {"gradient": TRAINING, "series": (*TRAINING, "layers")}.items():
        labels = distinguish(methods, _without(own, without), DEFINING)
        found[name] = pd.Series(labels, dtype=object)
    for name in (*DEFINING, "steps"):
        texts = found["parameters"].map(lambda stated, name=name: stated.get(name))
        found[name] = pd.to_numeric(texts, errors="coerce").astype(float)
    return found


def _without(details: Mapping[Hashable, Mapping[str, str]], names: Sequence[str]) -> dict:
    """The details without those of some names, a group's name before them or not."""
    return {
        key: {name: value for name, value in own.items() if name.split()[-1] not in names}
        for key, own in details.items()
    }


def renamed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with ``configuration`` naming what differs among its own rows."""
    known = frame.drop_duplicates("solver_name").set_index("solver_name")
    names = distinguish(known["method"].to_dict(), known["parameters"].to_dict(), DEFINING)
    names = pd.Series(names, dtype=object, name="configuration")
    return frame.drop(columns="configuration", errors="ignore").join(names, on="solver_name")


def last_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The last row of each run, failed or not."""
    return frame.groupby(RUN, sort=False).tail(1)


def first_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The first row of each run, where all methods are at the same θ."""
    return frame.groupby(RUN, sort=False).head(1)


def measured_rows(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The last row of each run in which a column is finite."""
    return last_rows(frame[frame[column].notna()])


def trained(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that trained: more than one evaluation, or one and a failure (not a sweep's).

    Their ``configuration`` names only what differs among them.
    """
    failed = (frame["status"] != "ok") & (frame["steps"] != 0)
    runs = frame.assign(failed=failed).groupby(RUN)["failed"]
    return renamed(frame[(runs.transform("size") > 1) | runs.transform("any")])


def select(frame: pd.DataFrame, objective: str, dataset: str) -> pd.DataFrame:
    """The rows of one task, by benchopt's names of it."""
    return frame[(frame["objective_name"] == objective) & (frame["dataset_name"] == dataset)]


def depths(rows: pd.DataFrame, y: str) -> list[float]:
    """The numbers of layers at which y is known, in order; none where no series has two of them."""
    known = rows[rows[y].notna() & rows["layers"].notna()]
    if not (known.groupby("series")["layers"].nunique() > 1).any():
        return []
    return sorted({float(layers) for layers in known["layers"]})


def placed(rows: pd.DataFrame, label: str, by: str, x: str, y: str) -> pd.DataFrame:
    """The rows with a y; ``at`` is the median x over those of the same ``label`` and ``by``.

    Rows without an x have none where it is ``layers`` (a method without depth), and are left out
    where it is measured.
    """
    known = rows.dropna(subset=[y] if x == "layers" else [x, y])
    known = known.assign(by=known[by].fillna(0.0))
    return known.assign(at=known.groupby([label, "by"], sort=False)[x].transform("median"))


def levelled(placed: pd.DataFrame, ends: tuple[float, float]) -> pd.DataFrame:
    """``placed`` rows, those without an x at both ends: a level line from one to the other."""
    level = placed[placed["at"].isna()]
    return pd.concat([placed[placed["at"].notna()], *(level.assign(at=end) for end in ends)])


def traces(
    placed: pd.DataFrame, label: str, y: str, styles: Mapping[str, Style]
) -> list[dict[str, object]]:
    """``placed`` rows as benchopt's scatter plots take them: medians; quartiles of several runs."""
    found = []
    known = placed[placed["at"].notna()].sort_index(kind="stable")
    for name, own in known.groupby(label, sort=False):
        runs = own.sort_values("by", kind="stable").groupby("at", sort=False)[y]
        parts = {"y": 0.5} | ({"y_low": 0.25, "y_high": 0.75} if runs.size().max() > 1 else {})
        lists = {key: runs.quantile(level).tolist() for key, level in parts.items()}
        look = {"color": styles[name].color, "marker": styles[name].marker}
        found.append({"label": str(name), "x": runs.size().index.tolist(), **lists, **look})
    return found


def costs(frame: pd.DataFrame, column: str, per: str | None = None) -> pd.DataFrame:
    """One task's costs of one hypergradient: a row per configuration, ``values`` one per run.

    ``failed`` says how the failed runs ended. ``per`` names a column to divide by, row by row:
    seconds per seconds of one layer.
    """
    rows = measured_rows(frame, column)
    cost = rows[column] if per is None else rows[column] / rows[per]
    ends = last_rows(frame).groupby("gradient", sort=False)
    values = cost.dropna().groupby(rows["gradient"]).agg(list).to_dict()
    failed = ends["status"].agg(lambda found: ", ".join(sorted(set(found) - {"ok"})))
    found = pd.DataFrame({"method": ends["method"].first(), "failed": failed})
    return found.assign(values=[values.get(name, []) for name in found.index])


def distinguish(
    heads: Mapping[Hashable, str],
    details: Mapping[Hashable, Mapping[str, str]],
    always: Sequence[str] = (),
) -> dict[Hashable, str]:
    """Short names ``head (a=1)``: the details that differ among equal heads, or in ``always``."""
    names = {}
    for key, head in heads.items():
        own = details[key]
        peers = [details[other] for other in heads if heads[other] == head]
        differing = {n for peer in peers for n in peer if len({p.get(n) for p in peers}) > 1}
        shown = [name for name in (*always, *sorted(differing - set(always))) if name in own]
        inside = ", ".join(f"{name}={own[name]}" for name in shown)
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
        numbered = (f"{base}_{count}" for count in range(2, len(taken) + 3))
        names[label] = next(name for name in (base, *numbered) if name.lower() not in taken)
    return names


def written(value: object) -> str:
    """A parameter's value as in a configuration file: 10.0 is 10."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return f"{value:g}" if number else str(value)


def parameters(raw: pd.DataFrame, name: str, prefix: str) -> dict[str, dict[str, str]]:
    """For each name in a column, its parameters: from the ``p_…`` columns, else from the name."""
    columns = [column for column in raw.columns if column.startswith(prefix)]
    different = raw[[name, *columns]].drop_duplicates().astype({name: object})
    return {
        text: split_call(text)[1]
        | {key.removeprefix(prefix): written(value) for key, value in row.dropna().items()}
        for text, row in different.groupby(name).first().iterrows()
    }


def problems(raw: pd.DataFrame) -> pd.DataFrame:
    """A row for each ``PROBLEM``: ``task``, ``setting``, ``size``, ``batch``, ``ridge``.

    A task is named by the layer, the degradation, the upper loss if it is another than MSE, and
    what else differs; a setting likewise, but for what is ``VARIED``: tasks of one setting differ
    in nothing else. What is measured on the test images is no part of a task.
    """
    objectives = parameters(raw, "objective_name", "p_obj_")
    datasets = parameters(raw, "dataset_name", "p_dataset_")
    heads, details, numbers = {}, {}, {}
    for key in map(tuple, raw[PROBLEM].drop_duplicates().to_numpy()):
        objective, dataset = objectives[key[0]].copy(), datasets[key[1]].copy()
        source, _ = split_call(key[1])
        lower, layer = split_call(objective.pop("lower", split_call(key[0])[0]))
        kind, degradation = split_call(dataset.pop("degradation", source))
        probe, ridge = objective.get("probe_size"), layer.get("ridge", 0)
        numbers[key] = (dataset.get("size"), probe, dataset.get("n_train"), ridge)
        heads[key] = f"{lower}, {kind}"
        upper = {} if key[2] == MSE else {LOSS: key[2]}
        objective = {name: own for name, own in objective.items() if name not in UPPER}
        own = dataset | {"dataset": source}
        details[key] = _merged(
            upper=upper, layer=layer, degradation=degradation, objective=objective, dataset=own
        )
    columns = ["size", "batch", "n_train", "ridge"]
    found = pd.DataFrame.from_dict(numbers, orient="index", columns=columns)
    found = found.apply(pd.to_numeric, errors="coerce").astype(float)
    # the probe is of training images: all of them where it would be more
    batch = found[["batch", "n_train"]].min(axis="columns").where(found["batch"].notna())
    names = {
        "task": distinguish(heads, details, (LOSS,)),
        "setting": distinguish(heads, _without(details, VARIED), (LOSS,)),
    }
    named = {name: np.array([*labels.values()], object) for name, labels in names.items()}
    found.index = pd.MultiIndex.from_tuples(found.index)
    return found.drop(columns="n_train").assign(batch=batch, **named)


def _merged(**groups: Mapping[str, str]) -> dict[str, str]:
    """All arguments by name, the group's name before one that was there already."""
    merged: dict[str, str] = {}
    for group, arguments in groups.items():
        for key, value in arguments.items():
            merged[f"{group} {key}" if key in merged else key] = value
    return merged
