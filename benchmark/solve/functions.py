"""Functions with derivatives of their own, quicker to enter."""

from __future__ import annotations

import inspect
from typing import Any

import torch


class Function(torch.autograd.Function):
    """torch's, whose ``forward`` is looked at once.

    torch asks for its signature at every call, which takes as long as small operations do.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        forward: Any = cls.forward
        forward.__signature__ = inspect.signature(forward)
