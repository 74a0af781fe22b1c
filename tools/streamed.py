"""Whether the memory of a run grows with the number of its images, where these are in files.

    python tools/streamed.py --numbers 200 2000

One study for each number of training images of ``--size``², and a tenth as many to test on, as
``python -m benchmark run`` does it: simulated images, HOAG with states carried over, once through
the images in steps of eight, rows before the first and after the last. Printed are the peaks of the
resident memory of the two processes that hold images, that of the study and that of the run, as
Linux has them (VmHWM; looked at every 20 ms), and the ratio of each to that at the first number.
Exit code 0: none is above ``MOST``.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from killed import ROOT, command, place, processes_of

from benchmark.imaging.stored import LIMIT
from benchmark.running.child import adopt_orphans

#: what the memory may be, in units of that at the first number
MOST = 1.1


@dataclass(frozen=True)
class Cost:
    """What a study took: ``seconds`` of processor time, of all its processes, in user and in system
    mode, as the kernel counts them when they have ended; MiB at the peak of the resident memory of
    the process of the study and of the largest other, and at the peak on the disk, looked at every
    half second and as the rows are replaced (kept runs, images in files, cache and rows); MiB of
    the rows.
    """

    seconds: float
    study_mib: float
    run_mib: float
    disk_mib: float
    rows_mib: float


def study(number: int, size: int, *, runs: int = 1) -> dict[str, object]:
    """The configuration, as benchopt reads it; several ``runs`` are repetitions."""
    lower, steps = "tikhonov(wavelet='haar',levels=1)", [max(1, number // 8)]
    given = {"steps": steps, "batch_size": [8], "tol": [1e-6], "evaluate_every": steps}
    images = {"size": [size], "n_train": [number], "n_test": [max(1, number // 10)]}
    return {
        "seed": 0,
        "n-repetitions": runs,
        "plot": False,
        "timeout": 36_000,
        "objective": [{"Learning at equilibrium": {"lower": [lower], "device": ["cpu"]}}],
        "dataset": [{"Simulated": images}],
        "solver": [{"HOAG": given}],
    }


def cost(configuration: dict[str, object], *, limit: str) -> Cost:
    """Run a study with all that it writes in one folder; RuntimeError where it fails."""
    peaks: dict[int, float] = {}
    before, looked = _seconds(), -math.inf
    adopt_orphans()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place(folder / "study")
        words = command(folder / "study", "rows", configuration)
        environment = os.environ | {LIMIT: limit, "TMPDIR": name}
        disk = plugins = _disk(folder)
        with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=2) as running:
            while running.poll() is None:
                for pid in processes_of(running.pid):
                    peaks[pid] = max(peaks.get(pid, 0.0), _peak(pid))
                if time.monotonic() > looked + 0.5:
                    disk, looked = max(disk, _disk(folder)), time.monotonic()
                time.sleep(0.02)
        with suppress(ChildProcessError):  # until none is left
            while True:
                os.wait()
        if running.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with exit code {running.returncode}")
        rows = (folder / "study" / "rows.parquet").stat().st_size / 2**20
        disk = max(disk, _disk(folder) + rows) - plugins
    first = peaks.pop(running.pid)
    return Cost(_seconds() - before, first, max(peaks.values()), disk, rows)


def _peak(pid: int) -> float:
    """MiB; 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM")), 0.0)


def _seconds() -> float:
    """Of processor time, of all children of this process that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _disk(folder: Path) -> float:
    """MiB of the files in a folder; one that is gone meanwhile counts as none."""
    found = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            found += path.stat().st_size if path.is_file() else 0
    return found / 2**20


def main() -> int:
    """The figures, a line for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--numbers", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--limit", default="0", help="MiB up to which sets are in memory (0)")
    options = parser.parse_args()
    first, worst = None, 0.0
    for number in options.numbers:
        took = cost(study(number, options.size), limit=options.limit)
        found = [took.study_mib, took.run_mib]
        first = first or found
        ratios = [one / other for one, other in zip(found, first, strict=True)]
        worst = max(worst, *ratios)
        of_each = ", ".join(
            f"{mib:.0f} MiB ({r:.2f}×)" for mib, r in zip(found, ratios, strict=True)
        )
        print(f"{number} images of {options.size}²: study and run {of_each}", flush=True)
    return worst > MOST


if __name__ == "__main__":
    sys.exit(main())
