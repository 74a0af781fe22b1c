"""Reconstructions side by side: whole, a window of them close up, and their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmark.report.drawing import Drawing, NothingToDrawError, Page, grid, headed, plain
from benchmark.report.frame import RUN, endings, last_rows, renamed
from benchmark.report.reading import IMAGES
from benchmark.report.style import method_order

LINES = 3  # whole, close up, errors
CLOSE = 0.3  # side of the window, of the image's shorter side
SMALLEST = 8  # pixels of the window's side
# dashes of white on black are seen on any image
BOX = ({"edgecolor": "#000000"}, {"edgecolor": "#ffffff", "linestyle": (0, (3, 3))})


class Panel(NamedTuple):
    """An image (height, width, 3), uint8, its label and the colour of its frame; of one of the
    truth's size its absolute ``error``, the mean over colours, in [0, 1].
    """

    label: str
    image: np.ndarray
    color: str = "#bbbbbb"
    error: np.ndarray | None = None


def reconstructions(frame: pd.DataFrame, page: Page) -> Drawing:
    """Reconstructions, of one task: of each method of the run with the most outer steps (then the
    best test PSNR, then the first repetition).
    """
    last = last_rows(frame)
    images = last[[*IMAGES]].map(lambda image: np.ndim(image) == 3).all(axis=1)
    by = ["outer_step", "test_psnr", "repetition", *RUN]
    order = {"ascending": [False, False, *[True] * (len(by) - 2)], "kind": "stable"}
    chosen = last[images].sort_values(by, **order).drop_duplicates("method")
    if chosen.empty:
        raise NothingToDrawError("no images in the data")
    truth = chosen["truth"].iloc[0]
    same = chosen["truth"].map(lambda image: np.array_equal(image, truth))
    chosen = chosen[same & chosen["reconstruction"].map(lambda image: image.shape == truth.shape)]
    if chosen.empty:
        raise NothingToDrawError("no reconstruction of the same size as the truth")
    chosen, ends = renamed(chosen).set_index("method", drop=False), endings(chosen, "method")
    chosen = chosen.loc[method_order(chosen.index)]
    shown = [Panel("truth", truth), _panel("observation", chosen["observation"].iloc[0], truth)]
    for row in chosen.itertuples():
        label, color = row.configuration + ends[row.Index], page.styles[row.Index].color
        shown.append(_panel(label, row.reconstruction, truth)._replace(color=color))
    figure = _image_grid(shown, page.width)
    headed(figure, frame["task"].iloc[0])
    missing = ", ".join(m for m in method_order(frame["method"]) if m not in chosen.index)
    why = "no final images, or of another test image"
    return Drawing(figure, (f"{missing}: {why}",) if missing else ())


def window(images: Sequence[np.ndarray], truth: np.ndarray) -> tuple[slice, slice]:
    """The square, its rows and columns, in which the images differ most (variance); if nowhere, the
    truth's texture. Of several the topmost, then the leftmost.
    """
    apart = np.stack(images).astype(float).var(axis=0).mean(axis=2)
    if not apart.any():
        steps = np.gradient(truth.astype(float), axis=(0, 1))
        apart = sum(step**2 for step in steps).mean(axis=2)
    side = min(*truth.shape[:2], max(SMALLEST, round(CLOSE * min(truth.shape[:2]))))
    sums = np.lib.stride_tricks.sliding_window_view(apart, (side, side)).sum(axis=(2, 3))
    row, column = map(int, np.argwhere(sums >= sums.max() * (1 - 1e-9))[0])
    return slice(row, row + side), slice(column, column + side)


def _image_grid(panels: Sequence[Panel], width: float) -> Figure:
    """Images above (the first is the truth), then close up, then their errors on one scale: that of
    the reconstructions. What does not fit in a line comes in several such blocks of lines.
    """
    truth = panels[0].image
    part = window([panel.image for panel in panels[2:]], truth)
    top = max(float(np.quantile(panel.error, 0.995)) for panel in panels[2:]) or 1 / 255
    blocks = math.ceil(len(panels) / max(3, int(width)))
    columns = math.ceil(len(panels) / blocks)
    side = width / columns - 0.06
    whole = side * truth.shape[0] / truth.shape[1]
    lines = 1 + max(panel.label.count("\n") for panel in panels)
    size = (width, blocks * (2 * whole + side + 0.12 * lines + 0.1) + 0.3)
    figure, axes = grid(LINES * blocks, columns, size, height_ratios=[whole, side, whole] * blocks)
    for axis in axes.flat:
        axis.set_axis_off()
    cells = zip(*(axes[line::LINES].flat for line in range(LINES)), strict=True)
    for panel, (upper, close, lower) in zip(panels, cells, strict=False):
        _picture(upper, panel.image, panel.color)
        upper.set_title(panel.label, fontsize=6.5)
        if panel.image.shape == truth.shape:  # the observation may have another
            corner, box = (part[1].start - 0.5, part[0].start - 0.5), panel.image[part].shape[:2]
            for look in BOX:
                upper.add_patch(Rectangle(corner, *box, fill=False, **look))
            _picture(close, panel.image[part], panel.color)
        if panel.error is not None:
            options = {"cmap": "magma", "vmin": 0, "vmax": top, "interpolation": "nearest"}
            scale = lower.imshow(panel.error, **options)
    beside = axes[LINES - 1][0].inset_axes((0.75, 0.02, 0.12, 0.96))
    bar = figure.colorbar(scale, cax=beside, extend="max")
    bar.set_label("absolute error\n(1: full range)", fontsize=6.5)
    bar.ax.yaxis.set(ticks_position="left", label_position="left")
    return figure


def _picture(axis: Axes, image: np.ndarray, color: str) -> None:
    """An image without ticks, in a frame."""
    axis.set_axis_on()
    axis.imshow(image, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(color=color, linewidth=1.5)


def _panel(label: str, image: np.ndarray, truth: np.ndarray) -> Panel:
    """With the label's parameters in a line each and, of an image of the truth's size, the PSNR."""
    label = plain(label).replace(" (", "\n").replace(", ", "\n").replace(")", "")
    if image.shape != truth.shape:
        return Panel(label, image)
    gap = image.astype(float) - truth
    mse = np.mean(gap**2)
    psnr = 10 * np.log10(255**2 / mse) if mse > 0 else math.inf
    return Panel(f"{label}\n{psnr:.2f} dB", image, error=np.abs(gap).mean(axis=2) / 255)
