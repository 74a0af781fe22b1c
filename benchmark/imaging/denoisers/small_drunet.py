"""A small DRUNet whose weights ship with the package; ``train`` beside it made them."""

from __future__ import annotations

from pathlib import Path
from typing import final

from torch import Tensor, nn

#: trained weights, stored in float16; MODEL_CARD.md beside them says how and how good
WEIGHTS = Path(__file__).with_name("small_drunet.safetensors")
#: noise levels seen in training, for images in [0, 1]
LARGEST_NOISE_LEVEL = 0.25


@final
class SmallDRUNet(nn.Module):
    """D(v, σ) = v − N(v, σ), N a DRUNet with four scales of 16, 32, 64, 64 channels.

    N is deepinv's network with one block per scale, ReLU, without biases: D is positively
    homogeneous, D(tv, tσ) = t D(v, σ), and differentiable almost everywhere only (with ELU it would
    be everywhere, but features of the size of these images hardly bend it: it learns less). The
    architecture is that of Zhang et al., "Plug-and-play image restoration with deep denoiser
    prior" (2021). Images (N, 3, H, W), H and W multiples of 8; σ of shape (N,), in their units.
    Cost: 321,520 parameters, about 32,000 multiplications a pixel. Made with weights of chance.
    """

    def __init__(self) -> None:
        super().__init__()
        from deepinv.models import DRUNet

        self.noise = DRUNet(3, 3, nc=(16, 32, 64, 64), nb=1, pretrained=None)

    def forward(self, v: Tensor, sigma: Tensor) -> Tensor:
        return v - self.noise(v, sigma)


def trained() -> SmallDRUNet:
    """The network with the shipped weights, in float32 on the CPU."""
    from safetensors.torch import load_file

    network = SmallDRUNet()
    network.load_state_dict({name: w.float() for name, w in load_file(WEIGHTS).items()})
    return network.eval()
