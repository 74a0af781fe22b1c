"""Each claim on made-up rows where it holds and where it fails, and on the results kept here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_report import DENOISING, INPAINTING, SWEEP, cli, run, save

from benchmark.report import claims as module
from benchmark.report.claims import FAILS, HOLDS, NOT_TESTED, UNDECIDED, claims, text, to_json
from benchmark.report.frame import tidy

ROOT = Path(__file__).resolve().parents[1]
KAPPA = 0.8


def error(layers: int, restarts: int) -> float:
    """Truncation, and what the state leaves."""
    return KAPPA**layers + 2 * KAPPA ** ((restarts + 1) * layers)


def sweep(**changes) -> pd.DataFrame:
    """Depths × restarts without training; ``changes`` map (method, parameters) to new columns."""
    rows = []
    for method, parameters in SWEEP:
        for row in run(method, parameters, task=DENOISING, evaluations=1):
            layers, restarts = parameters.get("layers", 1), parameters.get("restarts", 0)
            row["objective_contraction"] = KAPPA
            row["objective_layer_evals"] = float((restarts + 1) * layers)
            row["objective_peak_memory_mib"] = 2 + 0.2 * layers
            if method == "Restarted-JFB":
                row["objective_gradient_error"] = error(layers, restarts)
            for column, change in changes.items():
                row[f"objective_{column}"] = change(method, layers, restarts, row)
            rows.append(row)
    for evals in (100.0, 200.0, 400.0):
        for method in ("JFB", "DEQ"):
            (row,) = run(method, {"tol": 1 / evals}, task=DENOISING, evaluations=1)
            mib = 2.2 + (0.2 * evals if "grows" in changes else 0.0)
            rows.append(row | {"objective_layer_evals": evals, "objective_peak_memory_mib": mib})
    return tidy(pd.DataFrame(rows))


def verdicts(frame: pd.DataFrame) -> dict[str, list[str]]:
    return claims(frame).groupby("key")["verdict"].agg(list).to_dict()


def first(found: pd.DataFrame, key: str) -> pd.Series:
    return found[found["key"] == key].iloc[0]


def test_all_hold_where_they_should():
    found = verdicts(sweep())
    assert found["rate"] == found["restarts"] == found["close"] == [HOLDS]
    assert found["memory-linear"] == [HOLDS, HOLDS]
    assert found["memory-constant"] == [HOLDS, HOLDS]
    assert found["accuracy"] == [NOT_TESTED] * 3


@pytest.mark.parametrize(
    ("key", "column", "change"),
    [
        ("rate", "gradient_error", lambda m, k, r, row: 0.9**k),
        ("rate", "gradient_error", lambda m, k, r, row: 0.5 + 0.001 * r),
        ("restarts", "gradient_error", lambda m, k, r, row: 0.5 - (r != 20) * 0.02 * (r + 1)),
        ("close", "gradient_error", lambda m, k, r, row: 0.01 + error(k, r)),
        ("memory-linear", "peak_memory_mib", lambda m, k, r, row: 2.0 + 0.01 * k**3),
        ("memory-constant", "grows", lambda m, k, r, row: 0.0),
    ],
)
def test_each_fails_where_it_should(key, column, change):
    assert FAILS in verdicts(sweep(**{column: change}))[key]


def test_error_that_still_falls_is_undecided():
    slow = {
        "gradient_error": lambda m, k, r, row: 0.95**k + 1e-3 * r,
        "contraction": lambda m, k, r, row: 0.95,
    }
    claim = first(claims(sweep(**slow)), "close")
    assert claim.verdict == UNDECIDED and "still falling" in claim.note


def trained(shift: float, *, images: bool = True, noise: float = 0.01) -> pd.DataFrame:
    """Restarted-JFB's final test PSNR is DEQ's plus ``shift``, image by image."""
    generator = np.random.default_rng(0)
    hard = generator.normal(27, 3, 12)
    rows = []
    for method in ("Restarted-JFB", "DEQ"):
        own = hard + (shift + noise * generator.normal(size=12)) * (method != "DEQ")
        parameters = {"layers": 10, "restarts": 5} if method != "DEQ" else {}
        for row in run(method, parameters, task=INPAINTING):
            row["objective_test_psnr"] = own.mean()
            rows.append(row | ({"objective_test_psnr_images": own} if images else {}))
    return tidy(pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("shift", "noise", "verdict"),
    [(0.0, 0.01, HOLDS), (-0.3, 0.01, FAILS), (0.3, 0.01, FAILS), (0.08, 0.2, UNDECIDED)],
)
def test_accuracy_is_an_equivalence(shift, noise, verdict):
    claim = first(claims(trained(shift, noise=noise)), "accuracy")
    assert claim.verdict == verdict
    assert claim.low <= claim.value <= claim.high
    assert claim.value == pytest.approx(shift, abs=0.12)


def test_missing_data_are_named():
    claim = first(claims(trained(0.0, images=False)), "accuracy")
    assert claim.verdict == NOT_TESTED and "one repetition" in claim.note
    found = claims(trained(0.0))
    (note,) = found.loc[found["statement"].str.endswith("DRUNet"), "note"]
    assert "no trained runs of Restarted-JFB and DEQ on drunet" in note
    others = found[found["key"] != "accuracy"]
    assert set(others["verdict"]) <= {NOT_TESTED, UNDECIDED}
    assert "needs Restarted-JFB at two depths" in set(others["note"])


def test_line_against_its_formula():
    x = pd.Series([1.0, 2.0, 5.0, 10.0])
    fit = module.line(x, 3 * x + 1)
    assert (fit.slope, fit.low, fit.high, fit.r2) == pytest.approx((3, 3, 3, 1))
    assert module.line(x[:2], x[:2]) is None


def test_neither_order_nor_repeat_changes_the_text():
    frame = sweep()
    shuffled = tidy_again(frame)
    assert text(claims(frame)).equals(text(claims(shuffled)))
    assert to_json(claims(frame)) == to_json(claims(frame))


def tidy_again(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sample(frac=1, random_state=3)


def test_command_line(tmp_path):
    path = save(pd.DataFrame(run("DEQ", {}, task=DENOISING)), tmp_path / "a.parquet")
    code, printed, _ = cli("claims", path, "--out", tmp_path / "c.json")
    assert code == 0 and printed.startswith("| verdict |")
    found = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert {claim["verdict"] for claim in found} == {NOT_TESTED}
    assert found[0]["value"] is None
    code, _, complaint = cli("claims", path, "--out", tmp_path / "c.txt")
    assert code == 2 and complaint.count("\n") == 1


def test_strict_is_an_exit_code(tmp_path, monkeypatch):
    path = save(pd.DataFrame(run("DEQ", {}, task=DENOISING)), tmp_path / "a.parquet")
    assert cli("claims", path, "--strict")[0] == 0
    failed = sweep(gradient_error=lambda m, k, r, row: 0.9**k)
    monkeypatch.setattr(module, "tidy", lambda rows: failed)
    assert cli("claims", path, "--strict")[0] == 1
    assert cli("claims", path)[0] == 0


def test_results_kept_here():
    """The sweep of this repository: the rate of denoising is κ by construction."""
    path = ROOT / "results" / "gradient_error" / "gradient_error.parquet"
    code, printed, _ = cli("claims", path)
    assert code == 0
    (rate,) = [row for row in printed.splitlines() if "falls as" in row and "denoising" in row]
    assert rate.startswith("| HOLDS |") and "κ = 0.8," in rate
    assert "| FAILS |" not in printed
