"""Which columns of a row may differ when the same run is made again."""

from __future__ import annotations

from fnmatch import fnmatch

#: measured with a clock, or of the whole process or device: never twice the same
MEASURED = (
    "time",
    "run_date",
    "objective_*_seconds",
    "objective_gradient_cost",
    "objective_overhead",
    "objective_contended",
    "objective_peak_device_mib",
)
#: where, with what and by which code a row was made, and how the plugins describe themselves: they
#: say why other columns may differ
CIRCUMSTANCES = (
    "platform*",
    "system-*",
    "env-*",
    "version-*",
    "benchmark-git-tag",
    "objective_torch_version",
    "objective_device_name",
    "objective_threads",
    "objective_sources*",
    "*_description",
)


def must_repeat(name: str) -> bool:
    """Whether the same run on the same machine gives this column the same value.

    Examples
    --------
    >>> must_repeat("objective_value"), must_repeat("objective_layer_seconds")
    (True, False)
    """
    return not any(fnmatch(name, pattern) for pattern in (*MEASURED, *CIRCUMSTANCES))
