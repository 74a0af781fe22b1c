"""How good an image and how close a gradient is: pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.imaging.images import shown


def psnr_of_each(image: Tensor, truth: Tensor) -> Tensor:
    """10 log₁₀(1/MSE) of each image (N,), dB, for images (N, C, H, W) in [0, 1] (deepinv).

    Of complex images, C = 2, the magnitudes are compared, here and by ``ssim``.
    """
    from deepinv.loss.metric import PSNR

    return PSNR()(shown(image), shown(truth))


def psnr(image: Tensor, truth: Tensor) -> float:
    """The mean of ``psnr_of_each`` over the batch."""
    return float(psnr_of_each(image, truth).mean())


def ssim(image: Tensor, truth: Tensor) -> float:
    """Mean over the batch of the structural similarity, for images in [0, 1] (deepinv).

    In float32, in which its windows take a hundredth of the time: right to six digits.
    """
    from deepinv.loss.metric import SSIM

    return float(SSIM()(shown(image).float(), shown(truth).float()).mean())


def gradient_error(estimate: Tensor, reference: Tensor) -> float:
    """‖ĝ − ∇F‖ / ‖∇F‖ of flat vectors, computed in float64."""
    estimate, reference = estimate.double(), reference.double()
    return float(
        torch.linalg.vector_norm(estimate - reference) / torch.linalg.vector_norm(reference)
    )


def gradient_cosine(estimate: Tensor, reference: Tensor) -> float:
    """⟨ĝ, ∇F⟩ / (‖ĝ‖ ‖∇F‖) of flat vectors, computed in float64."""
    estimate, reference = estimate.double(), reference.double()
    norms = torch.linalg.vector_norm(estimate) * torch.linalg.vector_norm(reference)
    return float(torch.linalg.vecdot(estimate, reference) / norms)


def relative_residual(image: Tensor, x: Tensor) -> float:
    """‖T(x) − x‖ / ‖x‖ over a whole batch, from ``image`` = T(x); 0 where both are zero."""
    size = torch.linalg.vector_norm(x).clamp_min(torch.finfo(x.dtype).tiny)
    return float(torch.linalg.vector_norm(image - x) / size)
