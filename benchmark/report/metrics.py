"""Metrics that a study adds to PSNR and SSIM, and what F is a mean of: their names and directions.

A metric NAME is the column ``metric_NAME`` of the tidy frame and of a table's numbers; beside it
the column ``higher_is_better`` holds a JSON object, from the names to true or false. The column
``loss`` names the upper loss ℓ of F(θ).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pandas as pd

from benchmark.report.reading import METRIC, ReportError

DIRECTIONS, LOSS = "higher_is_better", "loss"
MSE = "mse"
ARROWS = {True: " ↑", False: " ↓", None: ""}


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
    return sorted(set(rows.get(LOSS, pd.Series()).dropna())) or [MSE]


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
