"""How a run ended: as benchopt has it, and as its rows say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.running.faults import one_line

#: a row's status that says nothing of the method: the cause may be gone when it is run again
PASSING = ("error", "oom", "timeout", "interrupted")
#: what the last row of a run that was cut says, by benchopt's status
CUT = {"timeout": "time limit", "max_runs": "row limit", "interrupted": "interrupted"}

Row = dict[str, object]


@dataclass(frozen=True)
class Run:
    """One method on one task, at one repetition.

    status : "finished", "row limit", "time limit", "interrupted", "failed", "skip",
    "not installed" or "not run yet"; reason : why it is not the first, or ""; cached : whether its
    rows come from the cache; rows : how many.
    """

    dataset: str
    objective: str
    solver: str
    status: str
    reason: str = ""
    cached: bool = False
    rows: int = 0


def passing(rows: Sequence[Mapping], status: str) -> bool:
    """Whether a run ended in a way that running it again may change: a failure, a time limit.

    A divergence is none: it is the method's, and comes again.
    """
    if status in ("timeout", "skip", "error", "interrupted"):
        return True
    return any(row.get("objective_status") in PASSING for row in rows)


def ended(names: Sequence[str], rows: list[Row], status: str, reason: str, cached: bool) -> Run:
    """The run that benchopt ended with ``status``; its last row is told why, if it was cut.

    ``names`` are those of dataset, objective and solver. The column ``objective_ended`` holds why a
    run ended, in its last row: an objective that knows writes "finished" or "error" there.
    """
    if rows and status in CUT and not rows[-1].get("objective_ended"):
        rows[-1]["objective_ended"] = CUT[status]
    bad = next((r for r in rows if r.get("objective_status", "ok") != "ok"), None)
    if bad is not None:
        reason = f"{bad['objective_status']}: {bad.get('objective_message', '')}"
        how = "interrupted" if bad["objective_status"] == "interrupted" else "failed"
        cached = cached and how == "failed"
    elif not rows and status in ("error", "diverged", "done"):
        reason, how = reason or "an exception: its message is above", "failed"
    elif rows and rows[-1].get("objective_ended") == "finished":
        how = "finished"
    else:
        how = CUT.get(status, {"done": "finished"}.get(status, status))
    return Run(*names, status=how, reason=one_line(reason), cached=cached, rows=len(rows))
