"""The steps of a workflow that run on Linux, as a script: what GitHub would run, here.

    python tools/workflow.py .github/workflows/test.yml --job lint | bash

Each job runs in a clone of its own of what is committed, with the Python that is on the path; steps
that are actions of others (checkout, setting up Python, uploads) are left out. A variable that is
set already keeps its value: ``PIP_EXTRA_INDEX_URL= bash`` takes wheels from PyPI alone.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def on_linux(job: Mapping[str, object]) -> bool:
    """Whether a job has commands of its own, and runs them on Linux in one of its variants."""
    commands = any("run" in step for step in job.get("steps", ()))
    return commands and "ubuntu" in f"{job.get('runs-on')} {job.get('strategy')}"


def exported(variables: Mapping[str, str]) -> Iterator[str]:
    """Assignments that give way to what is set already."""
    for name, value in variables.items():
        yield f"export {name}=${{{name}-{shlex.quote(str(value))}}}"


def script(workflow: Mapping[str, object], only: str | None) -> Iterator[str]:
    """The lines: of each job a subshell, which ends the script where a step fails."""
    yield "set -eu"
    jobs = {name: job for name, job in workflow["jobs"].items() if on_linux(job)}
    if only is not None:
        jobs = {only: jobs[only]}
    for name, job in jobs.items():
        yield f"(\necho {shlex.quote(f'job {name}')}"
        yield f"cd $(mktemp -d)\ngit clone --quiet {shlex.quote(str(ROOT))} .\nset -x"
        yield from exported({**workflow.get("env", {}), **job.get("env", {})})
        for step in (step for step in job["steps"] if "run" in step):
            yield from ["(", *exported(step.get("env", {})), step["run"].strip(), ")"]
        yield ")"


def main() -> None:
    """The command line."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("workflow", type=Path)
    command.add_argument("--job", help="this one alone")
    given = command.parse_args()
    workflow = yaml.safe_load(given.workflow.read_text(encoding="utf-8"))
    print("\n".join(script(workflow, given.job)))


if __name__ == "__main__":
    main()
