"""Every other row of the image, with noise, as a degradation."""

import torch
from deepinv.physics import GaussianNoise, Inpainting


def template(image_shape, keep_every=2, sigma=0.05):
    """y = A x̄ + noise, A the rows 0, k, 2k, …, k = ``keep_every``, of images (C, H, W).

    What is returned is a linear operator of deepinv with its noise model. Draws follow torch's
    global generator, which the caller seeds.
    """
    mask = torch.zeros(image_shape)
    mask[:, ::keep_every] = 1
    return Inpainting(image_shape, mask=mask, noise_model=GaussianNoise(sigma))
