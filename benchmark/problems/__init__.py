"""The lower levels by name, one family of layers per file."""

from benchmark.options.spec import Kind
from benchmark.problems.brought import LOWER_LEVEL_FORM
from benchmark.problems.drunet import learned_drunet
from benchmark.problems.pnp import PlugAndPlay
from benchmark.problems.tikhonov import Tikhonov
from benchmark.problems.wavelet_l1 import WaveletL1
from benchmark.problems.wavelet_l12 import WaveletL12

LOWER_LEVELS = {
    "drunet": learned_drunet,
    "pnp": PlugAndPlay,
    "tikhonov": Tikhonov,
    "wavelet_l1": WaveletL1,
    "wavelet_l12": WaveletL12,
}

LOWER_LEVEL: Kind = Kind("lower level", LOWER_LEVELS, form=LOWER_LEVEL_FORM)
