"""The measure, the interval and the verdict of each claim, on rows small enough to work out."""

from __future__ import annotations

import math
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmark.report.claims import FAILS, HOLDS, NOT_TESTED, UNDECIDED, claims, line, to_json
from benchmark.report.frame import RUN

KAPPA = 0.5
NOTHING = {
    "task": "wavelet_l1, denoising",
    "method": "Restarted-JFB",
    "configuration": "Restarted-JFB",
    "status": "ok",
    "outer_step": 0.0,
    "repetition": 0,
    "contraction": KAPPA,
    "test_psnr_images": None,
    **dict.fromkeys(
        ("layers", "restarts", "gradient_error", "gradient_cosine", "reference_residual"), math.nan
    ),
    **dict.fromkeys(("peak_memory_mib", "layer_evals", "value", "test_psnr"), math.nan),
}


def frame_of(rows: list[dict]) -> pd.DataFrame:
    own = [dict.fromkeys(RUN, "") | {"source": i} | NOTHING | row for i, row in enumerate(rows)]
    return pd.DataFrame(own)


def claims_of(rows: list[dict], key: str) -> list[SimpleNamespace]:
    """The claims of that key on a run of a single row each."""
    found = claims(frame_of(rows))
    table = found if isinstance(found, pd.DataFrame) else pd.DataFrame(map(asdict, found))
    return [SimpleNamespace(**row) for row in table.to_dict("records") if row["key"] == key]


def only(rows: list[dict], key: str) -> SimpleNamespace:
    (found,) = claims_of(rows, key)
    return found


def span(found) -> tuple[float, float, float]:
    return found.low, found.value, found.high


def student(numbers, level=0.95) -> tuple[float, float]:
    n, numbers = len(numbers), np.asarray(numbers)
    half = stats.t.ppf((1 + level) / 2, n - 1) * numbers.std(ddof=1) / math.sqrt(n)
    return numbers.mean() - half, numbers.mean() + half


# --- (a) the rate ---------------------------------------------------------------------------------


def errors(of, depths, restarts=(20,), **more) -> list[dict]:
    return [
        {"layers": float(k), "restarts": float(r), "gradient_error": of(k, r), **more}
        for k in depths
        for r in restarts
    ]


@pytest.mark.parametrize(
    ("pace", "verdict"), [(1.0, HOLDS), (0.81, HOLDS), (0.79, FAILS), (2.0, HOLDS)]
)
def test_the_rate_is_the_slope_over_log_kappa(pace, verdict):
    found = only(errors(lambda k, r: 3 * KAPPA ** (pace * k), (1, 2, 4)), "rate")
    assert span(found) == pytest.approx((pace, pace, pace), rel=1e-6)
    assert found.verdict == verdict
    assert found.note == "κ = 0.5, K = 1, 2, 4, R² = 1.0000"


def test_the_interval_of_the_rate_is_student_s():
    off = [0.3, -0.2, 0.1, -0.2]
    depths = np.array([1.0, 2.0, 3.0, 4.0])
    rows = errors(lambda k, r: math.exp(-0.55 * k + off[k - 1]), (1, 2, 3, 4))
    y = -0.55 * depths + off
    x = depths - depths.mean()
    slope = x @ y / (x @ x)
    rest = y - y.mean() - slope * x
    half = stats.t.ppf(0.975, 2) * math.sqrt(rest @ rest / 2 / (x @ x))
    log = math.log(0.5)
    found = only(rows, "rate")
    expected = ((slope + half) / log, slope / log, (slope - half) / log)
    assert span(found) == pytest.approx(expected)
    assert found.low < 0.8 < found.high and found.verdict == UNDECIDED
    fit = line(pd.Series(depths), pd.Series(y))
    assert (fit.slope, fit.low, fit.high) == pytest.approx((slope, slope - half, slope + half))
    assert fit.r2 == pytest.approx(1 - rest @ rest / ((y - y.mean()) @ (y - y.mean())))


def test_the_rate_is_taken_at_equilibrium_and_above_the_reference():
    """The most restarts alone; κ^(RK) at most 0.01; errors above 100 residuals of the reference."""
    rows = errors(lambda k, r: KAPPA**k, (2, 3, 4, 5), restarts=(4,))
    beside = [
        {"layers": 3.0, "restarts": 3.0, "gradient_error": 9.0},  # fewer restarts
        {"layers": 1.0, "restarts": 4.0, "gradient_error": 9.0},  # κ⁴ = 0.06 from equilibrium
        {"layers": 6.0, "restarts": 4.0, "gradient_error": 9.0, "reference_residual": 0.09},
        {"layers": 7.0, "restarts": 4.0, "gradient_error": KAPPA**7, "reference_residual": 7e-5},
    ]
    found = only(rows + beside, "rate")
    assert span(found) == pytest.approx((1, 1, 1)) and "K = 2, 3, 4, 5, 7," in found.note


def test_json_is_text_that_can_be_read():
    text = to_json(claims(frame_of(errors(lambda k, r: KAPPA**k, (1, 2, 4)))))
    assert "slope of log error in K / log κ" in text and "null" in text and "NaN" not in text


def test_a_state_at_the_bound_is_at_equilibrium():
    rows = errors(lambda k, r: 0.01**k, (1, 2, 3), restarts=(1,), contraction=0.01)
    assert only(rows, "rate").note.startswith("κ = 0.01, K = 1, 2, 3,")


@pytest.mark.parametrize(
    ("changes", "depths", "note"),
    [
        ({}, (2, 3), "needs Restarted-JFB at equilibrium at three depths, found 2"),
        ({"contraction": 1.0}, (2, 3, 4), "no contraction below 1 (κ = 1)"),
        ({"contraction": 0.0}, (2, 3, 4), "no contraction below 1 (κ = 0)"),
        ({"reference_residual": 1.0}, (2, 3, 4), "at three depths, found none"),
        ({"gradient_error": 0.0}, (2, 3, 4), "no contraction below 1 (κ = nan)"),
        ({"restarts": math.nan}, (2, 3, 4), "no contraction below 1 (κ = nan)"),
    ],
)
def test_what_is_missing_for_the_rate_is_said(changes, depths, note):
    rows = [row | changes for row in errors(lambda k, r: KAPPA**k, depths)]
    found = only(rows, "rate")
    assert found.verdict == NOT_TESTED and found.note.endswith(note)
    assert np.isnan(span(found)).all()


def test_a_task_that_is_tested_hides_those_that_are_not():
    rows = errors(lambda k, r: KAPPA**k, (2, 3, 4))
    short = errors(lambda k, r: KAPPA**k, (2, 3), task="a, b")
    assert [c.task for c in claims_of(rows + short, "rate")] == [NOTHING["task"]]
    other = [row | {"task": "z, b"} for row in rows]
    assert [c.task for c in claims_of(other + rows, "rate")] == [NOTHING["task"], "z, b"]
    assert [c.task for c in claims_of(short, "rate")] == ["a, b"]


# --- (b) restarts ---------------------------------------------------------------------------------


def gaps(*ratios: tuple[float, float, float]) -> list[dict]:
    """Depths whose errors at R = 1, 5, 20 are those above the last, relative to it."""
    table = {float(k): row for k, row in enumerate(ratios, start=1)}
    of = dict(zip((1, 5, 20), range(3), strict=True))
    return errors(lambda k, r: 0.01 * k * (1 + table[k][of[r]]), table, restarts=(1, 5, 20))


def test_the_gap_is_a_geometric_mean_over_depths():
    """0.2, 0.4 and, beyond tenfold, 0.1; the depth that had no gap does not count."""
    rows = gaps((0.5, 0.1, 0), (-0.25, -0.1, 0), (0.5, 0.01, 0), (0.009, 0.5, 0))
    found = only(rows, "restarts")
    logs = np.log([0.2, 0.4, 0.1])
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx(tuple(np.exp(student(logs))), rel=1e-6)
    assert found.verdict == UNDECIDED and found.high > 1
    assert found.note.startswith("R = 1, 5 against 20; K = 1, 2, 3;")


@pytest.mark.parametrize(("left", "verdict"), [(0.2, HOLDS), (0.4, FAILS), (0.16, HOLDS)])
def test_a_gap_that_stays_or_grows_fails(left, verdict):
    found = only(
        gaps(*[(0.2, left * 1.1, 0), (0.2, left * 0.9, 0), (0.2, left / 2, 0)]), "restarts"
    )
    # near one the interval decides
    assert found.verdict in (verdict, UNDECIDED)
    even = only(gaps(*[(0.25, left, 0)] * 3), "restarts")
    assert even.verdict == verdict and span(even) == pytest.approx([left / 0.25] * 3)


def test_what_is_missing_for_restarts_is_said():
    assert only(gaps((0.5, 0.1, 0), (0.5, 0.1, 0)), "restarts").note == (
        "needs three numbers of restarts at three depths"
    )
    rows = gaps(*[(0.5, 0.1, 0)] * 3)
    two = [row for row in rows if row["restarts"] != 5]
    assert only(two, "restarts").note == "needs three numbers of restarts at three depths"
    closed = gaps((0.5, 0.1, 0), (0.01 - 1e-6, 0.5, 0), (0, 0, 0))
    assert only(closed, "restarts").note == "the fewest restarts, 1, leave no gap to close"
    # two open gaps are enough; repetitions count by their median
    rows = gaps((0.5, 0.1, 0), (0.5, 0.1, 0), (0, 0, 0))
    rows += [rows[0] | {"gradient_error": e} for e in (0.0149, 7.0)]
    found = only(rows, "restarts")
    assert span(found) == pytest.approx((0.2, 0.2, 0.2)) and found.verdict == HOLDS


# --- (c) close to DEQ -----------------------------------------------------------------------------


def deq(error: float, **more) -> dict:
    return {"method": "DEQ", "configuration": "DEQ", "gradient_error": error, **more}


@pytest.mark.parametrize(
    ("least", "before", "own", "verdict"),
    [
        (1e-3, 1e-3, math.nan, HOLDS),
        (1.01e-3, 1.01e-3, 1e-6, FAILS),
        (0.02, 0.02, 0.02, HOLDS),
        # from K = 2 to 4 it has to fall by κ = 0.5, the half of κ⁴⁻²
        (0.02, 0.0401, 1e-6, UNDECIDED),
        (0.02, 0.0399, 1e-6, FAILS),
    ],
)
def test_close_or_still_falling(least, before, own, verdict):
    rows = errors(lambda k, r: {1: 1.0, 2: before, 4: least}[k] * r, (1, 2, 4), (1, 2))
    rows = [row | {"gradient_cosine": 0.25} for row in rows]
    found = only([*rows, deq(own), deq(0.5, task="a, b")], "close")
    assert found.verdict == verdict and found.value == pytest.approx(least)
    assert math.isnan(found.low) and math.isnan(found.high)
    said = "" if verdict == HOLDS else "; still falling in K"
    said = "; no longer falling in K" if verdict == FAILS else said
    depth = 2 if before == least else 4
    error = "–" if math.isnan(own) else f"{own:.4g}"
    note = f"K = {depth}, R = 1; cosine 0.250000; DEQ's error {error}{said}"
    assert found.note.replace("—", "–").replace("-;", "–;") == note


@pytest.mark.parametrize(
    ("kappa", "fall", "verdict"), [(1.2, 0.89, UNDECIDED), (0.99, 0.91, FAILS)]
)
def test_slow_layers_have_to_fall_by_a_tenth(kappa, fall, verdict):
    rows = errors(lambda k, r: {1: 0.1, 2: 0.1 * fall}[k], (1, 2), contraction=kappa)
    assert only(rows, "close").verdict == verdict


def test_repetitions_give_the_smallest_error_an_interval():
    rows = errors(lambda k, r: 0.5**k, (1, 2))
    rows += [row | {"gradient_error": e} for row, e in zip(rows[1:] * 2, (0.2, 0.3), strict=True)]
    found = only(rows, "close")
    assert found.value == pytest.approx(0.25)
    assert (found.low, found.high) == pytest.approx(student([0.2, 0.25, 0.3]))
    assert only(rows[:1], "close").note == "needs Restarted-JFB at two depths"


# --- (d) memory -----------------------------------------------------------------------------------


def memory(method: str, mib: dict[float, float], *, of: str = "layers", **more) -> list[dict]:
    return [{"method": method, of: float(k), "peak_memory_mib": m, **more} for k, m in mib.items()]


@pytest.mark.parametrize("method", ["Unrolling", "Restarted-JFB"])
def test_memory_is_a_line(method):
    def verdict(mib):
        found = {c.statement.split()[2]: c for c in claims_of(memory(method, mib), "memory-linear")}
        return found[method]

    straight = verdict({1: 3, 2: 5, 4: 9})
    assert straight.verdict == HOLDS and straight.value == pytest.approx(1)
    assert straight.note == "slope 2 [2, 2] MiB per layer"
    assert verdict({1: 9, 2: 7, 4: 3}).verdict == FAILS
    assert verdict({1: 5, 2: 5, 4: 5}).verdict == HOLDS  # 0 is not below 0
    bent = verdict({1: 1, 2: 4, 3: 9, 4: 16})  # R² of a parabola: 0.9689
    assert bent.verdict == FAILS and bent.value == pytest.approx(1 - 4 / 129)
    almost = verdict({1: 1, 2: 2.1, 3: 2.9})  # R² = 0.9945, the interval of the slope holds 0
    assert almost.value > 0.99 and almost.verdict == UNDECIDED


def test_what_is_missing_for_a_line_is_said():
    found = claims_of(memory("Unrolling", {1: 3, 2: 5}), "memory-linear")[0]
    assert found.verdict == NOT_TESTED and found.note.endswith("three depths, found 2")
    assert line(pd.Series([1.0, 2.0, 3.0]), pd.Series([1.0, math.nan, 2.0])) is None
    assert line(pd.Series([1.0, 2.0, 2.0]), pd.Series([1.0, 2.0, 2.0])) is None


UNROLLED = memory("Unrolling", {1: 3, 2: 5, 4: 9})  # 2 MiB a layer


@pytest.mark.parametrize("method", ["JFB", "DEQ"])
@pytest.mark.parametrize(("growth", "verdict"), [(0.0, HOLDS), (0.099, HOLDS), (0.102, FAILS)])
def test_memory_that_does_not_grow(method, growth, verdict):
    own = memory(method, {k: 4 + growth * k for k in (10, 20, 40)}, of="layer_evals")
    (found,) = [c for c in claims_of(UNROLLED + own, "memory-constant") if method in c.statement]
    assert span(found) == pytest.approx((growth / 2,) * 3, abs=1e-9)
    assert found.verdict == verdict and found.note == "layers run: 10, 20, 40"


@pytest.mark.parametrize(("mib", "verdict"), [(12.9, HOLDS), (13.1, UNDECIDED)])
@pytest.mark.parametrize("fewer", [{}, {50: 7.0}])
def test_memory_at_one_or_two_numbers_of_layers_is_bounded(mib, verdict, fewer):
    """What is above one unrolled layer's 3 MiB, over the 99 other layers and unrolling's 2 MiB."""
    own = memory("DEQ", fewer | {100: mib}, of="layer_evals")
    (found,) = [c for c in claims_of(UNROLLED + own, "memory-constant") if "DEQ" in c.statement]
    assert found.value == pytest.approx((mib - 3) / 99 / 2) and found.verdict == verdict
    assert math.isnan(found.low) and math.isnan(found.high)
    assert f"a bound: {mib:.3g} MiB at 100 layers run, 3 MiB for one unrolled layer" in found.note


def test_what_is_missing_for_flat_memory_is_said():
    own = [row for m in ("JFB", "DEQ") for row in memory(m, {100: 4.0}, of="layer_evals")]
    for peers, number in (
        (UNROLLED[:2], "2"),
        ([], "none"),
        (memory("Unrolling", {1: 3, 2: 3, 4: 3}), "3"),
        ([row | {"task": "a, b"} for row in UNROLLED], "none"),
    ):
        found = claims_of([*peers, *own], "memory-constant")[0]
        assert found.verdict == NOT_TESTED
        assert found.note == f"needs Unrolling at three depths, found {number}"


# --- (e) accuracy ---------------------------------------------------------------------------------


def run(method: str, psnr, *, value=1.0, name: str = "", **more) -> dict:
    """The end of a training run."""
    own = {"test_psnr_images": list(psnr), "test_psnr": float(np.mean(psnr)), "value": value}
    return {"method": method, "configuration": name or method, "outer_step": 10.0, **own, **more}


def accuracy(rows: list[dict], family: str = "weighted norms") -> list[SimpleNamespace]:
    return [c for c in claims_of(rows, "accuracy") if c.statement.endswith(family)]


HARD = [20.0, 25.0, 31.0]


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ([0.05, 0.06, 0.05], HOLDS),
        ([-0.05, -0.06, -0.05], HOLDS),
        ([0.15, 0.16, 0.15], FAILS),
        ([-0.15, -0.16, -0.15], FAILS),
        ([0.05, 0.1, 0.15], UNDECIDED),
    ],
)
def test_accuracy_is_a_paired_difference(gaps, verdict):
    rows = [run("Restarted-JFB", np.add(HARD, gaps)), run("DEQ", HARD)]
    (found,) = accuracy(rows)
    low, high = student(gaps)
    assert span(found) == pytest.approx((low, np.mean(gaps), high)) and found.verdict == verdict
    assert found.note == "Restarted-JFB against DEQ; paired, 3 images (each as a photograph)"


def test_the_configuration_is_chosen_by_the_training_set():
    rows = [
        run("Restarted-JFB", np.add(HARD, 9), value=2.0, name="better on the test set"),
        run("Restarted-JFB", np.add(HARD, 0.01), value=1.0, name="mine"),
        run("DEQ", HARD, value=3.0, name="yours"),
        run("DEQ", np.add(HARD, 9), value=3.5, name="not yours"),
        # neither failures, nor starts, nor other methods, nor what has no loss
        run("DEQ", np.add(HARD, 5), value=0.1, name="failed", status="diverged"),
        run("DEQ", np.add(HARD, 5), value=0.1, name="start", outer_step=0.0),
        run("JFB", np.add(HARD, 5), value=0.1, name="other"),
        run("DEQ", np.add(HARD, 5), value=math.nan, name="unknown"),
    ]
    (found,) = accuracy(rows)
    assert found.value == pytest.approx(0.01) and found.note.startswith("mine against yours;")


def test_each_family_has_its_lower_levels():
    pair = [run("Restarted-JFB", HARD), run("DEQ", HARD)]
    for lower, family in (
        ("wavelet_l1", "weighted norms"),
        ("wavelet_l12", "weighted norms"),
        ("pnp", "Plug-and-Play"),
        ("drunet", "DRUNet"),
    ):
        rows = [row | {"task": f"{lower}, inpainting (keep=0.5)"} for row in pair]
        for other in ("weighted norms", "Plug-and-Play", "DRUNet"):
            (found,) = accuracy(rows, other)
            assert (found.verdict == HOLDS) == (other == family)
            if other != family:
                assert found.note.startswith("no trained runs of Restarted-JFB and DEQ on ")
    (found,) = accuracy(pair[:1])
    assert found.note.endswith("on wavelet_l1 or wavelet_l12") and found.verdict == NOT_TESTED
    both = accuracy([*pair, *(row | {"task": "wavelet_l12, a"} for row in pair)])
    assert [c.task for c in both] == ["wavelet_l1, denoising", "wavelet_l12, a"]


def test_without_an_interval_there_is_no_verdict():
    rows = [run(m, HARD, test_psnr_images=None) for m in ("Restarted-JFB", "DEQ")]
    (found,) = accuracy(rows)
    assert found.verdict == NOT_TESTED and found.value == 0 and math.isnan(found.low)
    assert found.note == (
        "Restarted-JFB against DEQ; no interval: one repetition and no values per image"
    )
