"""One study in the ways that it can be spread over processes and machines, and its rows.

    pip install -e .[dask,slurm]
    python tools/engines.py

One process after the other; from the cache; and by the configurations in configs/engines: two at a
time; a dask scheduler with two workers on the loopback address; submitit's jobs, on SLURM where
``sinfo`` answers (``tools/slurm_node.sh`` sets up a node), else by its executor on this machine.
Each of the last three again, cut in the middle, once a run has ended and another has begun: a
worker killed (kill -9), a job cancelled or queued again by SLURM, after which the same command
completes the study; a job asked to end by SIGUSR2, after which the study goes on by itself. Exit
code 0: the bytes of every column that must repeat are the same (``benchmark.options.columns``).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import final

from killed import ROOT, command, compared, place, processes_of

#: seconds after which a way is given up; SLURM lets a job that is queued again wait for two minutes
PATIENCE = 1800.0
CONFIGURATIONS = ROOT / "configs" / "engines"
#: the address that the configuration of dask's scheduler names
HOST, PORT = "127.0.0.1", 8786


@final
@dataclass
class Cut:
    """What is done to a study in the middle, once.

    name : of it; act : does it to the study in a folder and says whether it could; goes_on :
    whether the study ends well all the same; done : whether it was done.
    """

    name: str
    act: Callable[[Path], bool]
    goes_on: bool = False
    done: bool = False

    def now(self, folder: Path) -> None:
        """Do it where a run of the study in ``folder`` has ended and another has begun since."""
        begun = latest(folder / "outputs" / "unfinished", "*.safetensors")
        ended = latest(folder / "__cache__", "**/output.pkl")
        if not self.done and 0 < ended < begun:
            self.done = self.act(folder)


def latest(folder: Path, files: str) -> float:
    """When the last of these files in ``folder`` was written; 0: there is none."""
    found = 0.0
    for file in folder.glob(files):
        with suppress(OSError):  # gone meanwhile
            found = max(found, file.stat().st_mtime)
    return found


def killed(word: str) -> Cut:
    """A descendant of this process killed whose command line has ``word`` in it."""

    def act(folder: Path) -> bool:
        found = []
        for pid in processes_of(os.getpid()):
            with suppress(OSError):
                if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        if found:
            os.kill(found[-1], signal.SIGKILL)
        return bool(found)

    return Cut("a worker killed", act)


def told(name: str, *words: str, goes_on: bool = False) -> Cut:
    """A command of SLURM's, given with the job that runs."""

    def act(folder: Path) -> bool:
        listed = ["squeue", "--noheader", "--states=RUNNING", "--format=%i %Z"]
        said = subprocess.run(listed, capture_output=True, text=True).stdout
        jobs = [line.split()[0] for line in said.splitlines() if line.endswith(f" {folder}")]
        return bool(jobs) and subprocess.run([*words, jobs[-1]]).returncode == 0

    return Cut(name, act, goes_on)


def slurm() -> bool:
    """Whether there is a cluster that answers."""
    return (
        which("srun") is not None and not subprocess.run(["sinfo"], capture_output=True).returncode
    )


#: the configuration of each way, and what it is cut by
WAYS = {
    "one after the other": (None, []),
    "from the cache": (None, []),
    "two at a time": ("processes.yml", [killed("loky")]),
    "dask": ("dask_scheduler.yml", [killed("multiprocessing.spawn")]),
    "submitit": ("slurm.yml", [killed("submitit.core._submit")]),
}
#: what SLURM's jobs are cut by
CUTS = [
    told("a job killed", "scancel", "--signal=KILL"),
    told("a job cancelled", "scancel"),
    told("a job asked to end", "scancel", "--signal=USR2", goes_on=True),
    told("a job queued again", "scontrol", "requeue"),
]


@contextmanager
def scheduler(folder: Path) -> Iterator[None]:
    """A dask scheduler on the loopback address, with two workers of one thread."""
    shared = ["--no-dashboard", "--host", HOST]
    local = ["--nworkers", "2", "--nthreads", "1", "--local-directory", str(folder)]
    with (folder / "dask.log").open("ab") as log:
        parts = [
            subprocess.Popen([sys.executable, "-m", f"distributed.cli.{what}", *words], stderr=log)
            for what, words in (
                ("dask_scheduler", ["--port", str(PORT), *shared]),
                ("dask_worker", [f"tcp://{HOST}:{PORT}", *local, *shared]),
            )
        ]
        try:
            yield
        finally:
            for part in reversed(parts):
                part.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    part.wait(20)
                part.kill()


def run(words: Sequence[str], folder: Path, cut: Cut | None = None) -> int:
    """The exit code of a command, the study in ``folder``, which is ``cut`` on the way."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)
        until = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < until:
            if cut is not None:
                cut.now(folder)
            time.sleep(0.05)
        process.kill()
        return process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=WAYS, help="these ways, beside the first")
    only = parser.parse_args(arguments).only
    ways = WAYS
    if slurm():
        ways = WAYS | {"submitit": (WAYS["submitit"][0], CUTS)}
    print("submitit:", "SLURM answers" if slurm() else "no SLURM, its executor on this machine")
    with tempfile.TemporaryDirectory() as name:
        wrong = [
            way
            for way, (configuration, cuts) in ways.items()
            if only is None or way in only or way == next(iter(WAYS))
            for cut in (None, *cuts)
            if not _tried(Path(name), way, configuration, cut)
        ]
    return 1 if wrong else 0


def _tried(folder: Path, way: str, configuration: str | None, cut: Cut | None) -> bool:
    """Whether the study in one way, cut or not, has the rows of the first."""
    first = folder / next(iter(WAYS))
    here = first if way == "from the cache" else folder / (f"{way}, {cut.name}" if cut else way)
    if not here.exists():
        place(here)
    words = command(here, "rows")
    if configuration is not None:
        words += ["--parallel-config", str(CONFIGURATIONS / configuration)]
    with scheduler(here) if way == "dask" else nullcontext():
        codes = [run(words, here, cut)]
        if cut is not None and codes[0]:
            codes.append(run(words, here))
    said, fine = compared(first / "rows.parquet", here / "rows.parquet")
    if cut is not None and (not cut.done or (cut.goes_on and codes[0])):
        said, fine = f"{said}; IT WAS {'ENDED' if cut.done else 'NOT CUT'}", False
    print(
        f"{way if cut is None else here.name}: exit {', then '.join(map(str, codes))}; {said}",
        flush=True,
    )
    if fine and not codes[-1]:
        return True
    print((here / "log").read_text(errors="replace")[-3000:])
    return False


if __name__ == "__main__":
    sys.exit(main())
