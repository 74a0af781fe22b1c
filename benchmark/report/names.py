"""What tasks, configurations, machines, files and columns are called: by what differs among them.

A metric NAME that a study adds is the column ``metric_NAME`` of the tidy frame and of a table's
numbers; beside it the column ``higher_is_better`` holds a JSON object, from the names to true or
false. The column ``loss`` names the upper loss ℓ of F(θ).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from natsort import natsort_keygen, ns

from benchmark.options.spec import split_call
from benchmark.report.reading import METRIC, NAMES, ReportError

DIRECTIONS, LOSS, MSE = "higher_is_better", "loss", "mse"
ARROWS = {True: " ↑", False: " ↓", None: ""}
# what a scaling study varies of a problem; the number of images beside the probe costs nothing
VARIED = ("size", "n_train", "n_test", "probe_size", "ridge")
PROBLEM = [*NAMES[:2], LOSS, "drawn"]
# of an objective: its loss is a column, and its metrics change nothing that is learned
UPPER = (LOSS, "metrics")
# Parameters of the outer loop: they change what is learned, not the cost or the error of one
# hypergradient at a given θ.
TRAINING = ("steps", "learning_rate", "optimizer", "batch_size", "chunk", "evaluate_every")
# what a method's depth is called: the layers, terms of a series or steps that it differentiates
DEPTH = ("layers", "terms", "grad")
NUMBERED = ("restarts", "steps")
# always in a name, where there are: the device only where the rows come from several
DEFINING = ("layers", "restarts", "device")
# What tells one machine from another beside the name of the device. Times are compared, and
# averaged, on one machine alone.
MACHINE = {"threads": "objective_threads", "processor": "system-processor"}
MACHINE |= {"cpus": "system-cpus", "memory": "system-ram (GB)"}
#: sorts texts as one reads them: tol=1e-05 before tol=0.001, layers=5 before layers=10
IN_ORDER = natsort_keygen(alg=ns.REAL)


def problems(raw: pd.DataFrame) -> pd.DataFrame:
    """A row for each ``PROBLEM``: ``size`` (side of the images, pixels), ``batch`` (images of the
    probe), ``ridge``; ``task``, named by the layer, the degradation, the upper loss if it is not
    MSE, and what else differs; ``setting``, likewise, but for what is ``VARIED``.
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
        details[key] = _merged(
            upper={} if key[2] == MSE else {LOSS: key[2]},
            layer=layer,
            degradation=degradation,
            objective={name: own for name, own in objective.items() if name not in UPPER},
            dataset=dataset | {"dataset": source} | ({"images": key[3]} if key[3] else {}),
        )
    columns = ["size", "batch", "n_train", "ridge"]
    found = pd.DataFrame.from_dict(numbers, orient="index", columns=columns)
    found = found.apply(pd.to_numeric, errors="coerce").astype(float)
    # the probe is of training images: all of them where it would be more
    found["batch"] = found[["batch", "n_train"]].min(axis="columns").where(found["batch"].notna())
    for name, without in {"task": (), "setting": VARIED}.items():
        labels = distinguish(heads, details, (LOSS,), without=without)
        found[name] = pd.Series([*labels.values()], index=found.index, dtype=object)
    return found.drop(columns="n_train").set_axis(pd.MultiIndex.from_tuples(found.index))


def drawn(raw: pd.DataFrame) -> pd.Series:
    """What tells apart rows of one name and repetition whose images differ, "" where none do: the
    seed, or the digest of the images where seeds do not tell. Other seeds are other images where
    there are no digests (files of earlier versions).
    """
    none = pd.Series("", index=raw.index, dtype=object)
    about = raw.reindex(columns=["objective_images_digest", "base_seed", "idx_rep"])
    images, seed, repetition = (about[name].astype(object) for name in about)
    images = seed if images.isna().all() else images
    problem = [raw[name] for name in PROBLEM if name != "drawn"]
    several = images.groupby([*problem, repetition], dropna=False).transform("nunique") > 1
    if not several.any():
        return none
    of_a_seed = images.groupby([*problem, repetition, seed], dropna=False).transform("nunique")
    told = (of_a_seed == 1).groupby(problem).transform("all")
    differs = several.groupby(problem).transform("any")
    return none.mask(differs, seed.map("seed {:g}".format).where(told, images))


def devices(raw: pd.DataFrame) -> pd.Series:
    """What each row was timed on, told apart from the others; "" where that is one alone."""
    about = raw.reindex(columns=["objective_device_name", *MACHINE.values()]).astype(object)
    machines = about.groupby([*about], dropna=False, sort=True)
    if machines.ngroups < 2:
        return pd.Series("", index=raw.index, dtype=object)
    known = machines.size().index.to_frame(index=False).set_axis(["head", *MACHINE], axis="columns")
    heads = known.pop("head").fillna("unknown").astype(str)
    details = {at: row.dropna().map(written).to_dict() for at, row in known.iterrows()}
    return machines.ngroup().map(distinguish(heads.to_dict(), details)).astype(object)


def on_device(solver: str, device: str) -> str:
    """A solver's name with the device among its arguments."""
    start = f"{solver[:-1]}," if re.fullmatch(r"[^\[]+\[.+\]", solver) else f"{solver}["
    return f"{start}device={device}]" if device else solver


def solvers(raw: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each solver: ``method``, ``parameters``, ``DEFINING``, ``steps``, its names."""
    own = parameters(raw, "solver_name", "p_solver_")
    stated = frame[frame["stated"] != ""].groupby("solver_name")["stated"].min()
    methods = {solver: stated.get(solver) or split_call(solver)[0] for solver in own}
    found = pd.DataFrame({"method": methods, "parameters": own}, dtype=object)
    for name, without in {"gradient": TRAINING, "series": (*TRAINING, *DEPTH)}.items():
        labels = distinguish(methods, own, DEFINING, without=without)
        found[name] = pd.Series(labels, dtype=object)
    stated = pd.DataFrame([*own.values()], index=[*own]).reindex(columns=[*DEPTH, *NUMBERED])
    stated = stated.apply(pd.to_numeric, errors="coerce").astype(float)
    return found.join(stated[[*NUMBERED]]).assign(layers=stated[[*DEPTH]].bfill(axis=1).iloc[:, 0])


def parameters(raw: pd.DataFrame, name: str, prefix: str) -> dict[str, dict[str, str]]:
    """For each name in a column, its parameters: from the ``p_…`` columns, else from the name."""
    columns = [column for column in raw.columns if column.startswith(prefix)]
    different = raw[[name, *columns]].drop_duplicates().astype({name: object})
    return {
        text: split_call(text)[1]
        | {key.removeprefix(prefix): written(value) for key, value in row.dropna().items()}
        for text, row in different.groupby(name).first().iterrows()
    }


def _merged(**groups: Mapping[str, str]) -> dict[str, str]:
    """All arguments by name, the group's name before one that was there already."""
    merged: dict[str, str] = {}
    for group, arguments in groups.items():
        for key, value in arguments.items():
            merged[f"{group} {key}" if key in merged else key] = value
    return merged


def distinguish(
    heads: Mapping[Hashable, str],
    details: Mapping[Hashable, Mapping[str, str]],
    always: Sequence[str] = (),
    *,
    without: Sequence[str] = (),
) -> dict[Hashable, str]:
    """Short names ``head (a=1)``: the details that differ among equal heads, or in ``always``; not
    those of some names, a group's name before them or not.
    """
    peers: dict[str, list[Mapping[str, str]]] = {}
    for key, head in heads.items():
        peers.setdefault(head, []).append(details[key])
    differing = {
        head: {n for n in set().union(*alike) if len({own.get(n) for own in alike}) > 1}
        for head, alike in peers.items()
    }
    names = {}
    for key, head in heads.items():
        own = details[key]
        shown = [name for name in (*always, *sorted(differing[head] - set(always))) if name in own]
        shown = [name for name in shown if name.split()[-1] not in without]
        inside = ", ".join(f"{name}={own[name]}" for name in shown)
        names[key] = f"{head} ({inside})" if inside else head
    return names


def in_order(texts: pd.Series) -> pd.Series:
    """The rank of each text as one reads them, numbers as numbers."""
    ranks = {text: rank for rank, text in enumerate(sorted(texts.unique(), key=IN_ORDER))}
    return texts.map(ranks)


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


def extra(rows: pd.DataFrame) -> list[str]:
    """The columns of the metrics, in the order of the frame."""
    return [name for name in rows.columns if name.startswith(METRIC)]


def directions(rows: pd.DataFrame) -> dict[str, bool]:
    """Whether higher is better, for the name of each metric of which the rows say it; a ReportError
    if they contradict each other, or say it in another form.
    """
    found: dict[str, bool] = {}
    for text in rows[DIRECTIONS].dropna().unique() if DIRECTIONS in rows else ():
        try:
            stated = dict(json.loads(text))
        except (TypeError, ValueError):
            stated = {"": None}
        if not all(isinstance(higher, bool) for higher in stated.values()):
            raise ReportError(f"{DIRECTIONS}: {text!r}, expected an object of true and false")
        for name, higher in stated.items():
            if found.setdefault(name, higher) != higher:
                raise ReportError(f"{DIRECTIONS}: the rows contradict each other on {name!r}")
    return found


def higher_is_better(name: str, rows: pd.DataFrame) -> bool | None:
    """Whether it is, for a metric's column; None for another column, or where no row says it."""
    return directions(rows).get(name.removeprefix(METRIC)) if name.startswith(METRIC) else None


def losses(rows: pd.DataFrame) -> list[str]:
    """The upper losses behind the rows, sorted."""
    return sorted(rows.get(LOSS, pd.Series()).dropna().unique()) or [MSE]


def mixed(rows: pd.DataFrame) -> str:
    """Said of what is taken over tasks of several losses: `` (losses: l1, mse)``; else nothing."""
    several = losses(rows)
    return f" (losses: {', '.join(several)})" if len(several) > 1 else ""


def called(name: str, rows: pd.DataFrame, known: Mapping[str, str]) -> str:
    """What a column of the rows is called: one of the ``known`` names, else its own in words; a
    metric with ↑ or ↓, and F with its loss where that is not the mean squared error.
    """
    if name.startswith(METRIC):
        return name.removeprefix(METRIC) + ARROWS[higher_is_better(name, rows)]
    found = known.get(name, name.replace("_", " "))
    if name != "value":
        return found
    loss, *others = losses(rows)
    if loss == MSE and not others:
        return found
    loss = "each task's own loss" if others else loss
    return found.replace("(MSE)", f"({loss})") if "(MSE)" in found else f"{found}, {loss}"
