"""One colour, marker and dash per method: told apart by the colour-blind and in black and white."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (4, 1.5),
    (1, 1.2),
    (5, 1.2, 1, 1.2),
    (7, 2),
    (3, 1, 1, 1, 1, 1),
)


@dataclass(frozen=True)
class Style:
    """How a method is drawn: ``#rrggbb``, matplotlib marker, on-off dash lengths, full or empty."""

    color: str
    marker: str
    dash: tuple[float, ...]
    filled: bool = True

    @property
    def face(self) -> str:
        """Fill colour of the marker."""
        return self.color if self.filled else "white"

    @property
    def line(self) -> dict[str, object]:
        """As the properties of a matplotlib line."""
        return {**self.dots, "linestyle": (0, self.dash or None)}

    @property
    def dots(self) -> dict[str, object]:
        """Likewise, markers without a line."""
        faces = {"markerfacecolor": self.face, "markeredgecolor": self.color}
        return {"color": self.color, "marker": self.marker, **faces, "linestyle": "none"}


# Okabe and Ito's palette without its yellow (too light on white), then Tol's muted one. A look
# belongs to a name, whichever other methods there are; no two share marker and fill.
KNOWN = {
    "Unrolling": Style("#d55e00", "s", DASHES[1]),
    "Checkpointed-Unrolling": Style("#882255", "<", DASHES[2]),
    "JFB": Style("#e69f00", "^", DASHES[2]),
    "Restarted-JFB": Style("#0072b2", "o", DASHES[0]),
    "DEQ": Style("#000000", "D", DASHES[3]),
    "Neumann": Style("#009e73", "v", DASHES[4]),
    "Phantom": Style("#cc79a7", "P", DASHES[5]),
    "SHINE": Style("#56b4e9", "d", DASHES[1]),
    "Forward-Mode": Style("#999933", ">", DASHES[3]),
    "Finite-Differences": Style("#332288", "p", DASHES[4]),
    "SPSA": Style("#661100", "h", DASHES[5]),
    "HOAG": Style("#888888", "*", DASHES[0]),
    "Single-Loop": Style("#44aa99", "8", DASHES[2]),
    "TPE": Style("#aa4499", "H", DASHES[3]),
    "Grid-Search": Style("#117733", "s", DASHES[4], filled=False),
    "torchdeq-IFT": Style("#6699cc", "D", DASHES[5], filled=False),
    "torchdeq-Phantom": Style("#dd5599", "P", DASHES[0], filled=False),
    "deepinv-DEQ": Style("#aa7744", "v", DASHES[1], filled=False),
    "deepinv-JFB": Style("#cc6677", "^", DASHES[3], filled=False),
}
# For names that are not above.
FREE = (
    Style("#1b7837", "o", DASHES[4], filled=False),
    Style("#762a83", "d", DASHES[5], filled=False),
    Style("#2166ac", "<", DASHES[1], filled=False),
    Style("#b2182b", ">", DASHES[2], filled=False),
    Style("#4d4d4d", "p", DASHES[3], filled=False),
    Style("#8c510a", "h", DASHES[4], filled=False),
    Style("#01665e", "*", DASHES[5], filled=False),
    Style("#5e4fa2", "8", DASHES[0], filled=False),
    Style("#9970ab", "H", DASHES[1], filled=False),
)


def method_order(methods: Iterable[str]) -> list[str]:
    """The methods once each: the known ones in their fixed order, then the others sorted."""
    present = set(methods)
    return [name for name in KNOWN if name in present] + sorted(present - set(KNOWN))


def method_styles(methods: Iterable[str]) -> dict[str, Style]:
    """A style for each method; an unknown one takes the next free entry, in sorted order.

    Past the end of ``FREE`` the colours come again with full markers.
    """
    again = [replace(style, filled=True) for style in FREE]
    free = itertools.cycle([*FREE, *again])
    return {name: KNOWN.get(name) or next(free) for name in method_order(methods)}


def variants(style: Style, count: int) -> tuple[Style, ...]:
    """``count`` shades of one style, light to full; the dash and the marker's fill differ too."""
    start = DASHES.index(style.dash)
    return tuple(
        replace(
            style,
            color=_lighten(style.color, 0.6 * back / max(1, count - 1)),
            dash=DASHES[(start + back) % len(DASHES)],
            filled=style.filled if count == 1 else back % 2 == 0,
        )
        for back in reversed(range(count))
    )


def labelled_styles(
    frame: pd.DataFrame, *, name: str, styles: Mapping[str, Style]
) -> dict[str, Style]:
    """A shade of its method's style for each name in a column, light to full with restarts."""
    ordered = frame.sort_values(["restarts", "layers"], kind="stable")
    methods = dict(zip(ordered[name], ordered["method"], strict=True))
    found = {}
    for method in method_order(methods.values()):
        labels = [label for label, owner in methods.items() if owner == method]
        found.update(zip(labels, variants(styles[method], len(labels)), strict=True))
    return found


def _lighten(color: str, share: float) -> str:
    """The colour mixed with a share of white."""
    channels = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(value + (255 - value) * share):02x}" for value in channels)
