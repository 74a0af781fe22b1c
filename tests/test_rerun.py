"""A row is made again from its own columns, or what cannot be had is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchopt.cli.main import run
from benchopt.results import read_results
from benchopt.results.parquet import to_parquet
from click.testing import CliRunner
from conftest import ROOT

from benchmark.options.columns import must_repeat
from benchmark.running import rerun as module
from benchmark.running.rerun import identifier, main

LOWER = "wavelet_l1(wavelet='haar',levels=1,stepsize=1.5)"
CONFIG = {
    "seed": 3,
    "n-repetitions": 2,
    "objective": [{"Learning at equilibrium": {"lower": [LOWER], "device": ["cpu"]}}],
    "dataset": [{"Simulated": {"size": [8], "n_train": [3]}}],
    # a parameter that only one of them has, and one that is 1 and not 1.0
    "solver": [
        {"Unrolling": {"steps": [2], "evaluate_every": [1], "layers": [4], "batch_size": [2]}},
        {"DEQ": {"steps": [1], "learning_rate": [1], "tol": [0.001], "polish": [False]}},
    ],
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """A result file of benchopt."""
    folder = tmp_path_factory.mktemp("rows")
    study, path = folder / "study.yml", folder / "rows.parquet"
    study.write_text(json.dumps(CONFIG))
    command = [str(ROOT), "--config", str(study), "--no-plot", "--no-cache", "--output", str(path)]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BENCHOPT_DEBUG", "BENCHOPT_RAISE_ON_ERROR"):
            patch.delenv(name, raising=False)
        done = CliRunner().invoke(run, command)
    assert done.exit_code == 0, done.output
    return path


def altered(path: Path, number: int, **columns: object) -> Path:
    """A copy whose row ``number`` says something else."""
    table = read_results(path)
    for name, value in columns.items():
        table[name] = table[name].astype(object)
        table.at[number, name] = value
    changed = path.with_name("changed.parquet")
    to_parquet(table, changed)
    return changed


def number_of(path: Path, method: str, repetition: int, last: bool = True) -> int:
    table = read_results(path)
    found = table[(table["objective_method"] == method) & (table["idx_rep"] == repetition)]
    return int(found.index[-1 if last else 0])


@pytest.mark.parametrize(
    ("method", "repetition", "last"), [("Unrolling", 0, False), ("DEQ", 1, True)]
)
def test_a_row_is_made_again_from_itself(rows, capsys, method, repetition, last):
    number = number_of(rows, method, repetition, last)
    assert main([str(rows), "--row", str(number)]) == 0
    said = capsys.readouterr().out.splitlines()
    name = identifier(read_results(rows).iloc[number])
    assert said[0].startswith(f"{name} {method}[")
    assert said[1].startswith("the same in all ") and len(said) == 2


def test_its_identifier_names_it_too(rows, capsys):
    number = number_of(rows, "Unrolling", 1)
    assert main([str(rows)]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[1] for line in lines]
    assert len(set(names)) == len(names) == len(read_results(rows))
    assert main([str(rows), "--row", names[number]]) == 0
    assert capsys.readouterr().out.startswith(names[number])


def test_what_differs_is_told_with_the_reason_if_there_is_one(rows, capsys):
    number = number_of(rows, "DEQ", 0)
    learned = read_results(rows)["objective_learned"][number]
    wrong = altered(rows, number, objective_value=0.25, objective_learned=learned + " ")
    assert main([str(wrong), "--row", str(number)]) == 1
    said = capsys.readouterr().out
    assert "differs in 2 of " in said and "objective_value: was 0.25, is 0.0" in said
    assert "objective_learned: was" in said and "nothing says why" in said
    other = altered(
        rows,
        number,
        objective_value=0.25,
        objective_torch_version="1.0",
        objective_sources='{"solvers/deq.py":"0"}',
    )
    assert main([str(other), "--row", str(number)]) == 1
    said = capsys.readouterr().out
    assert "made with torch 1.0, here " in said and "nothing says why" not in said
    assert "made by other files than those here: solvers/deq.py" in said
    assert "differs in 1 of " in said


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"solver_name": "Newton[steps=1]"}, "no solver 'Newton' in solvers/deq.py here"),
        ({"file_dataset": "datasets/none.py"}, "no dataset 'Simulated' in datasets/none.py here"),
        ({"p_solver_tol": -1.0}, "tol must be a positive number, got -1"),
        ({"p_obj_lower": "none"}, "the run is skipped here: unknown lower level 'none'"),
        ({"stop_val": 7}, "expected a row at stop_val 7, the run now ends at "),
    ],
)
def test_what_cannot_be_made_again_says_why(rows, capsys, columns, said):
    number = number_of(rows, "DEQ", 0)
    wrong = altered(rows, number, **columns)
    assert main([str(wrong), "--row", str(number)]) == 2
    assert said in capsys.readouterr().out


def test_a_row_or_a_file_that_is_not_there(rows, tmp_path, capsys):
    assert main([str(rows), "--row", "999"]) == 2
    assert "no row 999: expected a number from 0 to 9" in capsys.readouterr().out
    (tmp_path / "text.parquet").write_text("no rows")
    for path in (tmp_path / "none.parquet", tmp_path / "text.parquet"):
        assert main([str(path), "--row", "0"]) == 2
        assert "not a result file of benchopt" in capsys.readouterr().out
    with pytest.raises(module.RerunError, match=r"no objective\.py in "):
        module.rerun(read_results(rows).iloc[0], checkout=tmp_path)


def test_the_columns_that_may_differ_are_measured_or_say_why_others_do(rows):
    free = {name for name in read_results(rows).columns if not must_repeat(name)}
    measured = {name for name in free if "seconds" in name or name in {"time", "run_date"}}
    costs = {"gradient_cost", "contended", "peak_device_mib"}
    costs |= {"overhead", "overhead_low", "overhead_high"}
    origin = {"torch_version", "device_name", "threads", "sources_digest", "sources"}
    described = {"obj_description", "solver_description", "benchmark-git-tag"}
    rest = free - measured - described - {f"objective_{name}" for name in costs | origin}
    assert all(name.startswith(("platform", "system-", "env-", "version-")) for name in rest)
    assert {"objective_value", "objective_images_digest", "objective_peak_memory_mib"}.isdisjoint(
        free
    )
