"""Imported by the server that runs are forked from, and by no other process.

SLURM signals each process of a job's step, the server among them: it must outlive its runs, which
keep what they have. It ends by itself when the study does.
"""

from __future__ import annotations

import signal

from benchmark.running.interruption import SIGNALS

for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)
