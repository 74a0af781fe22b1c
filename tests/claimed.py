"""Claims on rows small enough to work out."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmark.report import claims as module
from benchmark.report.claims import claims
from benchmark.report.frame import RUN

KAPPA = 0.5
ONE_MODULUS, OTHER = "wavelet_l1, denoising", "wavelet_l1, inpainting"
NOTHING = {
    "task": ONE_MODULUS,
    "method": "Restarted-JFB",
    "configuration": "Restarted-JFB",
    "status": "ok",
    "ending": "ok",
    "steps": math.nan,
    "outer_step": 0.0,
    "repetition": 0,
    "contraction": KAPPA,
    "test_psnr_images": None,
    "parameters": {},
    "state_residual": 1e-12,
    **dict.fromkeys(
        ("layers", "restarts", "gradient_error", "gradient_cosine", "reference_residual"), math.nan
    ),
    **dict.fromkeys(("peak_memory_mib", "layer_evals", "value", "test_psnr"), math.nan),
    "jacobian_norm_start": math.nan,
}


def frame_of(rows: list[dict]) -> pd.DataFrame:
    """A run of a single row for each."""
    runs = [dict.fromkeys(RUN, "") | {"source": i, "run": i} for i in range(len(rows))]
    own = [run | NOTHING | row for run, row in zip(runs, rows, strict=True)]
    return pd.DataFrame(own)


def claims_of(rows: list[dict], key: str) -> list[SimpleNamespace]:
    """Those of a key, the others left aside: each test would take all of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CLAIMS", module.CLAIMS[module.CLAIMS["key"] == key])
        found = claims(frame_of(rows))
    return [SimpleNamespace(**row) for row in found.to_dict("records")]


def only(rows: list[dict], key: str, about: str = "") -> SimpleNamespace:
    (found,) = [c for c in claims_of(rows, key) if about in c.statement]
    return found


def span(found) -> tuple[float, float, float]:
    return found.low, found.value, found.high


def student(numbers) -> tuple[float, float]:
    return stats.t.interval(0.95, len(numbers) - 1, np.mean(numbers), stats.sem(numbers))


# --- (a) the rate ---------------------------------------------------------------------------------


def errors(of, depths=(1, 2, 4), restarts=(20,), **more) -> list[dict]:
    return [
        {"layers": float(k), "restarts": float(r), "gradient_error": of(k, r), **more}
        for k in depths
        for r in restarts
    ]
