"""The summary table: one row per task and configuration, mean ± standard deviation over runs."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass

import pandas as pd

from benchmark.report.frame import last_rows

MISSING = "—"
#: cells to emphasise: (row, column header)
Bold = Set[tuple[int, str]]


@dataclass(frozen=True)
class Column:
    """A column of the table, from the tidy frame; ``decimals`` None: three significant digits."""

    name: str
    header: str
    decimals: int | None = None


COLUMNS = (
    Column("outer_step", "outer steps", 0),
    Column("test_psnr", "test PSNR (dB)", 2),
    Column("test_psnr_deployed", "deployed PSNR (dB)", 2),
    Column("test_ssim", "test SSIM", 3),
    Column("value", "F(θ)"),
    Column("gradient_error", "gradient error"),
    Column("gradient_error_estimate", "own estimate of it"),
    Column("gradient_cosine", "gradient cosine", 4),
    Column("gradient_seconds", "hypergradient (s)"),
    Column("time_ratio", "time / fastest", 2),
    Column("overhead", "time / its layers and products", 2),
    Column("peak_memory_mib", "peak memory (MiB)", 1),
    Column("layer_evals", "layer evals", 0),
    Column("vjp_evals", "vjp evals", 0),
    Column("seconds", "training (s)"),
)
LATEX = {
    "\\": r"\textbackslash{}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "θ": r"$\theta$",
    "—": "---",
}


def with_time_ratio(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``time_ratio``: a hypergradient's seconds over those of the task's fastest configuration.

    Ratios are taken within one file and one repetition (times of different runs of the benchmark
    are not comparable); the fastest is the configuration with the least median. NaN where the
    fastest has no time in that repetition.
    """
    ratios = pd.Series(float("nan"), index=rows.index)
    for _, group in rows.groupby(["source", "task"], sort=False):
        medians = group.groupby("configuration")["gradient_seconds"].median().dropna()
        if medians.empty:
            continue
        fastest = group[group["configuration"] == medians.idxmin()]
        reference = fastest.groupby("repetition")["gradient_seconds"].median()
        ratios[group.index] = group["gradient_seconds"] / group["repetition"].map(reference)
    return rows.assign(time_ratio=ratios)


def headers() -> list[str]:
    """The headers of the table of text, in order."""
    return ["task", "configuration", *(column.header for column in COLUMNS), "status"]


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers of the table: for each column of ``COLUMNS`` its mean, standard deviation and count.

    They are taken over the last rows of the runs that ended well (``ddof=1``, NaN for one run);
    a configuration whose runs all failed keeps its row. ``runs``, ``ok`` and ``status`` say how
    many runs there are and how the others ended, ``solver_name`` spells out every parameter.
    """
    ends = last_rows(frame)
    good = with_time_ratio(ends[ends["status"] == "ok"])
    key = ["task", "configuration"]
    names = [column.name for column in COLUMNS]
    counted = good.groupby(key, sort=False)[names].agg(["mean", "std", "count"])
    counted.columns = [f"{name}_{part}" for name, part in counted.columns]
    groups = ends.groupby(key, sort=False)
    heads = groups.agg(
        method=("method", "first"),
        status=("status", _status),
        runs=("status", "size"),
        ok=("status", lambda statuses: int((statuses == "ok").sum())),
    )
    solvers = groups["solver_name"].agg(lambda found: "; ".join(sorted(set(found))))
    numbers = heads.join(counted, how="left").assign(solver_name=solvers)
    counts = [name for name in numbers if name.endswith("_count")]
    return numbers.fillna(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, int)).reset_index()


def formatted(numbers: pd.DataFrame) -> pd.DataFrame:
    """The table as text, from ``summary``: ``28.31 ± 0.04``, or ``28.31`` for a single run."""
    table = {name: numbers[name] for name in ("task", "configuration", "status")}
    for column in COLUMNS:
        pairs = zip(numbers[f"{column.name}_mean"], numbers[f"{column.name}_std"], strict=True)
        table[column.header] = [
            measured(mean, std, decimals=column.decimals) for mean, std in pairs
        ]
    return pd.DataFrame(table, dtype=str)[headers()]


def measured(mean: float, std: float, *, decimals: int | None) -> str:
    """``mean ± std`` to fixed decimals, or so that the mean has three significant digits.

    Without a standard deviation (one run) the mean alone; without a mean a dash.
    """
    if math.isnan(mean):
        return MISSING
    exponent = math.floor(math.log10(abs(mean))) if mean else 0
    if decimals is None and not -3 <= exponent < 5:
        scale = 10.0**exponent
        inner = measured(mean / scale, std / scale, decimals=2)
        return f"({inner})e{exponent:+03d}" if "±" in inner else f"{inner}e{exponent:+03d}"
    places = max(0, 2 - exponent) if decimals is None else decimals
    if decimals == 0 and (mean != round(mean) or std > 0):
        places = 1
    spread = "" if math.isnan(std) else f" ± {std:.{places}f}"
    return f"{mean:.{places}f}{spread}"


def to_csv(numbers: pd.DataFrame) -> str:
    """The unrounded numbers of ``summary``."""
    return numbers.to_csv(index=False, lineterminator="\n")


def to_markdown(text: pd.DataFrame, *, bold: Bold = frozenset()) -> str:
    """A pipe table."""
    cells = [
        [f"**{cell}**" if (row, name) in bold else cell for name, cell in entry.items()]
        for row, entry in enumerate(text.to_dict("records"))
    ]
    rows = [list(text.columns), ["---"] * len(text.columns), *cells]
    return "".join("| " + " | ".join(_piped(cell) for cell in row) + " |\n" for row in rows)


def to_latex(text: pd.DataFrame, *, bold: Bold = frozenset()) -> str:
    """A booktabs ``tabular`` (for ``\\input``), a rule where the first column changes."""
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{ll{'r' * (len(text.columns) - 3)}l}}",
        r"\toprule",
        " & ".join(_latex(name) for name in text.columns) + r" \\",
    ]
    group, first = None, text.columns[0]
    for row, entry in enumerate(text.to_dict("records")):
        lines += [r"\midrule"] if entry[first] != group else []
        group = entry[first]
        cells = {name: _latex(cell) for name, cell in entry.items()}
        cells |= {name: rf"\textbf{{{cells[name]}}}" for name in cells if (row, name) in bold}
        lines.append(" & ".join(cells.values()) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def to_html(
    text: pd.DataFrame, *, name: str = "summary", bold: Bold = frozenset(), note: str = ""
) -> str:
    """A page fragment with its own style, grouped by the first column; the note stands below.

    The second column names the rows.
    """
    from great_tables import GT, loc, style  # here: benchopt's pages do without it

    group, named = text.columns[:2]
    table = GT(text, rowname_col=named, groupname_col=group, id=name)
    for column in sorted({column for _, column in bold}):
        rows = [row for row in range(len(text)) if (row, column) in bold]
        table = table.tab_style(style.text(weight="bold"), loc.body(columns=column, rows=rows))
    table = table.tab_source_note(note) if note else table
    return table.as_raw_html() + "\n"


def _status(statuses: pd.Series) -> str:
    failed = statuses[statuses != "ok"].value_counts().sort_index()
    reasons = ", ".join(f"{count} {status}" for status, count in failed.items())
    share = f"{(statuses == 'ok').sum()}/{len(statuses)} ok"
    return f"{share}, {reasons}" if reasons else share


def _piped(cell: str) -> str:
    return cell.replace("|", "\\|")


def _latex(cell: str) -> str:
    escaped = "".join(LATEX.get(character, character) for character in cell)
    return escaped.replace(" ± ", r" $\pm$ ")
