"""What a fault is that ``faults.py`` injects: a list of them in each file ``faults_of_*.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, and what is promised then.

    kind : a heading of the table. name, how, promised : its columns. tried : injects the fault,
    with an empty folder to use; what it found instead of what is promised, or "".
    """

    kind: str
    name: str
    how: str
    promised: str
    tried: Callable[[Path], str]
