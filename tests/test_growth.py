"""The laws of growth of tools/growth.py: known exponents are found, and nothing is timed."""

from __future__ import annotations

import math
import os
import re
import sys

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

sys.path.insert(0, str(ROOT / "tools"))

import growth
import streamed
from growth import BOTH, FEWEST, IMAGES, SIDES, SMALLEST, law, laws, of_images, of_runs, page
from streamed import Cost

SIZES = (2, 4, 8, 16)


def made_up(runs: int, images: int, side: int) -> Cost:
    """A cost that is a product of powers above a start, in time and disk, the first with a part
    that does not grow with the images; memory is flat.
    """
    small = (images, side) == (FEWEST, SMALLEST)
    pixels = 0 if small else (side / 32) ** 2
    seconds = 8 + (3 + 0.04 * images) * pixels + 0.5 * (runs - 1)
    disk = 2 + 0.01 * images * pixels + (runs - 1)
    return Cost(seconds, 900.0, 1000 + 1e-5 * images * pixels, disk, 0.1 * runs)


@pytest.fixture(scope="module")
def measured():
    return {place: made_up(*place) for place in growth.places()}


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_an_exact_power_is_found(exponent):
    found = law(SIZES, [3 + 0.7 * x**exponent for x in SIZES], start=3, noise=0.01)
    assert found.exponent == pytest.approx(exponent) and found.factor == pytest.approx(0.7)
    assert found.half == pytest.approx(0, abs=1e-6)
    assert found.above(100) == pytest.approx(0.7 * 100**exponent)


def test_the_interval_is_that_of_a_slope():
    """By the normal equations, of residuals that are known: +, −, −, + about a line."""
    rest = np.array([0.1, -0.1, -0.1, 0.1])
    x = np.log(SIZES)
    found = law(SIZES, 1 + np.exp(1.5 * x + rest), start=1, noise=0.01)
    assert found.exponent == pytest.approx(1.5)  # rest is at right angles to 1 and to x
    deviation = math.sqrt((rest**2).sum() / 2 / ((x - x.mean()) ** 2).sum())
    assert found.half == pytest.approx(stats.t.ppf(0.975, 2) * deviation)
    at = found.above(found.centre)
    assert found.ends(found.centre) == pytest.approx((at, at))
    low, high = found.ends(2 * found.centre)
    assert high / low == pytest.approx(4**found.half)


def test_what_does_not_grow_has_no_exponent():
    found = law(SIZES, [100, 100.5, 99, 100.9], start=100, noise=0.01)
    assert (found.factor, found.above(1e6)) == (0, 0)
    assert found.start == 100.9  # the most that was seen
    # a line that came to 1 % of it at 16 would not have been told
    assert found.ends(160) == pytest.approx((0, 10))


def test_an_exponent_that_is_not_told_from_0_bounds_nothing():
    found = law(SIZES, [300, 102, 103, 500], start=100, noise=0.01)
    assert found.factor > 0 and found.half > abs(found.exponent)
    assert found.ends(160) == (0, math.inf)
    assert growth._amount(math.inf, "time") == "no bound known"


def test_the_laws_of_a_study_are_found_and_multiply(measured):
    found = laws(measured, growth.QUANTITIES["time"])
    assert found["runs"].exponent == pytest.approx(1)
    assert found["images"].exponent == pytest.approx(1)
    assert found["side"].exponent == pytest.approx(2)
    assert of_runs(found, 10_000).value == pytest.approx(8 + 0.5 * 9_999)
    assert of_images(found, 10_000, 512).value == pytest.approx(8 + (3 + 400) * 256)
    assert of_images(found, *BOTH).value == pytest.approx(measured[1, *BOTH].seconds)
    flat = laws(measured, growth.QUANTITIES["memory, run"])
    assert of_images(flat, 10_000, 512).value == pytest.approx(1000, rel=1e-3)


def test_the_page_says_the_costs_and_how_far_they_are_extrapolated(measured):
    text = page(measured, made_up(1, FEWEST, SMALLEST), machine="a machine")
    pixels = 10_000 * 512**2 / max(images * side**2 for _, images, side in measured)
    assert f"**{10_000 / growth.RUNS[-1]:.0f} times the most that were measured**" in text
    assert f"**{pixels:.0f} times the most pixels" in text
    rows = dict(re.findall(r"(?m)^\| ([^|]+) \| (.+) \|$", text.split("## Extrapolated")[1]))
    assert rows["10,000 images of 512²"].startswith("29 h | 900 MiB (900 MiB to ")
    assert rows["10,000 runs"].split(" | ")[1].startswith("900 MiB (900 MiB to ")
    assert rows["10,000 runs"].split(" | ")[4] == "1000 MiB"
    tried = [cells for name, cells in rows.items() if name.startswith("tried")]
    assert len(tried) == 2 and tried[0].split(" | ")[::3] == tried[1].split(" | ")[::3]


def test_each_size_is_measured_once_and_varied_alone():
    found = growth.places()
    assert len(set(found)) == len(found) and found[0] == (1, FEWEST, SMALLEST)
    for runs, images, side in found:
        alone = [runs == 1, images in (FEWEST, IMAGES[0]), side in (SMALLEST, SIDES[0])]
        assert sum(alone) >= 2 or (images, side) == BOTH


#: a program whose child goes on when it has ended: 0.2 s and 0.5 s of processor time, 1 MiB of rows
ORPHAN = """
import os, sys, time
from pathlib import Path
child = os.fork() == 0
while time.process_time() < (0.5 if child else 0.2):
    pass
if not child:
    Path(sys.argv[1], "rows.parquet").write_bytes(bytes(2**20))
"""


def test_a_cost_is_that_of_all_processes_and_files(tmp_path, monkeypatch):
    monkeypatch.setattr(
        streamed, "command", lambda folder, *_: [sys.executable, "-c", ORPHAN, str(folder)]
    )
    child = os.fork()  # whatever this process has started is none of it
    if child == 0:
        try:
            took = streamed.cost({}, limit="0")
            (tmp_path / "took").write_text(f"{took.seconds} {took.disk_mib} {took.rows_mib}")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    seconds, disk, rows = map(float, (tmp_path / "took").read_text().split())
    assert 0.7 <= seconds < 2
    assert (disk, rows) == (2, 1), "rows are there twice while they are replaced"
