"""Names of columns of a row, as those who measure and those who report know them."""

from __future__ import annotations

from fnmatch import fnmatch

#: θ that all methods of a task share: their start; what exact gradients reach from it; the latter
#: with states and adjoints that were left on the way (elsewhere nothing is carried over)
PLACES = ("start", "reached", "reached_warm")
#: what is measured of a method at each of them: ``objective_gradient_error_start``, …
AT_PLACES = (
    "gradient_error",
    "gradient_cosine",
    "layer_evals",
    "vjp_evals",
    "gradient_seconds",
    "peak_memory_mib",
)
#: what is measured at the two θ of any method: ‖∇F‖ on the probe, and how far to trust it
AT_THETA = ("gradient_norm", "reference_residual")
#: all of these, and ‖J‖ on the probe at the start
COMMON = (
    "jacobian_norm_start",
    *(f"{name}_{place}" for place in PLACES for name in AT_PLACES),
    *(f"{name}_{place}" for place in PLACES[:2] for name in AT_THETA),
)

#: measured with a clock, or of the whole process or device: never twice the same
MEASURED = (
    "time",
    "run_date",
    "objective_*_seconds*",
    "objective_gradient_cost",
    "objective_overhead*",
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
