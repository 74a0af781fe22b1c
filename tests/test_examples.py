"""The scripts of ``examples/`` run from anywhere; each asserts what it shows.

In this process, without the seconds that importing torch takes each time, but with the package
imported anew.
"""

from __future__ import annotations

import runpy
import sys
import warnings
from unittest import mock

import pytest
from conftest import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(sys.modules), warnings.catch_warnings():
        for name in [name for name in sys.modules if name.partition(".")[0] == "benchmark"]:
            del sys.modules[name]
        warnings.filterwarnings("error", category=UserWarning, module="__main__")
        warnings.filterwarnings("error", message=".*did not converge")
        runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out
