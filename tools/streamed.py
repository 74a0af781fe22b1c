"""Whether the memory of a run grows with the number of its images, where these are in files.

    python tools/streamed.py --numbers 200 2000

One study for each number of training images of ``--size``², and a tenth as many to test on, as
``python -m benchmark run`` does it: simulated images, HOAG with states carried over, ten steps on
eight images, rows before the first and after the last. Printed are the peaks of the resident memory
of the two processes that hold images, that of the study and that of the run, as Linux has them
(VmHWM; looked at every 20 ms), and the ratio of each to that at the first number. Exit code 0: none
is above ``MOST``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from benchmark.imaging.stored import LIMIT

ROOT = Path(__file__).resolve().parents[1]
#: what the memory may be, in units of that at the first number
MOST = 1.1


@dataclass(frozen=True)
class Cost:
    """What a study took: ``seconds`` of processor time, of all its processes; MiB at the peak of
    the resident memory of the process of the study and of the largest other, at the peak on the
    disk, and of its rows at the end.
    """

    seconds: float
    study_mib: float
    run_mib: float
    disk_mib: float
    rows_mib: float


def study(number: int, size: int, *, runs: int = 1) -> dict[str, object]:
    """The configuration, as benchopt reads it; several ``runs`` are repetitions."""
    lower, every = "tikhonov(wavelet='haar',levels=1)", {"evaluate_every": [10]}
    images = {"size": [size], "n_train": [number], "n_test": [max(1, number // 10)]}
    return {
        "seed": 0,
        "n-repetitions": runs,
        "plot": False,
        "objective": [{"Learning at equilibrium": {"lower": [lower], "device": ["cpu"]}}],
        "dataset": [{"Simulated": images}],
        "solver": [{"HOAG": {"steps": [10], "batch_size": [8], "tol": [1e-6], **every}}],
    }


def cost(configuration: dict[str, object], *, limit: str) -> Cost:
    """Run a study with all that it writes in one folder; RuntimeError where it fails."""
    peaks: dict[int, float] = {}
    seconds: dict[int, float] = {}
    disk = 0.0
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "study.yml"
        config.write_text(yaml.safe_dump(configuration))
        options = ["--output", str(Path(folder) / "rows"), "--no-cache"]
        command = [sys.executable, "-m", "benchmark", "run", str(config), *options]
        environment = os.environ | {LIMIT: limit, "TMPDIR": folder}
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=2) as running:
            while running.poll() is None:
                for pid in (running.pid, *_descendants(running.pid)):
                    peaks[pid] = max(peaks.get(pid, 0.0), _peak(pid))
                    seconds[pid] = max(seconds.get(pid, 0.0), _seconds(pid))
                disk = max(disk, _disk(Path(folder)))
                time.sleep(0.02)
        if running.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with exit code {running.returncode}")
        rows = (Path(folder) / "rows.parquet").stat().st_size / 2**20
    first = peaks.pop(running.pid)
    return Cost(sum(seconds.values()), first, max(peaks.values()), disk, rows)


def _descendants(pid: int) -> list[int]:
    try:
        return [process.pid for process in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _peak(pid: int) -> float:
    """MiB; 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM")), 0.0)


def _seconds(pid: int) -> float:
    """Of processor time; 0 where the process is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


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
