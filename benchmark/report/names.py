"""What tasks and configurations are called: benchopt's names taken apart, and what differs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

PAGES = Path(__file__).parent / "pages"
#: of each measured column: its header and decimals in tables (none: three significant digits), and
#: the label of an axis
COLUMNS = pd.read_csv(PAGES / "columns.csv", index_col="name")
AXES = COLUMNS["axis"].dropna().to_dict()
# what a scaling study varies of a problem; the number of images beside the probe costs nothing
VARIED = ("size", "n_train", "n_test", "probe_size", "ridge")


def parse_call(text: str) -> tuple[str, dict[str, str]]:
    """``name(a=1,b=f(c=2))`` or ``name[a:1]``: the name, and the text of each argument.

    benchopt's names hold text without quotes: what follows Python's syntax is for
    ``benchmark.options.spec``.
    """
    match = re.fullmatch(r"\s*([^\[(]+)[\[(](.*)[\])]\s*", text, flags=re.DOTALL)
    if match is None:
        return text.strip(), {}
    pieces, depth = [""], 0
    for character in match[2]:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    pairs = [re.split("[=:]", piece, maxsplit=1) for piece in pieces if piece.strip()]
    return match[1].strip(), {key.strip(): "".join(value).strip() for key, *value in pairs}


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
        text: parse_call(text)[1]
        | {key.removeprefix(prefix): written(value) for key, value in row.dropna().items()}
        for text, row in different.groupby(name).first().iterrows()
    }


def problems(raw: pd.DataFrame) -> pd.DataFrame:
    """A row for each (objective, dataset): ``task``, ``setting``, ``size``, ``batch``, ``ridge``.

    A task is named by the layer, the degradation, and what else differs; a setting likewise, but
    for what is ``VARIED``: tasks of one setting differ in nothing else.
    """
    objectives = parameters(raw, "objective_name", "p_obj_")
    datasets = parameters(raw, "dataset_name", "p_dataset_")
    heads, details, apart, numbers = {}, {}, {}, {}
    for key in raw[["objective_name", "dataset_name"]].drop_duplicates().itertuples(index=False):
        objective, dataset = objectives[key[0]].copy(), datasets[key[1]].copy()
        source, _ = parse_call(key[1])
        lower, layer = parse_call(objective.pop("lower", parse_call(key[0])[0]))
        kind, degradation = parse_call(dataset.pop("degradation", source))
        probe, ridge = objective.get("probe_size"), layer.get("ridge", 0)
        numbers[tuple(key)] = (dataset.get("size"), probe, dataset.get("n_train"), ridge)
        heads[tuple(key)] = f"{lower}, {kind}"
        groups = {"layer": layer, "degradation": degradation, "objective": objective}
        groups["dataset"] = dataset | {"dataset": source}
        details[tuple(key)] = _merged(groups)
        apart[tuple(key)] = _merged(groups, without=VARIED)
    columns = ["size", "batch", "n_train", "ridge"]
    found = pd.DataFrame.from_dict(numbers, orient="index", columns=columns)
    found = found.apply(pd.to_numeric, errors="coerce").astype(float)
    # the probe is of training images: all of them where it would be more
    seen = found[["batch", "n_train"]].min(axis="columns").where(found["batch"].notna())
    named = {"task": distinguish(heads, details), "setting": distinguish(heads, apart)}
    return found.drop(columns="n_train").assign(
        batch=seen, **{column: list(labels.values()) for column, labels in named.items()}
    )


def _merged(groups: Mapping[str, Mapping[str, str]], without: Sequence[str] = ()) -> dict[str, str]:
    """All arguments by name, the group's name before one that was there already."""
    merged: dict[str, str] = {}
    for group, arguments in groups.items():
        for key in [key for key in arguments if key not in without]:
            merged[f"{group} {key}" if key in merged else key] = arguments[key]
    return merged
