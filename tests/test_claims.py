"""The measure, the interval and the verdict of each claim, on rows small enough to work out."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from claimed import (
    KAPPA,
    ONE_MODULUS,
    OTHER,
    errors,
    frame_of,
    only,
    span,
    student,
)
from conftest import ROOT
from made_up import DENOISING, cli, run, save

from benchmark.report import claims as module
from benchmark.report.claims import claims, text, to_json
from benchmark.report.frame import tidy
from benchmark.report.hypotheses import (
    BETTER,
    FAILS,
    HOLDS,
    NOT_TESTED,
    STATEMENTS,
    UNDECIDED,
    WORSE,
)


def test_each_claim_says_what_would_be_enough_and_what_must_not_pass():
    assert (STATEMENTS["margin"] > 0).all()
    assert (STATEMENTS[["statement", "measure", "criterion", "control"]] != "").all(axis=None)


# --- (d) memory -----------------------------------------------------------------------------------


def memory(method: str, mib: dict[float, float], *, of: str = "layers", **more) -> list[dict]:
    return [{"method": method, of: float(k), "peak_memory_mib": m, **more} for k, m in mib.items()]


UNROLLED = memory("Unrolling", {1: 3, 2: 5, 4: 9})  # 2 MiB a layer


@pytest.mark.parametrize("method", ["Unrolling", "Restarted-JFB"])
@pytest.mark.parametrize(
    ("mib", "verdict"),
    [
        ({1: 3, 2: 5, 4: 9}, HOLDS),
        ({1: 9, 2: 7, 4: 3}, FAILS),
        # constant, or as good as that, though a line with a slope above 0
        ({1: 5, 2: 5, 4: 5}, FAILS),
        ({1: 5, 2: 5.0001, 4: 5.0003}, FAILS),
        ({1: 1, 2: 4, 3: 9, 4: 16}, FAILS),  # R² of a parabola: 0.9689
        ({1: 3, 2: 3.6, 4: 4.5}, UNDECIDED),  # R² = 0.9944, the interval holds a half
        ({2: 3.2, 5: 3.5, 20: 5}, UNDECIDED),  # of 20 layers 2 / 5 is theirs, of 80 it is 8 / 11
        ({2: 3.04, 5: 3.1, 20: 3.4}, FAILS),  # of 80 it would be 1.6 / 4.6
        ({2: 3, 3: 5, 4: 9}, NOT_TESTED),
    ],
)
def test_memory_is_a_line_that_depth_accounts_for(method, mib, verdict):
    found = only(memory(method, mib), "memory-linear", method)
    assert found.verdict == verdict, span(found)


def test_constant_memory_is_the_control_of_linear():
    found = only(UNROLLED, "memory-linear", "Unrolling")
    assert span(found) == pytest.approx((8 / 9,) * 3)
    assert found.note == "R² = 1.0000, 2 MiB per layer, K = 1, 2, 4"
    for mib, verdict in (({10: 4, 20: 4, 40: 4}, HOLDS), ({10: 40, 20: 80, 40: 160}, UNDECIDED)):
        rows = UNROLLED + memory("JFB", mib, of="layer_evals")
        assert only(rows, "memory-linear", "Unrolling").verdict == verdict
    assert only(UNROLLED[:2], "memory-linear", "Unrolling").note == "needs three depths, found 2"


@pytest.mark.parametrize("method", ["JFB", "DEQ"])
@pytest.mark.parametrize(
    ("growth", "verdict"), [(0.0, HOLDS), (0.099, HOLDS), (0.102, FAILS), (2.0, FAILS)]
)
def test_memory_that_does_not_grow(method, growth, verdict):
    own = memory(method, {k: 4 + growth * k for k in (10, 20, 40)}, of="layer_evals")
    unrolled = [row | {"layer_evals": row["layers"]} for row in UNROLLED]
    found = only(unrolled + own, "memory-constant", method)
    assert span(found) == pytest.approx((growth / 2,) * 3, abs=1e-9)
    assert found.verdict == verdict and found.note == "layers run: 10, 20, 40"
    assert found.control == "Unrolling: FAILS (1)"


def test_memory_that_jumps_is_undecided():
    own = memory("DEQ", {10: 4, 20: 6, 40: 4.1, 80: 6.2}, of="layer_evals")
    assert only(UNROLLED + own, "memory-constant", "DEQ").verdict == UNDECIDED


def test_what_is_missing_for_flat_memory_is_said():
    for mib in ({1: 4.0}, {1: 4.0, 100: 4.0}):  # one layer is no division by zero
        found = only(UNROLLED + memory("DEQ", mib, of="layer_evals"), "memory-constant", "DEQ")
        assert found.note == f"needs three numbers of layers run, found {len(mib)}"
    for peers, number in (
        (UNROLLED[:2], "2"),
        ([], "none"),
        (memory("Unrolling", {1: 3, 2: 3, 4: 3}), "3"),
    ):
        rows = [*peers, *memory("DEQ", {1: 4.0}, of="layer_evals")]
        found = only(rows, "memory-constant", "DEQ")
        assert found.note == f"needs Unrolling at three depths, found {number}"


# --- (e) accuracy ---------------------------------------------------------------------------------

HARD = [20.0, 25.0, 31.0]


def trained(method: str, psnr, *, value=1.0, name: str = "", **more) -> dict:
    """The end of a training run."""
    own = {"test_psnr_images": list(psnr), "test_psnr": float(np.mean(psnr)), "value": value}
    return {"method": method, "configuration": name or method, "outer_step": 10.0, **own, **more}


def pair(gaps, **more) -> list[dict]:
    return [trained("Restarted-JFB", np.add(HARD, gaps), **more), trained("DEQ", HARD, **more)]


FAMILY = "weighted norms"


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ([0.05, 0.06, 0.05], HOLDS),
        ([-0.05, -0.06, -0.05], HOLDS),  # significantly worse, by no more than the margin
        ([0.05, -0.06, 0.25], UNDECIDED),
        ([0.15, 0.16, 0.15], BETTER),
        ([0.09, 0.1, 0.09], BETTER),
        ([-0.09, -0.1, -0.095], WORSE),
        ([-0.15, -0.16, -0.15], FAILS),
        ([-0.05, -0.1, -0.15], UNDECIDED),
    ],
)
def test_accuracy_is_a_paired_difference_that_need_not_be_small(gaps, verdict):
    found = only(pair(gaps), "accuracy", FAMILY)
    low, high = student(gaps)
    assert span(found) == pytest.approx((low, np.mean(gaps), high)) and found.verdict == verdict
    assert found.note == "Restarted-JFB against DEQ; paired, over 3 images (each as a photograph)"


def test_unrolling_must_not_be_as_accurate():
    for gap, verdict in ((-0.5, HOLDS), (-0.05, UNDECIDED), (0.5, HOLDS)):
        unrolled = trained("Unrolling", np.add(HARD, [gap, gap, gap * 1.01]))
        found = only([*pair([0.05, 0.06, 0.05]), unrolled], "accuracy", FAMILY)
        assert found.verdict == verdict and found.control.startswith("Unrolling: ")


def test_crops_of_one_photograph_are_one():
    rows = pair([0.05, 0.06, 0.05], test_photographs='["a", "a", "b"]')
    found = only(rows, "accuracy", FAMILY)
    assert found.note.endswith("over 2 photographs") and found.verdict == HOLDS
    alone = only(pair([0.05, 0.06, 0.05], test_photographs='["a", "a", "a"]'), "accuracy", FAMILY)
    assert alone.verdict == NOT_TESTED
    assert alone.note.endswith("no interval (1 photograph and one repetition)")


def test_a_deq_that_is_none_is_not_compared_with():
    for error, verdict in ((0.09, HOLDS), (0.11, NOT_TESTED)):
        rows = pair([0.05, 0.06, 0.05])
        rows[1]["gradient_error"] = error
        assert only(rows, "accuracy", FAMILY).verdict == verdict


def test_the_configuration_is_chosen_by_the_training_set():
    rows = [
        trained("Restarted-JFB", np.add(HARD, 9), value=2.0, name="better on the test set"),
        trained("Restarted-JFB", np.add(HARD, 0.01), value=1.0, name="mine"),
        trained("DEQ", HARD, value=3.0, name="yours"),
        trained("DEQ", np.add(HARD, 9), value=3.5, name="not yours"),
        # neither failures, nor starts, nor other methods, nor what has no loss
        trained("DEQ", np.add(HARD, 5), value=0.1, name="failed", status="diverged"),
        trained("DEQ", np.add(HARD, 5), value=0.1, name="start", outer_step=0.0),
        trained("JFB", np.add(HARD, 5), value=0.1, name="other"),
        trained("DEQ", np.add(HARD, 5), value=math.nan, name="unknown"),
    ]
    found = only(rows, "accuracy", FAMILY)
    assert found.value == pytest.approx(0.01) and found.note.startswith("mine against yours;")


@pytest.mark.parametrize("cut", [{"ending": "cut by the time limit"}, {"ending": "interrupted"}])
def test_a_run_that_was_cut_is_not_compared(cut):
    ours, deq = pair([0.5, 0.6, 0.5])
    for rows, other in (([ours, deq | cut], "DEQ"), ([ours | cut, deq], "Restarted-JFB")):
        assert only(rows, "accuracy", FAMILY).note == f"no trained runs of {other}"


@pytest.mark.parametrize(
    ("gaps", "method", "verdict"),
    [
        ([0.05, 0.06, 0.05], "Restarted-JFB", UNDECIDED),
        ([0.5, 0.6, 0.5], "Restarted-JFB", UNDECIDED),
        ([-0.5, -0.6, -0.5], "Restarted-JFB", FAILS),
        ([0.05, 0.06, 0.05], "DEQ", HOLDS),
    ],
)
def test_runs_that_diverged_are_not_forgotten(gaps, method, verdict):
    """The other repetition alone would say that all is well."""
    rows = [*pair(gaps), *pair(gaps, repetition=1)]
    row = next(row for row in rows if row["method"] == method and row.get("repetition"))
    row |= {"status": "diverged", "ending": "diverged", "value": math.nan}
    row |= {"test_psnr": math.nan, "test_psnr_images": None}
    found = only(rows, "accuracy", FAMILY)
    assert found.verdict == verdict and "; diverged: " in found.note
    assert found.note.partition(";")[0] == "Restarted-JFB against DEQ"
    sound = [trained(method, np.add(HARD, 0.04), value=2.0, name="sound") for _ in range(2)]
    rows += [row | {"repetition": r} for r, row in enumerate(sound)]
    assert "diverged" not in only(rows, "accuracy", FAMILY).note


def test_each_family_has_its_lower_levels():
    families = {"wavelet_l12": FAMILY, "pnp": "Plug-and-Play", "drunet": "DRUNet"}
    for lower, mine in families.items():
        rows = pair([0.0, 0.01, 0.0], task=f"{lower}, inpainting (keep=0.5)")
        for family in families.values():
            found = only(rows, "accuracy", family)
            assert found.verdict == (HOLDS if family == mine else NOT_TESTED)
            assert (found.note == "no task of this kind") == (family != mine)
        for alone, other in ((rows[:1], "DEQ"), (rows[1:], "Restarted-JFB")):
            assert only(alone, "accuracy", mine).note == f"no trained runs of {other}"


# --- the table ------------------------------------------------------------------------------------


def test_every_claim_is_listed_on_every_task():
    """Those tested each in a row, the others by what they lack, none left out."""
    rows = errors(lambda k, r: KAPPA**k) + errors(lambda k, r: KAPPA**k, task=OTHER)
    found = claims(frame_of([*rows, *errors(lambda k, r: 0.1, (1,), task="pnp, denoising")]))
    tasks = {ONE_MODULUS, OTHER, "pnp, denoising"}
    by_key = found.groupby("key")["task"].agg(lambda own: {t for o in own for t in o.split("; ")})
    assert set(by_key.index) == set(STATEMENTS.index)
    for key in ("restarts", "close", "limits", "memory-linear", "memory-constant", "accuracy"):
        assert by_key[key] - {""} == tasks
    assert by_key["rate"] == {ONE_MODULUS} and by_key["bound"] == tasks - {ONE_MODULUS}
    nothing = claims(frame_of([{"method": "Grid-Search"}]))
    assert set(nothing["verdict"]) == {NOT_TESTED} and (nothing["note"] != "").all()
    assert len(nothing) == len(module.CLAIMS)


def test_neither_order_nor_repeat_changes_the_text():
    rows = errors(lambda k, r: KAPPA**k) + UNROLLED + pair([0.05, 0.06, 0.05])
    frame = frame_of(rows)
    assert text(claims(frame)).equals(text(claims(frame.sample(frac=1, random_state=3))))
    written = to_json(claims(frame))
    assert "null" in written and "NaN" not in written and json.loads(written)


def test_command_line(tmp_path, monkeypatch):
    path = save(pd.DataFrame(run("DEQ", {}, task=DENOISING)), tmp_path / "a.parquet")
    code, printed, _ = cli("claims", path, "--strict", "--out", tmp_path / "c.json")
    assert code == 0 and printed.startswith("| verdict |")
    found = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert {claim["verdict"] for claim in found} == {NOT_TESTED}
    assert found[0]["value"] is None
    code, _, complaint = cli("claims", path, "--out", tmp_path / "c.txt")
    assert code == 2 and complaint.count("\n") == 1
    failed = frame_of(errors(lambda k, r: 0.9**k))
    monkeypatch.setattr(module, "tidy", lambda rows: failed)
    assert cli("claims", path, "--strict")[0] == 1
    assert cli("claims", path)[0] == 0


def test_results_kept_here():
    """The sweep of this repository: the rate of denoising is κ by construction."""
    path = ROOT / "results" / "gradient_error" / "gradient_error.parquet"
    found = claims(tidy(module.read([path]).rows)).set_index("key")
    rate = found.loc["rate"]
    assert rate["verdict"] == HOLDS and "κ = 0.8," in rate["note"]
    assert FAILS not in set(found.loc[["restarts", "close"], "verdict"])
