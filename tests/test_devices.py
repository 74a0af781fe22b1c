"""Which machines rows are of, and what of two may be compared: made-up rows, changed one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up import DENOISING, INPAINTING, STUDY, cli, save, study

from benchmark.report.devices import Devices, devices
from benchmark.report.site import report as build

OTHER = {"objective_device_name": "another <b>"}


@pytest.fixture(scope="module")
def rows():
    """One method on one task, 16 rows."""
    return study(methods=STUDY[:1], tasks=[DENOISING])


def of(tmp_path: Path, **tables) -> Devices:
    """What is found of studies with these rows."""
    files = {name: [save(table, tmp_path / f"{name}.parquet")] for name, table in tables.items()}
    return devices(files)


def compared(found: Devices) -> list[str]:
    return found.compared["compare"].tolist()


def test_a_machine_is_counted_once_with_all_of_its_studies(rows, tmp_path):
    found = of(tmp_path, a=rows, b=rows.assign(**OTHER), c=rows)
    assert found.machines["device"].tolist() == ["a processor", "another <b>"]
    assert found.machines["studies"].tolist() == ["a, c", "b"]
    assert found.machines["rows"].tolist() == ["32", "16"]
    assert found.machines["cpus"].tolist() == ["2", "2"]
    assert found.machines["memory"].tolist() == ["unknown"] * 2
    assert found.parts["rows"].tolist() == ["16"] * 3
    assert set(found.parts["sources"]) == {"abc123"} and not found.unread


@pytest.mark.parametrize(
    "change", [{"objective_torch_version": "2.13.0"}, {"objective_threads": 2}, {"system-cpus": 64}]
)
def test_what_times_depend_on_makes_a_machine(rows, change, tmp_path):
    assert len(of(tmp_path, a=rows, b=rows.assign(**change)).machines) == 2


def test_the_same_images_and_code_can_be_compared_but_for_times(rows, tmp_path):
    found = of(tmp_path, a=rows, b=rows.assign(**OTHER))
    assert compared(found) == ["all but times"]
    assert found.compared["in common"].tolist() == ["2 tasks and repetitions"]
    assert found.compared[["one", "other"]].to_numpy().tolist() == [
        ["a on machine 1", "b on machine 2"]
    ]


def test_other_images_or_other_code_cannot(rows, tmp_path):
    (text,) = compared(of(tmp_path, a=rows, b=rows.assign(objective_images_digest="others")))
    assert text.startswith("nothing: b on machine 1: images others in ")
    files = {"solvers/deq.py": "1", "benchmark/problems/pnp.py": "2"}
    here = rows.assign(objective_sources=json.dumps(files))
    there = here.assign(objective_sources=json.dumps(files | {"solvers/deq.py": "3"}))
    (text,) = compared(of(tmp_path, a=here, b=there))
    assert text.startswith("nothing: ") and text.endswith("they differ in solvers/deq.py")
    more = here.assign(objective_sources=json.dumps(files | {"solvers/jfb.py": "3"}))
    assert compared(of(tmp_path, a=here, b=more)) == ["all but times"]


def test_without_a_task_in_common_there_is_no_pair(rows, tmp_path):
    other = study(methods=STUDY[:1], tasks=[INPAINTING])
    assert compared(of(tmp_path, a=rows, b=other, c=rows.assign(idx_rep=7))) == []


def test_what_cannot_be_read_is_named(rows, tmp_path):
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"rows")
    good = save(rows, tmp_path / "good.parquet")
    found = devices({"a": [broken], "b": [], "c": [good]})
    assert len(found.machines) == 1 and found.machines["studies"].tolist() == ["c"]
    assert [text.partition(":")[0] for text in found.unread] == ["a", "b"]
    assert str(tmp_path) not in " ".join(found.unread)
    assert devices({"a": [broken]}).machines.empty


def test_the_site_has_the_page(rows, tmp_path):
    results = tmp_path / "results"
    for name, table in {"a": rows, "b": rows.assign(**OTHER)}.items():
        (results / name).mkdir(parents=True)
        path = save(table, results / name / f"{name}.parquet")
        assert cli(path, "--out", results / name, "--only", "time")[0] == 0
    build(results, tmp_path / "site")
    page = (tmp_path / "site" / "devices.html").read_text(encoding="utf-8")
    assert "another &lt;b&gt;" in page and "<b>" not in page
    assert "all but times" in page and "abc123" in page and "img" in page
    assert 'href="devices.html"' in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
