"""What the workflows of .github run, and at which versions."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import yaml
from benchopt.benchmark import Benchmark

ROOT = Path(__file__).resolve().parents[1]


def test_what_the_package_imports_is_named_where_benchopt_looks():
    """It installs what plugins name, and nothing of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]} - {"benchopt"}
    comes_with_benchopt = {re.match(r"[\w-]+", line)[0] for line in requires("benchopt")}
    benchmark = Benchmark(ROOT)
    plugins = [benchmark.get_benchmark_objective(), *benchmark.get_datasets()]
    named = {name for plugin in plugins for name in plugin.requirements or ()}
    assert {f"pip::{name}" for name in needed - comes_with_benchopt} <= named


def test_every_requirement_is_bounded_below_and_the_bounds_are_tested_on_both_systems():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    unbounded = [line for line in project["dependencies"] if ">=" not in line]
    assert unbounded == []
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]
    oldest, newest = jobs["oldest"], jobs["newest"]
    commands = [step.get("run", "") for step in oldest["steps"]]
    assert any("--resolution lowest-direct" in command for command in commands)
    pythons = [step["with"]["python-version"] for step in oldest["steps"] if "with" in step]
    assert f">={pythons[0]}" == project["requires-python"]
    systems = {entry["os"] for entry in newest["strategy"]["matrix"]["include"]}
    assert systems == set(oldest["strategy"]["matrix"]["os"]) == {"ubuntu-latest", "macos-latest"}
    for job in jobs.values():
        for step in job.get("steps", ()):
            for target in re.findall(r"^make ([a-z-]+)", step.get("run", "")):
                assert re.search(f"^{target}:", (ROOT / "Makefile").read_text(), flags=re.M)


def test_benchopts_own_tests_run_with_a_python_that_is_supported():
    """The reusable workflow's default is older."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    least = tuple(map(int, project["requires-python"].removeprefix(">=").split(".")))
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]
    called = [job for job in jobs.values() if "template_benchmark" in job.get("uses", "")]
    assert len(called) == 2
    for job in called:
        assert tuple(map(int, job["with"]["python_version"].split("."))) >= least


def test_the_linux_steps_of_a_workflow_are_a_script(tmp_path):
    """Run as it is, with git and make replaced by what says how they were called."""
    workflow = tmp_path / "one.yml"
    workflow.write_text(
        """
env: {FIRST: "a b"}
jobs:
  mac: {runs-on: macos-latest, steps: [{run: make mac}]}
  other: {uses: someone/else.yml@main}
  both:
    runs-on: ${{ matrix.os }}
    strategy: {matrix: {os: [ubuntu-latest, macos-latest]}}
    steps:
      - {uses: actions/checkout@v4}
      - {run: "make one $FIRST", env: {SECOND: c}}
      - {run: "make two $SECOND"}
"""
    )
    tool = [sys.executable, ROOT / "tools" / "workflow.py", workflow]
    text = subprocess.run(tool, check=True, capture_output=True, text=True).stdout
    told = "git() { :; }; make() { echo called $@; }\n"

    def called(*, before: str) -> tuple[list[str], str]:
        script = told + before + text
        done = subprocess.run(["bash"], input=script, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("called")]
        return lines, done.stderr

    lines, errors = called(before="")
    assert lines == ["called one a b"] and "SECOND: unbound" in errors  # of the first step alone
    lines, _ = called(before="FIRST=d SECOND=e\n")
    assert lines == ["called one d", "called two e"]
