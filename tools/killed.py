"""A small study that is killed again and again, and its rows beside those of one that never was.

    python tools/killed.py --times 5 --seed 0

The same command is given until it ends by itself; before, at random moments, one of its processes
is killed (the study's own, a run's, the server that runs are forked from) or the study is asked to
end (SIGTERM, SIGINT, SIGUSR1). Then the same study runs in two processes at a time, and without
processes. Exit code 0: the bytes of every column that must repeat are the same
(``benchmark.options.columns``), and each study that was asked to end did within ``PATIENCE``.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import yaml
from benchopt.results import read_results

from benchmark.options.columns import must_repeat
from benchmark.running.same import different

ROOT = Path(__file__).resolve().parents[1]
#: seconds in which a study that is asked to end ends
PATIENCE = 20.0
#: what a study is: methods that keep states, mini-batches, random directions, trials
STUDY = {
    "seed": 0,
    "plot": False,
    "timeout": 1000,
    "objective": [{"Learning at equilibrium": {"lower": ["wavelet_l1(levels=1,ridge=0.5)"]}}],
    "dataset": [{"Simulated": {"size": [16]}}],
    "solver": [
        {"JFB": {"steps": [60], "evaluate_every": [20], "batch_size": [1]}},
        {"DEQ": {"steps": [20], "evaluate_every": [5], "warm_start": [True]}},
        {"SPSA": {"steps": [30], "evaluate_every": [10]}},
        {"TPE": {"steps": [20], "evaluate_every": [5]}},
    ],
}


def command(folder: Path, name: str, study: Mapping[str, object] = STUDY) -> list[str]:
    """Of a study in ``folder``, its rows there in ``name``.parquet."""
    (folder / f"{name}.yml").write_text(yaml.safe_dump(dict(study)))
    output = str(folder / f"{name}.parquet")
    given = ["run", str(folder / f"{name}.yml"), "--benchmark", str(folder), "--output", output]
    return [sys.executable, "-m", "benchmark", *given]


def place(folder: Path) -> None:
    """A copy of the benchmark's plugins, and so with a cache and checkpoints of its own."""
    folder.mkdir()
    shutil.copy(ROOT / "objective.py", folder)
    for name in ("solvers", "datasets"):
        shutil.copytree(ROOT / name, folder / name)


def processes_of(pid: int) -> list[int]:
    """``pid`` and all that descend from it, oldest first."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid]
    for parent in found:
        found += sorted(child for child, of in parents.items() if of == parent)
    return found


def _kill(which: str) -> Callable[[int], str]:
    def kill(pid: int) -> str:
        found = processes_of(pid)
        # the study, then the semaphores' tracker and the server, then the runs
        chosen = {"study": found[:1], "server": found[1:3], "run": found[3:]}[which] or found[:1]
        for one in chosen:
            os.kill(one, signal.SIGKILL)
        return f"kill -9 of the {which}: {len(chosen)} of {len(found)} processes"

    return kill


def _ask(name: str) -> Callable[[int], str]:
    def ask(pid: int) -> str:
        os.kill(pid, getattr(signal, name))
        return f"{name} to the study"

    return ask


WAYS = [_kill("study"), _ask("SIGTERM"), _kill("run"), _ask("SIGINT"), _kill("server"),
        _ask("SIGUSR1")]  # fmt: skip


def ended_by(
    way: Callable[[int], str] | None, after: float, words: Sequence[str], folder: Path
) -> tuple[str, int, float]:
    """What was done to the study of that command ``after`` seconds from when it began to keep a run
    in ``folder``, its exit code, the seconds that it still took; None: nothing.
    """
    kept = folder / "outputs" / "unfinished"
    before = _changed(kept)
    with (folder / "log").open("ab") as out:
        study = subprocess.Popen(words, stdout=out, stderr=out, cwd=ROOT)
        while study.poll() is None and _changed(kept) == before:
            time.sleep(0.05)
        begun, done = time.monotonic(), "it ended by itself"
        if way is not None:
            try:
                study.wait(after)
            except subprocess.TimeoutExpired:
                begun, done = time.monotonic(), way(study.pid)
        return done, study.wait(), time.monotonic() - begun


def _changed(folder: Path) -> list[int]:
    found = []
    for file in folder.glob("*.safetensors"):
        with suppress(OSError):  # gone meanwhile
            found.append(file.stat().st_mtime_ns)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5, help="that the study is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        return _studies(Path(name), options.times, random.Random(options.seed))


def _studies(folder: Path, times: int, moments: random.Random) -> int:
    for part in ("whole", "killed"):
        place(folder / part)
    whole, killed = command(folder / "whole", "rows"), command(folder / "killed", "rows")
    _, _, lasted = ended_by(None, 0.0, whole, folder / "whole")
    print(f"never killed: {lasted:.1f} s from its first step", flush=True)
    slow = 0
    for number in range(times):
        after, way = moments.uniform(0, lasted / times), WAYS[number % len(WAYS)]
        done, code, took = ended_by(way, after, killed, folder / "killed")
        print(f"{after:.1f} s after it began: {done}; exit {code}, {took:.1f} s later", flush=True)
        slow += done.startswith("SIG") and took > PATIENCE
    studies = {"killed": (killed, {}), "cached": (killed, {})}
    for name, options, environment in (
        ("two at a time", ["-j", "2"], {}),
        ("without processes", [], {"BENCHMARK_PROCESSES": "0"}),
    ):
        place(folder / name)
        studies[name] = (command(folder / name, "rows") + options, environment)
    wrong = [name for name, study in studies.items() if not _same(folder, name, *study)]
    if wrong or slow:
        print((folder / "killed" / "log").read_text(errors="replace")[-3000:])
    return 1 if wrong or slow else 0


def _same(folder: Path, name: str, words: Sequence[str], environment: dict[str, str]) -> bool:
    """Whether that study, run to its end, has the rows of the one that was never killed."""
    quiet = {"stdout": subprocess.DEVNULL, "cwd": ROOT, "env": os.environ | environment}
    code = subprocess.run(words, **quiet).returncode
    place = "killed" if name == "cached" else name
    said, fine = compared(*(folder / part / "rows.parquet" for part in ("whole", place)))
    print(f"{name}: exit {code}, {said}", flush=True)
    return fine and code == 0


def compared(first: Path, other: Path) -> tuple[str, bool]:
    """What to say of the rows of ``other`` beside those of ``first``; whether that is well."""
    if not other.exists():
        return "no rows", False
    one, rows = read_results(first), read_results(other)
    wrong = different(one, rows)
    said = f"DIFFERENT: {', '.join(wrong)}" if wrong else "the same bytes"
    return f"{len(rows)} rows, {sum(map(must_repeat, one))} columns compared: {said}", not wrong


if __name__ == "__main__":
    sys.exit(main())
