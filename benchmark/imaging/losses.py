"""The upper loss ℓ(x̂, x̄), one value for each image: by name, of deepinv, or of a user's file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from benchmark.options.brought import error_line
from benchmark.options.spec import Kind, described


def squared_error(image: Tensor, truth: Tensor) -> Tensor:
    """The mean over its elements of (x̂ − x̄)², for each image of (N, C, H, W): (N,)."""
    return (image - truth).square().flatten(1).mean(1)


def absolute_error(image: Tensor, truth: Tensor) -> Tensor:
    """The mean over its elements of |x̂ − x̄|, for each image of (N, C, H, W): (N,)."""
    return (image - truth).abs().flatten(1).mean(1)


def dissimilarity(image: Tensor, truth: Tensor) -> Tensor:
    """1 − SSIM of each image of (N, C, H, W): (N,), deepinv's with a range of 1.

    Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004).
    """
    from deepinv.loss.metric import SSIM

    return SSIM(train_loss=True)(image, truth)


UPPER_LOSSES = {"mse": squared_error, "l1": absolute_error, "ssim": dissimilarity}
UPPER_LOSS: Kind[Tensor] = Kind(
    "upper loss",
    UPPER_LOSSES,
    {"deepinv": ["deepinv.loss.metric"]},
    form="a function (x_hat, x) of image batches (N, C, H, W) that returns one value per image "
    "(N,), or a class of such",
)


@final
@dataclass(frozen=True)
class UpperLoss:
    """ℓ, to be minimised.

    name : the text that names it; of_each : ℓ(x̂, x̄) of image batches (N, C, H, W), one value per
    image (N,), where the images are independent of each other.
    """

    name: str
    of_each: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, image: Tensor, truth: Tensor) -> Tensor:
        """1/N Σ_i ℓ(x̂_i, x̄_i), a 0-d tensor."""
        if self.of_each is squared_error:  # the same in one pass
            return nn.functional.mse_loss(image, truth)
        return self.of_each(image, truth).mean()

    def to(
        self, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> UpperLoss:
        """The same on another device or in another dtype, where ℓ is a module."""
        if not isinstance(self.of_each, nn.Module):
            return self
        moved = copy.deepcopy(self.of_each).to(device=device, dtype=dtype)
        return replace(self, of_each=moved)


MEAN_SQUARED_ERROR = UpperLoss("mse", squared_error)


def make_loss(spec: str | Callable[[Tensor, Tensor], Tensor]) -> UpperLoss:
    """The loss that ``spec`` names: "mse", "l1", "ssim", "deepinv.NAME", or a file's; a function
    (x̂, x̄) as it is.

    A class is made with the options, and called; of deepinv's metrics that are better the higher,
    the inverted one. Raises ValueError for what is not known, or what making it raises.
    """
    if not isinstance(spec, str):
        return UpperLoss(described(spec), spec)
    chosen = UPPER_LOSS.choose(spec, given=("x_hat", "x"))
    if not isinstance(chosen.func, type):
        return UpperLoss(spec, chosen if chosen.keywords else chosen.func)
    made = UPPER_LOSS.call(chosen, spec)
    if not callable(made):
        raise ValueError(f"upper loss {spec!r} is no function: expected {UPPER_LOSS.form}")
    if isinstance(made, nn.Module):
        made = made.eval().requires_grad_(False)
    if hasattr(made, "train_loss"):  # deepinv's way to say so
        made.train_loss = True
    return UpperLoss(spec, made).to(dtype=torch.float64)


@torch.enable_grad()
def require_loss(loss: UpperLoss, truth: Tensor) -> None:
    """Raise ValueError, naming ``loss``, unless it can be learned with on images like ``truth``.

    On two or more images (N, C, H, W), disturbed by noise, it must be one finite value per image,
    the same at a second call, with a finite gradient that is not zero, and that of the first image
    must not depend on the others. Cost: two ℓ, one backward pass.
    """
    what = f"upper loss {loss.name!r}"
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0), dtype=truth.dtype)
    image = (truth + 0.1 * noise).requires_grad_()
    try:
        value, again = loss.of_each(image, truth), loss.of_each(image, truth)
    except Exception as error:
        raise ValueError(f"{what}: {error_line(error)}") from error
    shape = (len(truth),)
    if not isinstance(value, Tensor) or value.shape != shape:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"
        raise ValueError(f"{what} returned {got}, expected one value per image, shape {shape}")
    if not value.isfinite().all():
        raise ValueError(f"{what} is not finite on {len(truth)} noisy images: {value.tolist()}")
    if not torch.equal(value, again):
        raise ValueError(f"{what} has another value at a second call: expected a function")
    if not value.requires_grad:
        raise ValueError(f"{what} has no gradient: expected torch operations that have a graph")
    (gradient,) = torch.autograd.grad(value[0], image, allow_unused=True)
    if gradient is None or not gradient.isfinite().all() or not gradient[0].count_nonzero():
        raise ValueError(f"{what} has a gradient that is zero or not finite on a noisy image")
    if gradient[1:].count_nonzero():
        raise ValueError(f"{what} mixes images: expected values that depend on one image each")
