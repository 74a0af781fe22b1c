"""A small DRUNet whose weights ship with the package; MODEL_CARD.md says how they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import final

from torch import Tensor, nn

#: trained weights, stored in float16; MODEL_CARD.md beside them says how and how good
WEIGHTS = Path(__file__).with_name("small_drunet.safetensors")
#: channels of the shipped network at its four scales, where its file does not name them
CHANNELS = (32, 64, 128, 128)
#: noise levels seen in training, for images in [0, 1]
LARGEST_NOISE_LEVEL = 0.25


@final
class SmallDRUNet(nn.Module):
    """D(v, σ) = v − N(v, σ), N a DRUNet with four scales of 32, 64, 128, 128 channels.

    N is deepinv's network with one block per scale, ReLU, without biases: D is positively
    homogeneous, D(tv, tσ) = t D(v, σ), and differentiable almost everywhere only (with ELU it would
    be everywhere, but features of the size of these images hardly bend it: it learns less). The
    architecture is that of Zhang et al., "Plug-and-play image restoration with deep denoiser
    prior" (2021). Images (N, 3, H, W), H and W multiples of 8; σ of shape (N,), in their units.
    Cost: 1,284,064 parameters, about 128,000 multiplications a pixel; with other ``channels``, as
    many as they ask for. Made with weights of chance.
    """

    def __init__(self, channels: tuple[int, int, int, int] = CHANNELS) -> None:
        super().__init__()
        from deepinv.models import DRUNet

        self.noise = DRUNet(3, 3, nc=channels, nb=1, pretrained=None)

    def forward(self, v: Tensor, sigma: Tensor) -> Tensor:
        return v - self.noise(v, sigma)


def trained(weights: Path | None = None) -> SmallDRUNet:
    """The network of a file, the shipped one unless given, in float32 on the CPU.

    Its channels are those that the file's metadata name ("channels", a JSON list), else CHANNELS.
    """
    from safetensors import safe_open

    with safe_open(weights or WEIGHTS, framework="pt") as file:
        channels = json.loads((file.metadata() or {}).get("channels", "null")) or CHANNELS
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    network = SmallDRUNet(tuple(channels))
    network.load_state_dict(tensors)
    return network.eval()
