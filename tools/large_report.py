"""What the report of a million rows costs: seconds on the clock by stage, and peak memory.

    python tools/large_report.py [PARQUET] [--rows ROWS]

The rows are made of a study's, without pictures: each run has 100 rows, on the way from its first
to its last; each method 20 learning rates, in as many repetitions as it takes. The report is made
in a process of its own, all figures and tables with it, in forks of it where there are processors
for them.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

STEPS, RATES, RATE = 100, 20, r"learning_rate=[^,\]]+"
RUN = ["objective_name", "dataset_name", "solver_name", "idx_rep"]
PICTURES = ["objective_reconstruction", "objective_observation", "objective_truth"]
MOVING = ["value", "test_psnr", "test_ssim", "training_layer_evals", "training_vjp_evals"]
MOVING = ["time", *(f"objective_{name}" for name in MOVING)]


def write(rows: pd.DataFrame, path: Path, count: int) -> None:
    """``count`` rows, or up to a copy of the runs that have a learning rate more."""
    rows = rows[rows["solver_name"].str.contains(RATE)].drop(columns=PICTURES)
    parts, share = [], np.linspace(0, 1, STEPS)
    for _, run in rows.sort_values("objective_outer_step").groupby(RUN, sort=False):
        theta = json.loads(run["objective_learned"].iloc[-1])
        states = ({n: (at * np.array(x)).tolist() for n, x in theta.items()} for at in share)
        moved = {n: np.interp(share, [0, 1], run[n].iloc[[0, -1]]) for n in MOVING}
        moved |= {"objective_outer_step": np.arange(STEPS), "stop_val": np.arange(STEPS)}
        moved |= {"objective_learned": [*map(json.dumps, states)], "p_solver_steps": STEPS - 1}
        parts.append(run.iloc[[0] * (STEPS - 1) + [-1]].assign(**moved))
    base, file = pd.concat(parts, ignore_index=True), None
    for copy in range(-(-count // len(base))):
        rate, again = 0.01 * (1 + copy % RATES), copy // RATES * rows["idx_rep"].nunique()
        names = base["solver_name"].str.replace(RATE, f"learning_rate={rate:g}", regex=True)
        own = {"solver_name": names, "p_solver_learning_rate": rate}
        own = base.assign(**own, idx_rep=base["idx_rep"] + again)
        table = pa.Table.from_pandas(own, preserve_index=False)
        file = file or pq.ParquetWriter(path, table.schema)
        file.write_table(table)
    file.close()


def timed(stage: Callable, name: str, spent: dict[str, float]) -> Callable:
    """A stage that notes its seconds on the clock."""

    def call(*arguments: object, **options: object) -> object:
        start = perf_counter()
        try:
            return stage(*arguments, **options)
        finally:
            spent[name] = perf_counter() - start

    return call


def measure(path: Path, out: Path) -> None:
    """Make the report, and print what it took."""
    start = perf_counter()
    from benchmark.report import build

    spent = {"imports": perf_counter() - start}
    for name in ("read", "tidy"):
        setattr(build, name, timed(getattr(build, name), name, spent))
    build.report([path], out=out)
    spent["figures and tables"] = perf_counter() - start - sum(spent.values())
    for name, seconds in (spent | {"all": perf_counter() - start}).items():
        print(f"{name}: {seconds:.1f} s")
    own, forks = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"processors: {sum(one.ru_utime + one.ru_stime for one in (own, forks)):.1f} s")
    print(f"peak: {own.ru_maxrss / 1024:.0f} MiB, of a fork {forks.ru_maxrss / 1024:.0f} MiB")


def main() -> None:
    """Command line."""
    parser = ArgumentParser(description=__doc__)
    study = Path("results/quick/quick.parquet")
    parser.add_argument("parquet", nargs="?", type=Path, default=study, help="rows of a study")
    parser.add_argument("--rows", type=int, default=10**6)
    parser.add_argument("--out", type=Path, help="report on PARQUET as it is, into this folder")
    given = parser.parse_args()
    if given.out:
        return measure(given.parquet, given.out)
    with TemporaryDirectory() as folder:
        path, out = Path(folder) / "large.parquet", Path(folder) / "out"
        write(pd.read_parquet(given.parquet), path, given.rows)
        subprocess.run([sys.executable, __file__, path, "--out", out], check=True)


if __name__ == "__main__":
    main()
