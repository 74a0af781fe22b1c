"""What the figures share: the page, curves with bands, axes, legends, and saving."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmark.report.frame import traces
from benchmark.report.reading import printable
from benchmark.report.style import AXES, PAGES, Style, labelled_styles

DPI = 200
# inches: one column of a page, or both
ONE_COLUMN = 3.4
TWO_COLUMNS = 7.1
FAILED = {"marker": "X", "markersize": 7.5, "markeredgecolor": "white", "linestyle": "none"}
FAILED |= {"color": "#555555"}
WIDER = "in the version for two columns"
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


@dataclass(frozen=True)
class Page:
    """What a figure is drawn for: a style per method, and its width in inches."""

    styles: Mapping[str, Style]
    width: float = TWO_COLUMNS

    @property
    def narrow(self) -> bool:
        """Whether it is one column of a page, where panels are stacked and some left out."""
        return self.width < TWO_COLUMNS

    def looks(self, frame: pd.DataFrame, name: str) -> dict[str, Style]:
        """A shade of its method's style for each name in a column of the frame."""
        return labelled_styles(frame, name, self.styles)


@dataclass(frozen=True)
class Drawing:
    """A figure, and what was left out of it and why (one line each)."""

    figure: Figure
    notes: tuple[str, ...] = ()


class NothingToDrawError(Exception):
    """There is nothing to draw; the message says why."""


def look(names: Iterable[str] = ()) -> AbstractContextManager[None]:
    """The settings under which figures are both made and saved, with fonts that have the names."""
    own = mpl.rc_params_from_file(PAGES / "look.mplstyle", use_default_template=False)
    families = {"font.family": [*own["font.sans-serif"], *fonts(names)[0]]}
    return mpl.rc_context(sns.axes_style("ticks") | dict(own) | families)


def fonts(names: Iterable[str]) -> tuple[list[str], str]:
    """Families beside DejaVu Sans that have the glyphs of names, and the glyphs that none has."""
    missing = {ord(letter) for name in names for letter in name if letter.isprintable()}
    missing -= set(get_font(findfont("DejaVu Sans")).get_charmap())
    found = []
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
        if missing and entry.style == "normal" and entry.weight in (400, "normal", "regular"):
            there = missing & set(get_font(entry.fname).get_charmap())
            found += [entry.name] if there else []
            missing -= there
    return found, "".join(map(chr, sorted(missing)))


def plain(text: object) -> str:
    """A name as matplotlib writes it as it is: a pair of dollars would be mathematics."""
    return printable(str(text)).replace("$", r"\$")


def save(figure: Figure, stem: Path) -> list[str]:
    """Write ``stem``.png and ``stem``.pdf, without dates; returns the file names."""
    png, pdf = (stem.parent / f"{stem.name}.{kind}" for kind in ("png", "pdf"))
    # a layout that is found first is drawn once, not once more to find it
    figure.set_dpi(DPI)
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(None)
    figure.savefig(png, dpi=DPI, metadata={"Software": None})
    figure.savefig(pdf, metadata={"CreationDate": None})
    return [png.name, pdf.name]


def grid(
    lines: int,
    columns: int,
    size: tuple[float, float],
    *,
    below: Sequence[str] = (),
    left: Sequence[str] = (),
    **options: object,
) -> tuple[Figure, np.ndarray]:
    """A figure of a size in inches, and its axes as an array (line, column), labelled outside."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, **options)
    for axis, label in zip(axes[-1], below, strict=False):
        axis.set_xlabel(label)
    for axis, label in zip(axes[:, 0], left, strict=False):
        axis.set_ylabel(label)
    return figure, axes


def wrapped(
    count: int, abreast: int, size: tuple[float, float, float], below: str, **options: object
) -> tuple[Figure, np.ndarray]:
    """A figure of panels line after line; its width, a height, and that of each line, in inches."""
    width, above, each = size
    lines = math.ceil(count / abreast)
    figure, axes = grid(lines, abreast, (width, above + each * lines), sharex=True, **options)
    panels = axes.flat[:count]
    for axis in axes.flat[count:]:
        axis.remove()
    for axis in panels[-abreast:]:  # the last of its column, which need not be in the last line
        axis.set_xlabel(below)
        axis.tick_params(labelbottom=True)
    return figure, panels


def in_lines(
    page: Page, lines: Mapping[str, Sequence[str]], height: float
) -> tuple[Figure, np.ndarray]:
    """A line of panels for each y, one against each of its x; in one column of a page stacked."""
    abreast = len(next(iter(lines.values())))
    shape = (len(lines) * abreast, 1) if page.narrow else (len(lines), abreast)
    high = shape[0] * height * (0.75 if page.narrow else 1)
    figure, axes = grid(*shape, (page.width, high), sharey=True)
    axes = axes.reshape(len(lines), abreast)
    for row, (y, against) in zip(axes, lines.items(), strict=True):
        for axis, x in zip(row, against, strict=True):
            axis.set_xlabel(AXES[x])
            axis.set_ylabel(AXES[y] if page.narrow or axis is row[0] else "")
    return figure, axes


def headed(figure: Figure, title: str) -> None:
    """A title, in as many lines as the figure's width takes."""
    width = int(14 * figure.get_figwidth())
    figure.suptitle(plain("\n".join(textwrap.wrap(title, width=width))))


def finish(
    figure: Figure, title: str = "", handles: Sequence[Artist] = (), notes: Sequence[str] = ()
) -> Drawing:
    """Title, legend in room of its own below the panels, and no box around the data; a log axis of
    few decades has ticks at 1, 2 and 5 of each, as plain numbers.
    """
    if title:
        headed(figure, title)
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        fit = max(1, int(figure.get_figwidth() / (0.55 + 0.055 * longest)))
        figure.set_figheight(figure.get_figheight() + 0.15 * math.ceil(len(handles) / fit))
        figure.legend(handles=handles, loc="outside lower center", ncols=min(fit, len(handles)))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if axis.get_scale() == "log" and not isinstance(axis.get_major_locator(), FixedLocator):
            low, high = axis.get_view_interval()
            if high < 100 * low:
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter(PLAIN)
            axis.set_minor_formatter(NullFormatter())
    sns.despine(fig=figure)
    return Drawing(figure, tuple(notes))


def entries(
    looks: Mapping[str, Style],
    ends: Mapping[str, str] | None = None,
    *,
    points: Collection[str] = (),
) -> list[Line2D]:
    """Entries of a legend: the line and marker of each label, of ``points`` the marker alone, and
    how its runs ended.
    """
    ends = dict.fromkeys(looks, "") | dict(ends or {})
    shapes = {name: look.dots if name in points else look.line for name, look in looks.items()}
    return [Line2D([], [], label=plain(n + ends[n]), **shape) for n, shape in shapes.items()]


def ticks(axis: Axes, values: Sequence[float]) -> None:
    """Ticks at the values themselves, as plain numbers, those that would collide left out."""
    kept = [values[0]]
    span = np.log(values[-1] / values[0])
    for value in values[1:]:
        if np.log(value / kept[-1]) > 0.06 * span:
            kept.append(value)
    axis.xaxis.set_major_locator(FixedLocator(kept))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(PLAIN)


def spread(axis: Axes) -> None:
    """A log axis where the lines' ends lie over a decade apart, linear before the first step."""
    lines = [line.get_xdata() for line in axis.lines if len(line.get_xdata()) > 1]
    first = min((line[1] for line in lines if line[1] > 0), default=math.inf)
    ends = [line[-1] for line in lines if line[-1] > 0]
    if math.isfinite(first) and max(ends) > 10 * min(ends):
        decades = range(math.ceil(math.log10(first)), math.ceil(math.log10(max(ends))) + 1)
        axis.set_xscale("symlog", linthresh=first, linscale=0.5)
        axis.xaxis.set_major_locator(FixedLocator([0, *(10.0**k for k in decades)]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlim(-0.15 * first, 1.3 * max(ends))


def room(axis: Axes, share: float) -> None:
    """Room on the right of a log axis, a share of it, for the numbers beside the dots."""
    low, high = axis.get_xlim()
    axis.set_xlim(low, high * (high / low) ** share)


def curves(
    axis: Axes,
    rows: pd.DataFrame,
    across: tuple[str, str],
    x: str,
    y: str,
    looks: Mapping[str, Style],
    ends: tuple[float, float] | None = None,
) -> None:
    """``frame.traces``: lines with bands; fewer than three points stand alone, with bars. With ends
    both axes are logs, and level lines have no markers.
    """
    if ends is not None:
        axis.set(xscale="log", yscale="log")
    level = set(rows.loc[rows[x].isna() & rows[y].notna(), across[0]]) if x == "layers" else ()
    for trace in traces(rows, across, x, y, looks, ends or ()):
        look, at, flat = looks[trace["label"]], trace["x"], trace["label"] in level
        curve = flat or len(at) > 2
        shape = (look.line if curve else look.dots) | ({"marker": ""} if flat else {})
        axis.plot(at, trace["y"], **shape)
        if "y_low" in trace:
            band = {"color": look.color, "alpha": 0.18, "linewidth": 0 if curve else 3}
            draw = axis.fill_between if curve else axis.vlines
            draw(at, trace["y_low"], trace["y_high"], **band)


def cross(axis: Axes, x: float, y: float, style: Style, *, at_top: bool = False) -> None:
    """A failure, at a point or at the top of the axis."""
    look = FAILED | {"color": style.color, "clip_on": False, "zorder": 5}
    look["transform"] = axis.get_xaxis_transform() if at_top else axis.transData
    axis.plot([x], [y], **look)


def dots(
    axis: Axes, page: Page, rows: pd.DataFrame, *, middle: bool, above: float, below: float
) -> None:
    """A named row for each of ``frame.costs``, the first on top: a dot for each value, the least
    and the most beside them; or with ``middle`` the median alone.
    """
    axis.set_xscale("log")
    for position, row in enumerate(rows.itertuples()):
        look, values = page.styles[row.method], row.values
        if not len(values):
            at = {"xycoords": axis.get_yaxis_transform(), "va": "center", "fontsize": 6}
            axis.annotate(row.failed or "not measured", (0.02, position), color=look.color, **at)
            continue
        shown = [float(np.median(values))] if middle else values
        bar = {"linewidth": 3, "alpha": 0.3} if middle else {"alpha": 0.4}
        axis.plot([min(values), max(values)], [position] * 2, color=look.color, **bar)
        axis.plot(shown, [position] * len(shown), **look.dots)
        # three significant digits; whole numbers from a thousand to a million
        ends = (f"{v:.0f}" if 1e3 <= v < 1e6 else f"{v:.3g}" for v in (min(shown), max(shown)))
        text = " – ".join(dict.fromkeys(ends)) + (f" ({row.failed})" if row.failed else "")
        at = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 6}
        axis.annotate(text, (max(values), position), **at)
    axis.set_yticks(range(len(rows)), [plain(name) for name in rows.index])
    axis.set_ylim(len(rows) - below, -above)
    axis.grid(visible=False, axis="y")
