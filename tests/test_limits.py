"""The map of where restarted JFB stops working, on planted runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_up import DENOISING, run, texts

from benchmark.report.drawing import NothingToDrawError, Page
from benchmark.report.frame import tidy
from benchmark.report.limits import KINDS, limits, stopped
from benchmark.report.style import method_styles

METHODS = [("Restarted-JFB", {"layers": k, "restarts": 10}) for k in (1, 5)]
METHODS += [("JFB", {}), ("DEQ", {})]
#: κ and η of the layers
LAYERS = [(0.5, 0.0), (0.9, 0.0), (0.5, 4.0)]


def planted(uphill=(), above=()) -> pd.DataFrame:
    """Two repetitions on each layer; ``uphill`` and ``above``: (κ, η, K, repetition), K = 0 JFB."""
    rows = []
    for kappa, eta in LAYERS:
        for method, options in METHODS:
            for repetition in (0, 1):
                at = (kappa, eta, options.get("layers", 0), repetition)
                own = run(method, options, task=DENOISING, repetition=repetition)
                lower = f"prescribed(radius={kappa},departure={eta})"
                for row in own:
                    row["objective_name"] = f"Learning[lower={lower}]"
                    row["p_obj_lower"] = lower
                    row["objective_contraction"] = kappa
                    row["objective_gradient_cosine"] = 0.0 if at in uphill else 0.3
                own[-1]["objective_value"] = 1.02 if at in above else 1.009
                own[-1]["objective_value"] -= 0.009 * (method == "DEQ")
                own[-1]["objective_jacobian_norm_start"] = kappa + eta
                rows += own
    return tidy(pd.DataFrame(rows))


def test_each_cell_counts_the_repetitions_in_which_it_stops():
    uphill = [(0.5, 4.0, 1, 0), (0.5, 4.0, 1, 1), (0.5, 4.0, 0, 1)]
    above = [(0.9, 0.0, 5, 0), (0.5, 4.0, 1, 1)]
    found = stopped(planted(uphill, above)).set_index(["panel", "at", "depth"])
    assert set(found["repetitions"]) == {2}
    expected = {
        ("prescribed, η = 4.0", 0.5, 1.0): (2, 0),  # uphill counts once, whatever F comes to
        ("prescribed, η = 4.0", 0.5, 0.0): (1, 0),
        ("prescribed, η = 0.0", 0.9, 5.0): (0, 1),
    }
    for at, row in found.iterrows():
        assert (row["uphill"], row["above"]) == expected.get(at, (0, 0)), at
    assert found.loc[("prescribed, η = 4.0", 0.5, 1.0), "label"] == "0.50\n4.5"


def test_the_map_shows_what_stops_and_in_how_many():
    frame = planted([(0.5, 4.0, 1, 0), (0.5, 4.0, 1, 1)], [(0.9, 0.0, 5, 1)])
    figure = limits(frame, Page(method_styles(frame["method"]))).figure
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "prescribed, η = 0.0",
        "prescribed, η = 4.0",
    ]
    normal, other = figure.axes
    assert [text.get_text() for text in normal.texts] == ["1/2"]
    assert [text.get_text() for text in other.texts] == ["2/2"]
    kinds = np.asarray(normal.collections[0].get_array()).reshape(3, 2)
    assert kinds.tolist() == [[0, 0], [0, 0], [0, 1]]  # JFB, K = 1, K = 5 at κ = 0.5, 0.9
    assert np.asarray(other.collections[0].get_array()).ravel().tolist() == [0, 2, 0]
    assert len(figure.legends[0].get_patches()) == len(KINDS)
    assert "uphill" in texts(figure)


def test_one_layer_is_no_map():
    frame = planted()
    one = frame[frame["task"] == frame["task"].iloc[0]]
    with pytest.raises(NothingToDrawError, match="several strengths"):
        limits(one, Page(method_styles(one["method"])))
