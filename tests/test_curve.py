"""The memory of other processes over time."""

from __future__ import annotations

import os
import sys

import pytest

from benchmark.measure.curve import memory_curve, now
from benchmark.running import memory_curve as command_line

CHILD = """
import time
time.sleep(0.3)
block = bytearray(b"x") * (200 << 20)
time.sleep(0.3)
del block
time.sleep(0.3)
"""


def test_memory_curve_follows_another_process():
    start = now()
    curve = [(moment - start, mib) for moment, mib in memory_curve([sys.executable, "-c", CHILD])]
    moments, mib = zip(*curve, strict=True)
    assert len(curve) > 10
    assert list(moments) == sorted(moments)
    assert 0 <= moments[0] < moments[-1]
    peak = mib.index(max(mib))
    assert mib[peak] - mib[0] == pytest.approx(200, abs=20)
    assert 0.3 < moments[peak] < moments[-1]
    assert mib[-2] < 100


def test_the_memory_curve_takes_the_solvers_of_a_configuration(tmp_path):
    """At the first of the values given, as benchopt reads them: alone, in lists, and in groups."""
    config = tmp_path / "config.yml"
    config.write_text(
        "solver:\n"
        "  - JFB:\n      tol: 0.001\n      equilibrium_solver: anderson\n"
        '  - DEQ:\n      "tol, adjoint_tol": [[0.1, 0.2], [0.3, 0.4]]\n      steps: [2, 3]\n'
        "  - Unrolling:\n"
    )
    assert command_line.configured(config) == {
        "JFB": {"tol": 0.001, "equilibrium_solver": "anderson"},
        "DEQ": {"tol": 0.1, "adjoint_tol": 0.2, "steps": 2},
        "Unrolling": {},
    }
    for text, said in (("solver: [DEQ]", "mappings"), ("{", "not YAML"), ("", "mappings")):
        config.write_text(text)
        with pytest.raises(ValueError, match=f"config.yml: .*{said}"):
            command_line.configured(config)


def test_memory_curve_hands_over_the_environment():
    script = "import os, sys; sys.exit(os.environ.get('GREETING') != 'hello')"
    memory_curve([sys.executable, "-c", script], env={**os.environ, "GREETING": "hello"})
    with pytest.raises(RuntimeError):
        memory_curve([sys.executable, "-c", script])


def test_memory_curve_says_why_a_command_failed():
    script = "import sys; print('x' * 10**6, file=sys.stderr); sys.exit('no such layer')"
    with pytest.raises(RuntimeError, match=r"-c.*ended with 1: (?s:.*)no such layer$") as caught:
        memory_curve([sys.executable, "-c", script])
    assert len(str(caught.value)) < 3000
