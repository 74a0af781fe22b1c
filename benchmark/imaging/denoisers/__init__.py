"""Denoisers D(v, σ) by name: modules on images (N, C, H, W) with noise levels σ of shape (N,)."""

from benchmark.imaging.denoisers.table import DENOISERS, make_denoiser

__all__ = ["DENOISERS", "make_denoiser"]
