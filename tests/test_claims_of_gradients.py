"""The claims about gradients: their rate, restarts, and where they are close to the exact one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from claimed import (
    KAPPA,
    OTHER,
    errors,
    only,
    span,
    student,
)
from scipy import stats

from benchmark.report.hypotheses import (
    FAILS,
    HOLDS,
    NOT_TESTED,
    UNDECIDED,
    line,
)

# --- (a) the rate ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pace", "verdict"),
    [(1.0, HOLDS), (0.96, HOLDS), (1.04, HOLDS), (0.8, FAILS), (0.94, FAILS), (3.0, FAILS)],
)
def test_where_theory_gives_equality_the_rate_is_two_sided(pace, verdict):
    found = only(errors(lambda k, r: 3 * KAPPA ** (pace * k)), "rate")
    assert span(found) == pytest.approx((pace, pace, pace), rel=1e-6)
    assert found.verdict == verdict
    assert found.note == "κ = 0.5, K = 1, 2, 4, R² = 1.0000"


@pytest.mark.parametrize(
    ("pace", "verdict"), [(3.0, HOLDS), (0.96, HOLDS), (0.94, FAILS), (0.8, FAILS)]
)
def test_elsewhere_it_is_a_bound_by_the_norm(pace, verdict):
    """The spectral radius 0.5 has no say: ‖J‖ = 0.7 has."""
    rows = errors(lambda k, r: 3 * 0.7 ** (pace * k), task=OTHER, jacobian_norm_start=0.7)
    found = only(rows, "bound")
    assert found.value == pytest.approx(pace) and found.verdict == verdict
    assert found.note.startswith("κ = 0.7,")
    assert only(rows, "rate").verdict == NOT_TESTED


@pytest.mark.parametrize(("pace", "verdict"), [(0.5, HOLDS), (1.0, UNDECIDED)])
def test_the_control_of_the_bound_is_damped(pace, verdict):
    """A damped step removes less: where its error keeps the bound too, the bound tells nothing."""
    known = {"task": OTHER, "jacobian_norm_start": 0.7}
    rows = errors(lambda k, r: 0.7**k, **known)
    damped = {"method": "Phantom", "restarts": math.nan}
    rows += [row | damped for row in errors(lambda k, r: 0.7 ** (pace * k), **known)]
    found = only(rows, "bound")
    assert found.verdict == verdict
    assert found.control == f"Phantom: {FAILS if pace < 1 else HOLDS} ({pace:g})"


def test_a_bound_that_some_depths_keep_and_others_do_not_is_undecided():
    rows = errors(lambda k, r: 0.7**k * (1 + (k == 2)), task=OTHER, jacobian_norm_start=0.7)
    assert only(rows, "bound").verdict == UNDECIDED


@pytest.mark.parametrize(
    ("norm", "why"), [(1.2, "κ = 1.2, not below 1"), (math.nan, "κ is in no row")]
)
def test_where_the_norm_bounds_nothing_nothing_is_claimed(norm, why):
    rows = errors(lambda k, r: KAPPA**k, task=OTHER, jacobian_norm_start=norm)
    found = only(rows, "bound")
    assert (found.verdict, found.note, found.task) == (NOT_TESTED, why, OTHER)
    assert np.isnan(span(found)).all()


def test_the_interval_of_the_rate_is_student_s():
    off = [0.3, -0.2, 0.1, -0.2]
    depths = np.array([1.0, 2.0, 3.0, 4.0])
    found = only(errors(lambda k, r: math.exp(-0.65 * k + off[k - 1]), (1, 2, 3, 4)), "rate")
    y, x = -0.65 * depths + off, depths - depths.mean()
    slope = x @ y / (x @ x)
    rest = y - y.mean() - slope * x
    half = stats.t.ppf(0.975, 2) * math.sqrt(rest @ rest / 2 / (x @ x))
    log = math.log(KAPPA)
    assert span(found) == pytest.approx(((slope + half) / log, slope / log, (slope - half) / log))
    assert found.verdict == UNDECIDED
    fit = line(pd.Series(depths), pd.Series(y))
    assert (fit.slope, fit.low, fit.high) == pytest.approx((slope, slope - half, slope + half))
    assert fit.r2 == pytest.approx(1 - rest @ rest / ((y - y.mean()) @ (y - y.mean())))
    assert line(pd.Series([1.0, 2.0, 2.0]), pd.Series([1.0, 2.0, 2.0])) is None
    assert line(pd.Series([1.0, 2.0, 3.0]), pd.Series([1.0, math.nan, 2.0])) is None


def test_the_rate_is_taken_at_equilibrium_and_above_the_reference():
    """The most restarts alone; κ^((R+1)K) at most 0.01; errors above 100 reference residuals."""
    rows = errors(lambda k, r: KAPPA**k, (2, 3, 4, 5), restarts=(4,))
    beside = [
        {"layers": 3.0, "restarts": 3.0, "gradient_error": 9.0},  # fewer restarts
        {"layers": 1.0, "restarts": 4.0, "gradient_error": 9.0},  # κ⁵ = 0.03 from equilibrium
        {"layers": 6.0, "restarts": 4.0, "gradient_error": 9.0, "reference_residual": 0.09},
        {"layers": 7.0, "restarts": 4.0, "gradient_error": KAPPA**7, "reference_residual": 7e-5},
    ]
    found = only(rows + beside, "rate")
    assert span(found) == pytest.approx((1, 1, 1)) and "K = 2, 3, 4, 5, 7," in found.note
    assert only(rows[:2], "rate").note == "needs three depths at equilibrium, found 2"


def test_what_would_hold_of_the_control_too_is_not_decided():
    rows = errors(lambda k, r: KAPPA**k)
    unrolled = [row | {"method": "Unrolling", "restarts": math.nan} for row in rows]
    found = only(rows + unrolled, "rate")
    assert (found.verdict, found.control) == (UNDECIDED, "Unrolling: HOLDS (1)")
    assert found.note.endswith("; it would of Unrolling too")
    faster = [row | {"gradient_error": row["gradient_error"] ** 2} for row in unrolled]
    found = only(rows + faster, "rate")
    assert (found.verdict, found.control) == (HOLDS, "Unrolling: FAILS (2)")
    assert only(rows, "rate").control == "Unrolling: NOT TESTED (no rows)"


# --- (b) restarts ---------------------------------------------------------------------------------


def neumann(exact, depths, **more) -> list[dict]:
    return [
        {"method": "Neumann", "parameters": {"terms": str(k)}, "gradient_error": exact(k), **more}
        for k in depths
    ]


def gaps(*ratios: tuple[float, ...], restarts=(1, 5, 20)) -> list[dict]:
    """Depths whose errors at R = 1, 5, 20 are above that of as many terms, relative to it."""
    depths, of = range(1, len(ratios) + 1), {r: i for i, r in enumerate(restarts)}
    rows = errors(lambda k, r: 0.01 * k * (1 + ratios[k - 1][of[r]]), depths, restarts)
    return rows + neumann(lambda k: 0.01 * k, depths)


def test_the_gap_is_to_the_terms_and_a_geometric_mean_over_depths():
    """0.2, 0.4 and, beyond a hundredfold, 0.01; the depth that had no gap does not count."""
    rows = gaps((0.5, 9, 0.1), (-0.25, 9, -0.1), (0.5, 9, 1e-9), (0.009, 9, 0.5))
    found = only(rows, "restarts")
    logs = np.log([0.2, 0.4, 0.01])
    assert found.value == pytest.approx(math.exp(logs.mean()))
    assert (found.low, found.high) == pytest.approx(tuple(np.exp(student(logs))), rel=1e-6)
    assert found.verdict == UNDECIDED and found.note == "R = 1 and 20, K = 1, 2, 3"


@pytest.mark.parametrize(
    ("errors_of_restarts", "verdict"),
    [
        ((0.5, 0.1, 0.05), HOLDS),
        ((0.5, 0.4, 0.3), FAILS),
        # they hurt: each takes it further away, and the last step is the smallest
        ((0.1, 0.5, 0.55), FAILS),
        # at the wrong place from the start
        ((0.5, 0.5, 0.5), FAILS),
    ],
)
def test_restarts_that_hurt_do_not_close_a_gap(errors_of_restarts, verdict):
    assert only(gaps(*[errors_of_restarts] * 3), "restarts").verdict == verdict


def test_the_control_of_restarts_is_to_have_none():
    rows = gaps(*[(0.5, 0.1, 0.05)] * 3)
    control = {"method": "Unrolling", "restarts": math.nan}
    worse, as_good = (
        [row | control | {"gradient_error": e * 0.01 * k} for k, row in enumerate(rows[2:9:3], 1)]
        for e in (2.0, 1.05)
    )
    assert only(rows + worse, "restarts").control == "Unrolling: FAILS (2)"
    assert only(rows + worse, "restarts").verdict == HOLDS
    assert only(rows + as_good, "restarts").verdict == UNDECIDED


def test_what_is_missing_for_restarts_is_said():
    rows, three = gaps(*[(0.5, 0.1, 0)] * 3), "at three depths"
    for lacking in (
        gaps((0.5, 0.1, 0), (0.5, 0.1, 0)),
        [row for row in rows if row.get("restarts", 1) == 1],
        [row for row in rows if "method" not in row],
        # not at the exact equilibrium
        [row | {"state_residual": 1e-3} for row in rows],
    ):
        found = only(lacking, "restarts")
        assert found.verdict == NOT_TESTED and found.note.endswith(three)
    closed = gaps((0.5, 0.1, 0), (0.01 - 1e-6, 0.5, 0), (0, 0, 0))
    assert only(closed, "restarts").note == "the fewest restarts, 1, leave no gap to close"


# --- (c) close to the exact gradient --------------------------------------------------------------


@pytest.mark.parametrize(
    ("least", "before", "verdict"),
    [
        (1e-3, 1e-3, HOLDS),
        (1.01e-3, 1.01e-3, FAILS),
        # from K = 2 to 4 it has to fall by κ = 0.5, the half of κ⁴⁻²
        (0.02, 0.0401, UNDECIDED),
        (0.02, 0.0399, FAILS),
    ],
)
def test_close_or_still_falling(least, before, verdict):
    rows = errors(lambda k, r: {1: 1.0, 2: before, 4: least}[k] * 2 / r, restarts=(1, 2))
    found = only([row | {"gradient_cosine": 0.25} for row in rows], "close")
    assert found.verdict == verdict and found.value == pytest.approx(least)
    said = {HOLDS: "", FAILS: "; no longer falling in K", UNDECIDED: "; still falling in K"}
    assert found.note == f"K = 4, R = 2; cosine 0.250000{said[verdict]}"


def test_a_lucky_setting_or_a_bad_deq_is_not_close():
    """The minimum over all settings would be; so would 0.02 beside a DEQ with an error of 0.5."""
    rows = errors(lambda k, r: 1e-6 if (k, r) == (2, 1) else 0.02, restarts=(1, 20))
    bad = {"method": "DEQ", "configuration": "DEQ", "gradient_error": 0.5}
    assert only([*rows, bad], "close").verdict == FAILS


def test_jfb_must_not_be_close():
    rows = errors(lambda k, r: 1e-4**k)
    for error, verdict in ((0.8, HOLDS), (1e-4, UNDECIDED)):
        jfb = {"method": "JFB", "gradient_error": error}
        assert only([*rows, jfb], "close").verdict == verdict
    assert only(errors(lambda k, r: 0.1, (2,)), "close").note == "needs two depths"


@pytest.mark.parametrize(
    ("kappa", "fall", "verdict"), [(1.2, 0.89, UNDECIDED), (0.99, 0.91, FAILS)]
)
def test_slow_layers_have_to_fall_by_a_tenth(kappa, fall, verdict):
    rows = errors(lambda k, r: {1: 0.1, 2: 0.1 * fall}[k], (1, 2), contraction=kappa)
    assert only(rows, "close").verdict == verdict


def test_repetitions_give_the_error_an_interval():
    rows = errors(lambda k, r: 0.5, (1,)) + errors(lambda k, r: 2e-4, (2,))
    rows += [rows[1] | {"gradient_error": e, "repetition": i} for i, e in ((1, 3e-4), (2, 4e-4))]
    found = only(rows, "close")
    bounds = np.exp(student(np.log([2e-4, 3e-4, 4e-4])))
    assert span(found) == pytest.approx((bounds[0], 3e-4, bounds[1])) and found.verdict == HOLDS
    rows[-1]["gradient_error"] = 1e-2  # one of three far off
    assert only(rows, "close").verdict != HOLDS


# --- (c) where it works ---------------------------------------------------------------------------


def depths(cosine, excess=None) -> list[dict]:
    """Two repetitions at K = 1, 2: the cosine at the start, F above DEQ's at the end."""
    rows = []
    for k, r in ((k, r) for k in (1, 2) for r in (0, 1)):
        own = {"layers": float(k), "restarts": 10.0, "repetition": r, "gradient_error": 0.1}
        rows.append(own | {"gradient_cosine": cosine(k, r)})
        if excess is not None:
            end = {"outer_step": 9.0, "gradient_error": math.nan, "value": 2 * (1 + excess(k, r))}
            rows += [own | end, own | end | {"method": "DEQ", "restarts": math.nan, "value": 2.0}]
    return rows


@pytest.mark.parametrize(
    ("cosine", "excess", "verdict", "share", "note"),
    [
        (lambda k, r: 0.1, lambda k, r: 0.009, HOLDS, 1, "K = 1, 2; none stops"),
        (lambda k, r: k - 1.0, lambda k, r: 0, FAILS, 0.5, "K = 1, 2; stops at 1"),
        (lambda k, r: 0.1, lambda k, r: 0.011 * (k > 1), FAILS, 0.5, "K = 1, 2; stops at 2"),
        (lambda k, r: 0.1 - r, lambda k, r: 0, UNDECIDED, 0, "K = 1, 2; stops at 1, 2"),
        (
            lambda k, r: 0.1,
            None,
            UNDECIDED,
            1,
            "K = 1, 2; none stops; by the cosine alone, F of DEQ is not known",
        ),
    ],
)
def test_it_works_where_it_points_downhill_and_gets_there(cosine, excess, verdict, share, note):
    found = only(depths(cosine, excess), "limits")
    assert (found.verdict, found.value, found.note) == (verdict, share, note)


def test_a_zero_estimate_a_diverged_run_and_a_bad_deq_do_not_work():
    rows = depths(lambda k, r: 0.1, lambda k, r: 0)
    trained = [row for row in rows if row.get("outer_step") and row.get("method") != "DEQ"]
    zero = [row | ({"gradient_cosine": math.nan} if row["layers"] == 2 else {}) for row in rows]
    assert only(zero, "limits").note == "K = 1, 2; stops at 2"
    for row in trained:
        row.update({"status": "diverged", "value": math.nan} if row["layers"] == 1 else {})
    assert (only(rows, "limits").verdict, only(rows, "limits").value) == (FAILS, 0.5)
    bad = [
        row | ({"gradient_error": 0.2} if row.get("method") == "DEQ" else {})
        for row in depths(lambda k, r: 0.1, lambda k, r: -0.5)
    ]
    found = only(bad, "limits")
    assert found.note.endswith("by the cosine alone, F of DEQ is not known")


@pytest.mark.parametrize(
    ("cosine", "excess", "control", "verdict"),
    [(-0.1, 0, FAILS, HOLDS), (0.1, 0.02, FAILS, HOLDS), (0.1, 0, HOLDS, UNDECIDED)],
)
def test_one_layer_is_the_control_of_what_works(cosine, excess, control, verdict):
    """Where JFB works too, that restarted JFB does tells nothing."""
    rows, one = depths(lambda k, r: 0.1, lambda k, r: 0), {"layers": math.nan, "restarts": math.nan}
    jfb = depths(lambda k, r: cosine, lambda k, r: excess)
    rows += [
        row | one | {"method": "JFB"} for row in jfb if row["layers"] == 1 and "method" not in row
    ]
    found = only(rows, "limits")
    assert (found.control.split(" (")[0], found.verdict) == (f"JFB: {control}", verdict)


def test_one_depth_is_not_every_depth():
    """It can be the one at which it stops."""
    for value, verdict in ((0.1, NOT_TESTED), (-0.1, FAILS)):
        rows = depths(lambda k, r, value=value: value)
        found = only([row for row in rows if row["layers"] == 2], "limits")
        assert found.verdict == verdict
    assert found.note.startswith("K = 2; stops at 2")


def test_without_a_cosine_nothing_is_said_of_what_works():
    assert only(errors(lambda k, r: 0.1), "limits").note == "no gradient cosine of Restarted-JFB"
