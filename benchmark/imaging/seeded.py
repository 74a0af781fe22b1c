"""Random draws of code that takes no generator: from a seed, the caller's generators as before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, the global generators of torch (on the CPU), NumPy and Python start from ``seed``;
    after, they are as before.

    For what draws from them: deepinv's operators and noise, files of users. ``torch.manual_seed``
    would reseed the caller's generators on every CUDA device too. What takes a generator is given
    one.
    """
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])
