"""The lower levels by name, one family of layers per file."""

from benchmark.lower.drunet import learned_drunet
from benchmark.lower.pnp import PlugAndPlay
from benchmark.lower.tikhonov import Tikhonov
from benchmark.lower.wavelet_l1 import WaveletL1

LOWER_LEVELS = {
    "tikhonov": Tikhonov,
    "wavelet_l1": WaveletL1,
    "pnp": PlugAndPlay,
    "drunet": learned_drunet,
}
