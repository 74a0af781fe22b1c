"""The memory of another process over time, sampled from outside."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence


def now() -> float:
    """Seconds on the clock of ``memory_curve``, the same for all processes of the machine."""
    return time.time()


def memory_curve(
    command: Sequence[str], interval: float = 0.02, env: Mapping[str, str] | None = None
) -> list[tuple[float, float]]:
    """Runs ``command`` and samples its resident memory from outside, by memory_profiler.

    Returns (moment as by ``now``, MiB) about every ``interval`` seconds; ``env`` replaces the
    environment. The command's children are not counted, its output is thrown away.

    Raises RuntimeError with the command and the end of its error output where it fails.
    """
    from memory_profiler import memory_usage

    quiet = subprocess.DEVNULL
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, env=env, stdin=quiet, stdout=quiet, stderr=errors)
        samples = memory_usage(process, interval=interval, timestamps=True)
        if process.wait():
            errors.seek(0)
            tail = errors.read()[-2000:].decode(errors="replace").strip()
            raise RuntimeError(f"{list(command)} ended with {process.returncode}: {tail}")
    return [(moment, mib) for mib, moment in samples]
