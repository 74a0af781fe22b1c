"""How often something that costs time is done while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import final

#: of the time of a run or a study, that keeping it on disk may take
SHARE = 0.04


@final
@dataclass
class Pace:
    """It is due again once the time since then makes what it cost at most ``share`` of it.

    longest : seconds after which it is due in any case; last, cost : when it was done last (or what
    is paced began), and the seconds that it took.
    """

    share: float = SHARE
    longest: float = inf
    last: float = field(default_factory=time.monotonic)
    cost: float = 0.0

    def due(self) -> bool:
        """Whether it may be done now."""
        return time.monotonic() - self.last >= min(self.longest, self.cost / self.share)

    @contextmanager
    def doing(self) -> Iterator[None]:
        """While it is done."""
        start = time.monotonic()
        yield
        self.last = time.monotonic()
        self.cost = self.last - start
