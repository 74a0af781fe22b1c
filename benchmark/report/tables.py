"""Tables: numbers from the tidy frame, the same as text, and that in four formats."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tabulate import DataRow, TableFormat

from benchmark.report import frame as tidied
from benchmark.report.frame import AT_COMMON, COMMON, counted_rows, how_ended
from benchmark.report.names import DIRECTIONS, LOSS, MSE, called, directions, extra, losses
from benchmark.report.reading import unpacked
from benchmark.report.style import COLUMNS, NOTES

MISSING = "—"
HEADERS = COLUMNS["header"].dropna()
#: cells to emphasise: (row, column header)
Bold = Set[tuple[int, str]]
LATEX = {"\\": r"\textbackslash{}", **{character: f"\\{character}" for character in "_%&#${}"}}
LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": " "}
LATEX |= {"θ": r"$\theta$", "±": r"$\pm$", "—": "---", "<": r"$<$", ">": r"$>$"}
LATEX = str.maketrans(LATEX | {"↑": r"$\uparrow$", "↓": r"$\downarrow$"})
#: what Markdown would take for a link, a tag or the end of a cell
MARKDOWN = re.compile(r"[\\`*|]|\](?=[(\[:])")
#: what a spreadsheet would take for a formula
FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: a pipe table whose cells are as wide as they are: configurations have long names
PIPES = TableFormat(
    *(None, lambda widths, _: f"| {' | '.join(['---'] * len(widths))} |", None, None),
    *(DataRow("|", "|", "|"), DataRow("|", "|", "|")),
    padding=1,
    with_header_hide=None,
)


@dataclass(frozen=True)
class Table:
    """Numbers, the same as text with some cells in bold, and what is said below it."""

    name: str
    numbers: pd.DataFrame
    text: pd.DataFrame
    bold: Bold = frozenset()
    note: str = ""

    def files(self) -> dict[str, str]:
        """The content of a file in each format, by name."""
        return {
            f"{self.name}.csv": to_csv(self.numbers),
            f"{self.name}.md": to_markdown(self.text, self.bold, note=self.note),
            f"{self.name}.tex": to_latex(self.text, self.bold, note=self.note),
            f"{self.name}.html": to_html(self.text, self.bold, name=self.name, note=self.note),
        }


def summarised(frame: pd.DataFrame) -> Table:
    """The summary table: a row per task and configuration, the mean ± deviation of each column."""
    numbers = summary(frame)
    heads = numbers[["task", "configuration"]]
    text = pd.concat([heads, spelled(numbers, columns(frame)), numbers["status"]], axis=1)
    return Table("table", numbers, text, note=f"{taken_over(frame)} {NOTES['terms']}")


def columns(frame: pd.DataFrame) -> list[str]:
    """What the table has a column of: ``HEADERS``, the frame's metrics after test SSIM; not what
    was measured nowhere at a common θ, nor that at a method's own where it is the start.
    """
    names = list(HEADERS.index)
    after = names.index("test_ssim") + 1
    without = {name for name in AT_COMMON if frame[name].isna().all()}
    if not (frame["outer_step"] > 0).any():
        without |= {name for name in COMMON if f"{name}_start" not in without}
    found = [*names[:after], *extra(frame), *names[after:]]
    return [name for name in found if name not in without]


def taken_over(frame: pd.DataFrame) -> str:
    """How much the numbers of a table are taken over: repetitions, images and photographs."""
    images, photographs = (own.dropna() for _, own in test_images(frame).items())
    said = _counted(frame.groupby("task")["repetition"].nunique(), "repetition")
    if (images > 0).any():
        said += f", {_counted(images, 'test image')}"
        of = f" of {_counted(photographs, 'photograph')}" if len(photographs) else ""
        said += of or ", each taken for a photograph of its own"
    return f"Of each task {said}."


def test_images(frame: pd.DataFrame) -> pd.DataFrame:
    """By task, how many ``test_images`` there are, of how many ``test_photographs`` (or NaN)."""
    first = frame.groupby("task")[["test_psnr_images", "test_photographs"]].first()
    images, named = first["test_psnr_images"], first["test_photographs"]
    images = images.map(lambda values: np.size(unpacked(values)), na_action="ignore")
    named = named.map(lambda names: len(set(json.loads(names))), na_action="ignore")
    found = {"test_images": images.fillna(0).astype(int), "test_photographs": named.astype(float)}
    return pd.DataFrame(found)


def _counted(numbers: pd.Series, noun: str) -> str:
    """``1 repetition``, ``2 to 5 repetitions``."""
    ends = dict.fromkeys([int(numbers.min()), int(numbers.max())])
    return f"{' to '.join(map(str, ends))} {noun}{'s' if max(ends) != 1 else ''}"


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers of the table: for each of ``columns`` its mean, standard deviation (``ddof=1``, NaN
    for one run) and count, over ``counted_rows``; a configuration whose runs all failed keeps its
    row. ``loss`` is there where one is not MSE, ``higher_is_better`` where a metric was added.
    """
    ends, key = tidied.last_rows(frame), ["task", "configuration"]
    good = with_time_ratio(counted_rows(frame))
    counted = good.groupby(key, sort=False)[columns(frame)].agg(["mean", "std", "count"])
    counted.columns = [f"{name}_{part}" for name, part in counted.columns]
    groups = ends.assign(ok=ends["ending"] == "ok").groupby(key, sort=False)
    parts = {"method": ("method", "first"), "status": ("ok", "size"), "runs": ("ok", "size")}
    parts |= {"ok": ("ok", "sum"), "repetitions": ("repetition", "nunique")}
    heads = groups.agg(**parts).join(test_images(frame), on="task")
    heads["status"] = [_status(own) for _, own in groups[["ending", "inexact"]]]
    solvers = groups["solver_name"].agg(lambda found: "; ".join(sorted(set(found))))
    numbers = heads.join(counted).assign(solver_name=solvers)
    if losses(frame) != [MSE]:
        numbers[LOSS] = groups[LOSS].first()
    if extra(frame):
        numbers[DIRECTIONS] = json.dumps(directions(frame))
    counts = [name for name in numbers if name.endswith("_count")]
    return numbers.fillna(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, int)).reset_index()


def with_time_ratio(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``time_ratio``: a hypergradient's seconds over those of the task's fastest configuration,
    the one with the least median on a machine, in the same source and repetition: other times are
    not comparable. NaN where it has none.
    """
    timed = rows.assign(seconds=rows[tidied.cost_column(rows, "gradient_seconds")])
    found = timed.groupby(["task", "device", "configuration"])["seconds"].agg(["count", "median"])
    # one that was timed everywhere, if there is one: the others have ratios there alone
    found = found.reset_index().sort_values(["count", "median"], ascending=[False, True])
    fastest = found.drop_duplicates(["task", "device"])[["task", "device", "configuration"]]
    known = timed.merge(fastest).groupby(["source", "task", "repetition"])["seconds"].median()
    timed = timed.join(known.rename("least"), on=known.index.names)
    return rows.assign(time_ratio=timed["seconds"] / timed["least"])


def _status(ends: pd.DataFrame) -> str:
    """``3/5 ok, 1 diverged, 1 oom``."""
    others = (f"{count} {how}" for how, count in how_ended(ends).items())
    return ", ".join([f"{(ends['ending'] == 'ok').sum()}/{len(ends)} ok", *others])


def spelled(numbers: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Columns of numbers as text under their headers (``names.called``): the values of ``name`` are
    in that column, or in ``name_mean`` and ``name_std``.
    """
    text = {}
    for name in names:
        decimals = COLUMNS["decimals"].get(name, math.nan)
        means = numbers[name if name in numbers else f"{name}_mean"]
        spreads = numbers.get(f"{name}_std", [math.nan] * len(numbers))
        cells = [measured(*pair, decimals=decimals) for pair in zip(means, spreads, strict=True)]
        text[called(name, numbers, HEADERS)] = cells
    return pd.DataFrame(text, index=numbers.index, dtype=str)


def measured(mean: float, std: float = math.nan, *, decimals: float = math.nan) -> str:
    """``mean ± std`` to fixed decimals, or so that the mean has three significant digits; the mean
    alone where there is no deviation (one run), a dash where there is no mean.
    """
    if math.isnan(mean):
        return MISSING
    exponent = math.floor(math.log10(abs(mean))) if mean else 0
    if math.isnan(decimals) and not -3 <= exponent < 5:
        scale = 10.0**exponent
        inner = measured(mean / scale, std / scale, decimals=2)
        return f"({inner})e{exponent:+03d}" if "±" in inner else f"{inner}e{exponent:+03d}"
    places = max(0, 2 - exponent) if math.isnan(decimals) else int(decimals)
    if decimals == 0 and (mean != round(mean) or std > 0):
        places = 1
    spread = "" if math.isnan(std) else f" ± {std:.{places}f}"
    return f"{mean:.{places}f}{spread}"


def to_csv(numbers: pd.DataFrame) -> str:
    """The unrounded numbers; a text that a spreadsheet would compute has an apostrophe before."""
    texts = numbers.select_dtypes(["object", "string", "category"])
    safe = texts.map(lambda cell: f"'{cell}" if str(cell).startswith(FORMULA) else cell)
    return numbers.assign(**safe).to_csv(index=False, lineterminator="\n")


def in_markdown(text: str) -> str:
    """A text as Markdown shows it: no tag, no link, no emphasis, one line."""
    return MARKDOWN.sub(r"\\\g<0>", html.escape(" ".join(text.split()), quote=False))


def to_markdown(text: pd.DataFrame, bold: Bold = frozenset(), *, note: str = "") -> str:
    """A pipe table, and the note below it."""
    cells = text.map(in_markdown).rename(columns=in_markdown)
    for row, name in bold:
        cells.loc[row, in_markdown(name)] = f"**{cells.loc[row, in_markdown(name)]}**"
    options = {"tablefmt": PIPES, "stralign": None, "disable_numparse": True}
    table = cells.to_markdown(index=False, **options) + "\n"
    return f"{table}\n{in_markdown(note)}\n" if note else table


def to_latex(text: pd.DataFrame, bold: Bold = frozenset(), *, note: str = "") -> str:
    """A booktabs ``tabular`` (for ``\\input``), a rule where the first column changes; the note."""
    cells = text.map(lambda cell: cell.translate(LATEX))
    for row, name in bold:
        cells.loc[row, name] = rf"\textbf{{{cells.loc[row, name]}}}"
    heads = [name.translate(LATEX) for name in text]
    head, *body = (" & ".join(row) + r" \\" for row in (heads, *cells.to_numpy()))
    first = text.iloc[:, 0]
    for row in reversed(range(1, len(text))):
        if first[row] != first[row - 1]:
            body.insert(row, r"\midrule")
    start = rf"\begin{{tabular}}{{ll{'r' * (text.shape[1] - 3)}l}}"
    lines = [start, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    below = [rf"\par\smallskip {{\footnotesize {note.translate(LATEX)}}}"] if note else []
    return "\n".join([r"% needs \usepackage{booktabs}", *lines, *below, ""])


def to_html(text: pd.DataFrame, bold: Bold = frozenset(), *, name: str, note: str = "") -> str:
    """A page fragment, grouped by the first column, rows named by the second; the note below."""
    from great_tables import GT, loc, style  # here: benchopt's pages do without it

    group, named = text.columns[:2]
    own = "summary" if name == "table" else name
    table = GT(text, rowname_col=named, groupname_col=group, id=own)
    for row, column in sorted(bold):
        table = table.tab_style(style.text(weight="bold"), loc.body(columns=column, rows=[row]))
    table = table.tab_source_note(note) if note else table
    return table.as_raw_html() + "\n"
