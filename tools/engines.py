"""One study in the ways that it can be spread over processes and machines, and its rows.

    pip install -e .[dask,slurm]
    python tools/engines.py

One process after the other; from the cache; two at a time (``-j 2``); a dask scheduler with two
workers on the loopback address; submitit's jobs (without SLURM its executor on this machine); and
each of the last three again, with a worker of it killed (kill -9) once a run has begun, after which
the same command completes the study. Exit code 0: the bytes of every column that must repeat are
the same (``benchmark.options.columns``), and no run that had ended was made again.
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
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from socket import socket

import yaml
from killed import command, compared, place, processes_of

#: seconds after which a way is given up
PATIENCE = 600.0
#: the options of the command for each way, and a word by which its workers' command lines are known
WAYS = {
    "one after the other": ({}, ""),
    "from the cache": ({}, ""),
    "two at a time": ({"n-jobs": 2}, "loky"),
    "dask": ({"parallel-config": {"backend": "dask"}}, "multiprocessing.spawn"),
    "submitit": (
        {"parallel-config": {"backend": "submitit", "slurm_time": "00:10:00"}},
        "submitit.core._submit",
    ),
}


@contextmanager
def scheduler(folder: Path) -> Iterator[str]:
    """The address of a dask scheduler on the loopback address, with two workers of one thread."""
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    port = address.rpartition(":")[2]
    shared = ["--no-dashboard", "--host", "127.0.0.1"]
    local = ["--nworkers", "2", "--nthreads", "1", "--local-directory", str(folder)]
    with (folder / "dask.log").open("ab") as log:
        parts = [
            subprocess.Popen([sys.executable, "-m", f"distributed.cli.{what}", *words], stderr=log)
            for what, words in (
                ("dask_scheduler", ["--port", port, *shared]),
                ("dask_worker", [address, *local, *shared]),
            )
        ]
        try:
            yield address
        finally:
            for part in reversed(parts):
                part.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    part.wait(20)
                part.kill()


def study(folder: Path, options: dict) -> list[str]:
    """The command of the study in ``folder`` with these options."""
    words = command(folder, "rows")
    configuration = folder / "rows.yml"
    configuration.write_text(yaml.safe_dump(yaml.safe_load(configuration.read_text()) | options))
    return words


def workers(word: str) -> list[int]:
    """Of this process's descendants those whose command line has ``word`` in it."""
    found = []
    for pid in processes_of(os.getpid()):
        with suppress(OSError):
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def run(words: Sequence[str], folder: Path, meanwhile: Callable[[], bool] | None = None) -> int:
    """The exit code of a command; ``meanwhile`` is asked, until it has done what it is for."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)
        until = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < until:
            if meanwhile is not None and meanwhile():
                meanwhile = None
            time.sleep(0.05)
        process.kill()
        return process.wait()


def kill_a_worker(folder: Path, word: str) -> Callable[[], bool]:
    """To be asked until it has killed a worker, once one run has ended and another has begun."""

    def kill() -> bool:
        begun = list((folder / "outputs" / "unfinished").glob("*.safetensors"))
        ended = list((folder / "__cache__").rglob("output.pkl"))
        if begun and ended and (found := workers(word)):
            os.kill(found[-1], signal.SIGKILL)
            return True
        return False

    return kill


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=WAYS, help="these ways, beside the first")
    only = parser.parse_args(arguments).only
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wrong = [
            said
            for way, (options, word) in WAYS.items()
            if only is None or way in only or way == next(iter(WAYS))
            for killed in ([False, True] if word else [False])
            if (said := _tried(folder, way, options, word if killed else "")) is not None
        ]
    return 1 if wrong else 0


def _tried(folder: Path, way: str, options: dict, word: str) -> str | None:
    """What is wrong with the study in one way, a worker of it killed where ``word`` is given."""
    first = folder / next(iter(WAYS))
    here = first if way == "from the cache" else folder / (way + ", a worker killed" * bool(word))
    if not here.exists():
        place(here)
    killing = kill_a_worker(here, word) if word else None
    if way == "dask":
        with scheduler(here) as address:
            where = {"parallel-config": options["parallel-config"] | {"dask_address": address}}
            codes = _completed(study(here, where), here, killing)
    else:
        codes = _completed(study(here, options), here, killing)
    said, fine = compared(first / "rows.parquet", here / "rows.parquet")
    exits = ", then ".join(map(str, codes))
    print(f"{way if here == first else here.name}: exit {exits}; {said}", flush=True)
    if fine and not codes[-1]:
        return None
    print((here / "log").read_text(errors="replace")[-3000:])
    return said


def _completed(words: Sequence[str], folder: Path, killing: Callable | None) -> list[int]:
    codes = [run(words, folder, killing)]
    if codes[0] and killing is not None:
        codes.append(run(words, folder))
    return codes


if __name__ == "__main__":
    sys.exit(main())
