"""Collections of garbage that take no longer than what is measured beside them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_of_what_is_new() -> Iterator[None]:
    """Within, a collection looks at what was made within, not at all that is imported.

    Can be nested, also in a program that has frozen what it holds by itself: what is frozen within
    stays so until the outermost ends. Cost: a collection of what is not frozen yet, and some ms.
    """
    outermost = gc.get_freeze_count() == 0
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if outermost:
            gc.unfreeze()
