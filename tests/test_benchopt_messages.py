"""What benchopt says when something is wrong, and benchopt's own tests of the plugins."""

from __future__ import annotations

import json
import re
from pathlib import Path

import forked
import pytest
from benchopt.benchmark import Benchmark
from benchopt.cli.main import run as benchopt_run
from benchopt.results import read_results
from benchopt_runs import (
    copy_plugins,
    environment,
    write_config,
)
from click.testing import CliRunner
from conftest import ROOT, plugins
from shared import without_costs


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    return copy_plugins(tmp_path_factory.mktemp("copy"), package=False)


# --- what is said when something is wrong -----------------------------------------------------


def test_the_message_about_a_bad_value_reaches_the_terminal(tmp_path):
    """In a process of its own."""
    copy_plugins(tmp_path, package=False)
    config = write_config(tmp_path / "bad.yml", solvers=["Unrolling"], device="quantum")
    command = ("run", ".", "--config", config, "--no-cache", "--no-plot")
    done = forked.run_module("benchopt", *command, cwd=tmp_path, environment=environment())
    assert done.returncode != 0
    assert "unknown device 'quantum': expected auto, cpu, cuda or cuda:i" in (
        done.stdout + done.stderr
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lower", "wavelet_l7", r"unknown lower level 'wavelet_l7': expected one of .*wavelet_l1"),
        ("size", 9, r"9×9 pixels cannot .*: both sides must be multiples of 2\^1 = 2"),
        ("n_test", 0, r"must be an integer of at least 1, got 0"),
        ("degradation", "denoising(sigma=-1)", r"sigma must be a number of at least 0, got -1"),
    ],
)
def test_bad_values_are_named(copy, tmp_path, name, value, message):
    """In this process, without the start of another: an exception ends on the terminal."""
    config = write_config(tmp_path / "bad.yml", solvers=["Unrolling"], **{name: value})
    command = [str(copy), "--config", str(config), "--no-cache", "--no-plot"]
    result = CliRunner().invoke(benchopt_run, command)
    assert result.exit_code != 0
    assert re.search(message, f"{result.output}\n{result.exception}")


def test_images_that_are_not_there_stop_nobody_else(copy, tmp_path, monkeypatch):
    """A dataset without its files is skipped with the reason; the next one runs."""
    without_costs(monkeypatch)
    config = tmp_path / "config.yml"
    config.write_text(
        json.dumps(
            {
                "objective": [{"Learning at equilibrium": {"lower": ["tikhonov(levels=1)"]}}],
                "dataset": [{"Folder": {"path": ["nowhere"]}}, {"Simulated": {"size": [8]}}],
                "solver": [{"Unrolling": {"steps": [0]}}],
            }
        )
    )
    parquet = tmp_path / "rows.parquet"
    command = [str(copy), "--config", str(config), "--no-plot", "--output", str(parquet)]
    result = CliRunner().invoke(benchopt_run, command)
    assert result.exit_code == 0, result.output
    assert "Folder: there is no folder" in result.output
    (name,) = read_results(parquet)["dataset_name"].unique()
    assert name.startswith("Simulated")


# --- benchopt's own tests ---------------------------------------------------------------------


def test_benchopt_accepts_every_plugin(tmp_path):
    """``benchopt test``, on the plugins alone, the package being installed. All run elsewhere."""
    copy_plugins(tmp_path, package=False)
    few = ("--skip-install", "-k", "'not test_solver_run or jfb or search or maid'")
    done = forked.benchopt_test(".", *few, cwd=tmp_path, environment=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


def test_every_plugin_is_importable():
    for plugin in [*plugins().values(), *Benchmark(ROOT).get_datasets()]:
        assert plugin.is_installed(raise_on_not_installed=True)
