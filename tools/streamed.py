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
from pathlib import Path

import psutil
import yaml

from benchmark.imaging.stored import LIMIT

ROOT = Path(__file__).resolve().parents[1]
#: what the memory may be, in units of that at the first number
MOST = 1.1


def study(number: int, size: int) -> dict[str, object]:
    """The configuration, as benchopt reads it."""
    lower, every = "tikhonov(wavelet='haar',levels=1)", {"evaluate_every": [10]}
    images = {"size": [size], "n_train": [number], "n_test": [max(1, number // 10)]}
    return {
        "seed": 0,
        "n-repetitions": 1,
        "plot": False,
        "objective": [{"Learning at equilibrium": {"lower": [lower], "device": ["cpu"]}}],
        "dataset": [{"Simulated": images}],
        "solver": [{"HOAG": {"steps": [10], "batch_size": [8], "tol": [1e-6], **every}}],
    }


def peaks(number: int, size: int, *, limit: str) -> list[float]:
    """MiB, of the process of the study and of that of the run; RuntimeError where it fails."""
    seen: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "study.yml"
        config.write_text(yaml.safe_dump(study(number, size)))
        options = ["--output", str(Path(folder) / "rows"), "--no-cache"]
        command = [sys.executable, "-m", "benchmark", "run", str(config), *options]
        environment = os.environ | {LIMIT: limit}
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=2) as running:
            while running.poll() is None:
                for pid in (running.pid, *_descendants(running.pid)):
                    seen[pid] = max(seen.get(pid, 0.0), _peak(pid))
                time.sleep(0.02)
        if running.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with exit code {running.returncode}")
    first = seen.pop(running.pid)
    return [first, max(seen.values())]


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


def main() -> int:
    """The figures, a line for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--numbers", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--limit", default="0", help="MiB up to which sets are in memory (0)")
    options = parser.parse_args()
    first, worst = None, 0.0
    for number in options.numbers:
        found = peaks(number, options.size, limit=options.limit)
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
