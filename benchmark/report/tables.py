"""Tables: numbers from the tidy frame, the same as text, and that in four formats."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Set
from dataclasses import dataclass

import pandas as pd
from tabulate import DataRow, TableFormat

from benchmark.report.frame import last_rows
from benchmark.report.metrics import DIRECTIONS, LOSS, MSE, called, directions, extra, losses
from benchmark.report.style import COLUMNS

MISSING = "—"
HEADERS = COLUMNS["header"].dropna()
#: cells to emphasise: (row, column header)
Bold = Set[tuple[int, str]]
LATEX = {"\\": r"\textbackslash{}", **{character: f"\\{character}" for character in "_%&#${}"}}
LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {"θ": r"$\theta$", "±": r"$\pm$", "—": "---"}
LATEX |= {"↑": r"$\uparrow$", "↓": r"$\downarrow$"}
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
            f"{self.name}.md": to_markdown(self.text, self.bold),
            f"{self.name}.tex": to_latex(self.text, self.bold),
            f"{self.name}.html": to_html(self.text, self.bold, name=self.name, note=self.note),
        }


def summarised(frame: pd.DataFrame) -> Table:
    """The summary table: a row per task and configuration, the mean ± deviation of each column."""
    numbers = summary(frame)
    heads = numbers[["task", "configuration"]]
    text = pd.concat([heads, spelled(numbers, columns(frame)), numbers["status"]], axis=1)
    return Table("table", numbers, text)


def columns(frame: pd.DataFrame) -> list[str]:
    """What the table has a column of: ``HEADERS``, the frame's metrics after test SSIM."""
    names = list(HEADERS.index)
    after = names.index("test_ssim") + 1
    return [*names[:after], *extra(frame), *names[after:]]


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers of the table: for each of ``columns`` its mean, standard deviation and count.

    They are taken over the last rows of the runs that ended well (``ddof=1``, NaN for one run);
    a configuration whose runs all failed keeps its row. ``runs``, ``ok`` and ``status`` say how
    many runs there are and how the others ended, ``solver_name`` spells out every parameter.
    ``loss`` and ``higher_is_better`` are there where a loss is not MSE, or a metric was added.
    """
    ends, key = last_rows(frame), ["task", "configuration"]
    good = with_time_ratio(ends[ends["status"] == "ok"])
    counted = good.groupby(key, sort=False)[columns(frame)].agg(["mean", "std", "count"])
    counted.columns = [f"{name}_{part}" for name, part in counted.columns]
    groups = ends.assign(ok=ends["status"] == "ok").groupby(key, sort=False)
    heads = groups.agg(
        method=("method", "first"),
        status=("status", _status),
        runs=("status", "size"),
        ok=("ok", "sum"),
    )
    solvers = groups["solver_name"].agg(lambda found: "; ".join(sorted(set(found))))
    numbers = heads.join(counted).assign(solver_name=solvers)
    if losses(frame) != [MSE]:
        numbers[LOSS] = groups[LOSS].first()
    if extra(frame):
        numbers[DIRECTIONS] = json.dumps(directions(frame))
    counts = [name for name in numbers if name.endswith("_count")]
    return numbers.fillna(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, int)).reset_index()


def with_time_ratio(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``time_ratio``: a hypergradient's seconds over those of the task's fastest configuration.

    Ratios are taken within one file and one repetition (times of different runs of the benchmark
    are not comparable); the fastest is the configuration with the least median. NaN where the
    fastest has no time in that repetition.
    """
    seconds, within = rows["gradient_seconds"], [rows["source"], rows["task"]]
    medians = seconds.groupby([*within, rows["configuration"]]).transform("median")
    fastest = seconds.where(medians == medians.groupby(within).transform("min"))
    reference = fastest.groupby([*within, rows["repetition"]]).transform("median")
    return rows.assign(time_ratio=seconds / reference)


def _status(statuses: pd.Series) -> str:
    """``3/5 ok, 1 diverged, 1 oom``."""
    failed = statuses[statuses != "ok"].value_counts().sort_index()
    share = f"{(statuses == 'ok').sum()}/{len(statuses)} ok"
    return ", ".join([share, *(f"{count} {status}" for status, count in failed.items())])


def spelled(numbers: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Columns of numbers as text under their headers: ``28.31 ± 0.04``, ``28.31`` for a single run.

    The values of ``name`` are in that column, or in ``name_mean`` and ``name_std``. One that is not
    in ``HEADERS`` has its name for a header (``metrics.called``), and three significant digits.
    """
    text = {}
    for name in names:
        header = called(name, numbers, HEADERS)
        decimals = COLUMNS["decimals"].get(name, math.nan)
        means = numbers[name if name in numbers else f"{name}_mean"]
        spreads = numbers.get(f"{name}_std", [math.nan] * len(numbers))
        pairs = zip(means, spreads, strict=True)
        text[header] = [measured(mean, std, decimals=decimals) for mean, std in pairs]
    return pd.DataFrame(text, index=numbers.index, dtype=str)


def measured(mean: float, std: float = math.nan, *, decimals: float = math.nan) -> str:
    """``mean ± std`` to fixed decimals, or so that the mean has three significant digits.

    Without a standard deviation (one run) the mean alone; without a mean a dash.
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
    """The unrounded numbers."""
    return numbers.to_csv(index=False, lineterminator="\n")


def to_markdown(text: pd.DataFrame, bold: Bold = frozenset()) -> str:
    """A pipe table."""
    cells = text.map(lambda cell: cell.replace("|", "\\|"))
    for row, name in bold:
        cells.loc[row, name] = f"**{cells.loc[row, name]}**"
    options = {"tablefmt": PIPES, "stralign": None, "disable_numparse": True}
    return cells.to_markdown(index=False, **options) + "\n"


def to_latex(text: pd.DataFrame, bold: Bold = frozenset()) -> str:
    """A booktabs ``tabular`` (for ``\\input``), a rule where the first column changes."""
    styled = text.map(_latex).rename(columns=_latex).style.hide(axis="index")
    for row, name in bold:
        styled = styled.map(lambda _: "textbf:--rwrap", subset=(row, _latex(name)))
    columns = f"ll{'r' * (text.shape[1] - 3)}l"
    lines = styled.to_latex(column_format=columns, hrules=True).splitlines()
    first, body = text.iloc[:, 0], lines.index(r"\midrule") + 1
    for row in reversed(range(1, len(text))):
        if first[row] != first[row - 1]:
            lines.insert(body + row, r"\midrule")
    return "\n".join([r"% needs \usepackage{booktabs}", *lines, ""])


def _latex(cell: str) -> str:
    return cell.translate(str.maketrans(LATEX))


def to_html(text: pd.DataFrame, bold: Bold = frozenset(), *, name: str, note: str = "") -> str:
    """A page fragment with its own style, grouped by the first column; the note stands below.

    The second column names the rows.
    """
    from great_tables import GT, loc, style  # here: benchopt's pages do without it

    group, named = text.columns[:2]
    own = "summary" if name == "table" else name
    table = GT(text, rowname_col=named, groupname_col=group, id=own)
    for row, column in sorted(bold):
        table = table.tab_style(style.text(weight="bold"), loc.body(columns=column, rows=[row]))
    table = table.tab_source_note(note) if note else table
    return table.as_raw_html() + "\n"
