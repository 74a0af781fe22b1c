"""One colour, marker and dash per method: told apart by the colour-blind and in black and white.

The looks are in ``pages/looks.csv``: Okabe and Ito's palette without its yellow (too light on
white), then Tol's muted one. A look belongs to a name; no two share marker and fill. Those without
a name are for methods that are not listed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex, to_rgb

PAGES = Path(__file__).parent / "pages"
#: of each measured column: its header and decimals in tables (none: three significant digits), and
#: the label of an axis
COLUMNS = pd.read_csv(PAGES / "columns.csv", index_col="name")
#: what is said below tables
NOTES = pd.read_csv(PAGES / "notes.csv", index_col="key")["text"]
AXES = COLUMNS["axis"].dropna().to_dict()
DASHES = ((), (4, 1.5), (1, 1.2), (5, 1.2, 1, 1.2), (7, 2), (3, 1, 1, 1, 1, 1))


@dataclass(frozen=True)
class Style:
    """How a method is drawn: ``#rrggbb``, matplotlib marker, which of ``DASHES``, full or empty."""

    color: str
    marker: str
    dash: int
    filled: bool = True

    @property
    def line(self) -> dict[str, object]:
        """As the properties of a matplotlib line."""
        return {**self.dots, "linestyle": (0, DASHES[self.dash] or None)}

    @property
    def dots(self) -> dict[str, object]:
        """Likewise, markers without a line."""
        face = self.color if self.filled else "white"
        faces = {"markerfacecolor": face, "markeredgecolor": self.color}
        return {"color": self.color, "marker": self.marker, **faces, "linestyle": "none"}


_LOOKS = pd.read_csv(PAGES / "looks.csv", keep_default_na=False).itertuples(index=False, name=None)
_LOOKS = [(name, Style(*look)) for name, *look in _LOOKS]
KNOWN = {name: style for name, style in _LOOKS if name}
FREE = tuple(style for name, style in _LOOKS if not name)


def method_order(methods: Iterable[str]) -> list[str]:
    """The methods once each: the known ones in their fixed order, then the others sorted."""
    present = set(methods)
    return [name for name in KNOWN if name in present] + sorted(present - set(KNOWN))


def method_styles(methods: Iterable[str]) -> dict[str, Style]:
    """A style for each method; unknown ones have the next free entry, at last with full markers."""
    free = itertools.cycle([*FREE, *(replace(style, filled=True) for style in FREE)])
    return {name: KNOWN.get(name) or next(free) for name in method_order(methods)}


def variants(style: Style, count: int) -> list[Style]:
    """``count`` shades of one style, light to full; the dash and the marker's fill differ too."""
    full = np.array(to_rgb(style.color))
    return [
        replace(
            style,
            color=to_hex(full + (1 - full) * 0.6 * back / max(1, count - 1)),
            dash=(style.dash + back) % len(DASHES),
            filled=style.filled if count == 1 else back % 2 == 0,
        )
        for back in reversed(range(count))
    ]


def labelled_styles(
    frame: pd.DataFrame, name: str, styles: Mapping[str, Style]
) -> dict[str, Style]:
    """A shade of its method's style for each name in a column, light to full with restarts."""
    known = frame[[*dict.fromkeys(["method", "restarts", "layers", name])]].drop_duplicates()
    ordered = known.sort_values(["restarts", "layers"], kind="stable").drop_duplicates(name)
    labels, looks = ordered.groupby("method")[name].agg(list), {}
    for method in method_order(labels.index):
        shades = variants(styles[method], len(labels[method]))
        looks |= zip(labels[method], shades, strict=True)
    return looks
