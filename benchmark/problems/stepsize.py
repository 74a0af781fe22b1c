"""A stepsize that is learned and stays where forward-backward converges."""

from torch import Tensor

#: float32 knows 1 − sigmoid(12) from 0, and 1 − sigmoid(17) no more
LARGEST_LOGIT = 12.0


def bounded_stepsize(logit: Tensor, lipschitz: float | Tensor) -> Tensor:
    """τ = (2/L)·sigmoid(``logit``), inside (0, 2/L) whatever the logit, in float32 too.

    A logit beyond ±12 counts as ±12, and has no gradient.
    """
    return 2 / lipschitz * logit.clamp(-LARGEST_LOGIT, LARGEST_LOGIT).sigmoid()
