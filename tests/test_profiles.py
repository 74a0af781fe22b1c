"""Profiles and fronts against their definitions, and time to accuracy against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import DENOISING, SWEEP, TASKS, run, study, sweep, texts

from benchmark.report import figures, profiles
from benchmark.report.drawing import NothingToDrawError, Page
from benchmark.report.frame import more_than_tried, tidy
from benchmark.report.profiles import front, performance_profile, ratios
from benchmark.report.style import method_styles


@pytest.fixture(scope="module")
def frame():
    return tidy(sweep())


def hypergradients(costs: list[tuple]) -> pd.DataFrame:
    """Rows that reach every accuracy at a cost, or none where it is infinite or unknown."""
    rows = pd.DataFrame(costs, columns=["task", "method", "evals"])
    rows = rows.assign(source="", repetition=0, configuration="")
    return rows.assign(gradient_error=np.where(np.isfinite(rows["evals"]), 0.0, np.nan))


def profile(rows: pd.DataFrame) -> dict[str, dict[float, float]]:
    found = performance_profile(ratios(rows, 1e-2, "evals"))
    return {method: shares.to_dict() for method, shares in found.items()}


def test_profile_by_hand():
    rows = hypergradients(
        [
            ("p", "DEQ", 4.0),
            ("p", "JFB", 2.0),
            ("p", "JFB", 8.0),  # of two configurations the cheaper counts
            ("q", "DEQ", 3.0),
            ("q", "JFB", math.inf),
            ("r", "DEQ", 5.0),
            ("r", "JFB", 15.0),
            ("s", "DEQ", math.nan),  # solved by none
        ]
    )
    expected = {"JFB": {1.0: 0.25, 3.0: 0.5}, "DEQ": {1.0: 0.5, 2.0: 0.75}}
    assert profile(rows) == expected
    assert list(profile(rows)) == list(expected)
    assert profile(rows.sample(frac=1, random_state=0)) == expected


costs = st.lists(
    st.lists(st.one_of(st.none(), st.floats(0.1, 100)), min_size=3, max_size=3), min_size=1
)


@settings(max_examples=25, deadline=None)
@given(costs)
def test_profile_against_the_definition(table):
    rows = [
        (str(problem), method, math.nan if cost is None else cost)
        for problem, line in enumerate(table)
        for method, cost in zip("abc", line, strict=True)
    ]
    for column, shares in enumerate(profile(hypergradients(rows)).values()):
        for tau in (1.0, 1.5, 10.0):
            solved = [
                line[column] is not None
                and line[column] / min(cost for cost in line if cost is not None) <= tau
                for line in table
            ]
            share = max([0.0, *(share for ratio, share in shares.items() if ratio <= tau)])
            assert share == pytest.approx(np.mean(solved))


def test_front():
    def of(*points: tuple[float, float]) -> list[tuple[float, float]]:
        found = front(pd.DataFrame(points, columns=["cost", "gradient_error"]), "cost")
        return [*found.itertuples(index=False, name=None)]

    assert of((3, 0.1), (1, 1.0), (2, 0.5), (2, 2.0)) == [(1, 1.0), (2, 0.5), (3, 0.1)]
    assert of((1, 0.1), (2, 0.1)) == [(1, 0.1)]


def test_time_to_accuracy_against_plain_loops(frame):
    table = profiles.time_to_accuracy(frame).numbers.set_index(["task", "accuracy", "method"])
    raw = sweep()
    for task, name in zip(TASKS, ("denoising", "inpainting"), strict=True):
        rows = raw[raw["p_dataset_degradation"] == task]
        for accuracy in profiles.ACCURACIES:
            least = {
                method: group["objective_gradient_seconds"].min()
                for method, group in rows[rows["objective_gradient_error"] <= accuracy].groupby(
                    "objective_method"
                )
            }
            for method in {method for method, _ in SWEEP}:
                entry = table.loc[(f"wavelet_l1, {name}", accuracy, method)]
                if method in least:
                    assert entry["gradient_seconds"] == pytest.approx(least[method])
                    assert entry["ratio"] == pytest.approx(least[method] / min(least.values()))
                else:
                    assert math.isnan(entry["ratio"]) and entry["reached"] == "0/1"
    text = profiles.time_to_accuracy(frame).text
    never = text[text["configuration"] == "JFB"]
    assert set(never["time / fastest"]) == {"—"}


def test_ranking_against_plain_loops(frame):
    """Medians over problems, never as infinite, in order of the median ratio in time."""
    ranked = profiles.ranking(frame)
    table = ranked.numbers
    raw = sweep().assign(
        evals=lambda rows: rows["objective_layer_evals"] + rows["objective_vjp_evals"]
    )
    for accuracy, found in table.groupby("accuracy"):
        # two tasks tell nothing: all share the first rank, and no median has an interval
        assert set(found["rank"]) == {1} and found["low"].isna().all()
        assert list(found["time_ratio"]) == sorted(found["time_ratio"])
        for _, row in found.iterrows():
            for cost, name in (
                ("objective_gradient_seconds", "time_ratio"),
                ("evals", "evals_ratio"),
            ):
                ratios = []
                for _, problem in raw.groupby("p_dataset_degradation"):
                    reached = problem[problem["objective_gradient_error"] <= accuracy]
                    own = reached[reached["objective_method"] == row["method"]][cost]
                    ratios.append(own.min() / reached[cost].min() if len(own) else math.inf)
                assert row[name] == pytest.approx(np.median(ratios))
                if name == "time_ratio":
                    assert row["solved"] == sum(ratio < math.inf for ratio in ratios)
                    assert row["fastest"] == sum(ratio <= 1.05 for ratio in ratios)
                    assert row["worst_time_ratio"] == pytest.approx(max(ratios))
            assert row["problems"] == len(TASKS)
    assert "never" in set(ranked.text["largest"])
    assert ranked.text["rank"].str.fullmatch(r"1 \(tie\)").all()


def test_work_to_the_same_loss_against_plain_loops():
    """F falls from 1; the least of all is 0.1 in one repetition, so that 0.145 is close."""
    values = {"DEQ": [1, 0.5, 0.1], "JFB": [1, 0.2, 0.146], "Unrolling": [1, 0.144, 0.3]}
    rows = []
    for method, repetition in ((m, r) for m in values for r in (0, 1)):
        own = run(method, {}, task=DENOISING, repetition=repetition, evaluations=3)
        for row, value in zip(own, values[method], strict=True):
            row["objective_value"] = value + (repetition * 0.5 if row is own[-1] else 0)
        rows += own
    frame = tidy(pd.DataFrame(rows))
    table = profiles.work(frame).numbers.set_index("configuration")
    evals = frame.groupby(["method", "outer_step"])["training_evals"].first()
    # in the other repetition the least is 0.144: close is 0.1868
    first = {"DEQ": [evals["DEQ", 20], math.inf], "JFB": [math.inf, math.inf]}
    first["Unrolling"] = [evals["Unrolling", 10]] * 2
    for method, found in first.items():
        row = table.loc[method]
        assert row["evals"] == np.median(found)
        assert (row["least"], row["most"]) == (min(found), max(found))
        assert row["reached"] == np.isfinite(found).sum() and row["runs"] == 2
    assert "never" in set(profiles.work(frame).text["layers + products of training"])


def ratios_of(tasks: int, repetitions: int = 1, **methods) -> pd.DataFrame:
    """Ratios of methods from functions of the number of the task and of the repetition."""
    index = pd.MultiIndex.from_product([[""], range(tasks), range(repetitions)])
    index.names = profiles.PROBLEM
    rows = {name: [of(t, r) for _, t, r in index] for name, of in methods.items()}
    return pd.DataFrame(rows, index=index, dtype=float)


def test_ties_share_a_rank():
    never = math.inf
    found = ratios_of(
        8,
        best=lambda t, r: 1.0 + 0.3 * (t == 7),
        as_good=lambda t, r: 1.3 - 0.3 * (t >= 6),
        slower=lambda t, r: 2.0,
        never=lambda t, r: never,
        neither=lambda t, r: never,
    )
    # 8 of 8 has the probability 1/256, below 5 %/4; 6 of 8 does not tell
    expected = {"best": 1, "as_good": 1, "slower": 3, "never": 4, "neither": 4}
    assert profiles.ranks(found).to_dict() == expected
    # 1/64 is above 5 %/4
    assert set(profiles.ranks(found.iloc[:6])) == {1}


def test_repetitions_of_a_task_are_one():
    found = ratios_of(2, 8, fast=lambda t, r: 1.0, slow=lambda t, r: 2.0)
    assert set(profiles.ranks(found)) == {1}
    noisy = ratios_of(6, 3, fast=lambda t, r: 1.0, slow=lambda t, r: (0.5, 2.0, 3.0)[r])
    assert profiles.ranks(noisy).to_dict() == {"fast": 1, "slow": 2}


def test_the_interval_of_a_median_is_of_order_statistics():
    """Of nine the second and the eighth: 1 − 2 (1 + 9)/2⁹ = 96.1 %; of five there is none."""
    numbers = pd.Series([9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, math.inf])
    assert profiles.median_bounds(numbers) == (2.0, 9.0)
    assert np.isnan(profiles.median_bounds(numbers[:5])).all()


def test_a_method_that_always_fails_never_gets_there():
    rows = sweep()
    lost = rows[rows["objective_method"] == "JFB"].copy()
    lost["objective_method"] = "HOAG"
    lost["solver_name"] = lost["solver_name"].str.replace("JFB", "HOAG")
    lost["objective_status"] = "oom"
    for column in ("gradient_error", "gradient_seconds", "layer_evals", "vjp_evals"):
        lost[f"objective_{column}"] = np.nan
    both = tidy(pd.concat([rows, lost], ignore_index=True))
    ranked = profiles.ranking(both).numbers.set_index("method").loc["HOAG"]
    assert set(ranked["solved"]) == {0}
    assert set(ranked["problems"]) == {len(TASKS)}
    assert set(ranked["time_ratio"]) == {math.inf}
    assert "HOAG" in texts(profiles.performance(both, Page(method_styles(both["method"]))).figure)


def test_costs_of_a_trained_run_are_its_last_row_s_and_its_error_the_first_s():
    rows = pd.DataFrame(run("DEQ", {}, task=DENOISING))
    rows.loc[rows.index[:-1], "objective_gradient_seconds"] = np.nan
    rows["objective_gradient_error"] = [1e-3, *[0.5] * (len(rows) - 1)]
    (one,) = profiles.hypergradients(tidy(rows)).itertuples()
    assert one.gradient_error == 1e-3
    assert one.gradient_seconds == rows["objective_gradient_seconds"].iloc[-1]


def test_figures_name_every_method(frame):
    styles = method_styles(frame["method"])
    one = frame[frame["task"].str.contains("denoising")]
    for drawing in (
        profiles.performance(frame, Page(styles)),
        profiles.pareto(one, Page(styles)),
    ):
        assert all(method in texts(drawing.figure) for method in set(frame["method"]))
        assert all(axis.get_xlabel() or axis.get_shared_x_axes() for axis in drawing.figure.axes)


def test_profiles_lie_between_0_and_1(frame):
    page = Page(method_styles(frame["method"]))
    for axis in profiles.performance(frame, page).figure.axes:
        for drawn in axis.get_lines():
            assert drawn.get_transform() == axis.transData
            assert min(drawn.get_ydata()) >= 0 and max(drawn.get_ydata()) <= 1
        widths = [drawn.get_linewidth() for drawn in axis.get_lines()]
        assert widths == sorted(set(widths), reverse=True)


def test_costs_are_those_at_the_common_start_where_they_are_known():
    rows = pd.DataFrame(run("DEQ", {}, task=DENOISING))
    end = rows.index[-1]
    known = {"gradient_seconds": 7.0, "layer_evals": 5.0, "vjp_evals": 6.0}
    for name, value in known.items():
        rows.loc[rows.index[:-1], f"objective_{name}"] = np.nan
        rows.loc[end, f"objective_{name}_start"] = value
    (one,) = profiles.hypergradients(tidy(rows)).itertuples()
    assert (one.gradient_seconds, one.evals) == (7, 11)
    assert one.peak_memory_mib == rows["objective_peak_memory_mib"].iloc[-1]


def test_what_was_tried_and_not_timed_counts_by_its_layers_and_products_alone():
    rows = pd.concat([sweep(), pd.DataFrame(run("DEQ", {"tol": 9}, task=DENOISING, evaluations=1))])
    untimed = rows["solver_name"].str.contains("tol=9")
    rows.loc[untimed, ["objective_gradient_seconds", "objective_peak_memory_mib"]] = np.nan
    rows.loc[untimed, ["objective_layer_evals", "objective_vjp_evals"]] = 0.125
    frame = tidy(rows)
    assert "tol=9" in " ".join(frame["configuration"])
    in_tables = more_than_tried(frame)
    assert set(frame["configuration"]) - set(in_tables["configuration"]) == set(
        frame.loc[frame["configuration"].str.contains("tol=9"), "configuration"]
    )
    times = [name for name in frame if name.startswith("gradient_seconds")]
    assert len(more_than_tried(frame.assign(**dict.fromkeys(times, np.nan)))) == len(frame)
    found = profiles.hypergradients(frame)
    assert found.loc[found["gradient_seconds"].isna(), "evals"].tolist() == [0.25]
    least = {cost: profiles.cheapest(found, 1e-6, cost) for cost in profiles.COSTS}
    least = {cost: own[own["task"].str.contains("denoising")] for cost, own in least.items()}
    assert least["evals"].set_index("method").loc["DEQ", "evals"] == 0.25
    assert least["gradient_seconds"]["gradient_seconds"].notna().all()
    page = Page(method_styles(frame["method"]))
    time, evals, _ = profiles.pareto(
        frame[frame["task"].str.contains("denoising")], page
    ).figure.axes
    shown = [0.25 in line.get_xdata() for axis in (time, evals) for line in axis.get_lines()]
    assert not any(shown[: len(time.get_lines())]) and any(shown)


def test_not_enough_to_compare_is_said():
    rows = tidy(study(methods=[("JFB", {}), ("DEQ", {})]))
    styles = method_styles(rows["method"])
    with pytest.raises(NothingToDrawError, match="several configurations"):
        profiles.performance(rows, Page(styles))
    with pytest.raises(NothingToDrawError, match="four configurations"):
        profiles.pareto(rows, Page(styles))


def test_methods_without_gradients_are_left_out(frame):
    other = pd.DataFrame(run("Grid-Search", {}, task=DENOISING, evaluations=1))
    empty = ("gradient_error", "gradient_cosine", "gradient_seconds", "layer_evals", "vjp_evals")
    other[[f"objective_{name}" for name in empty]] = np.nan
    rows = tidy(pd.concat([sweep(tasks=[DENOISING], depths=(1, 10)), other]))
    assert "Grid-Search" not in set(profiles.time_to_accuracy(rows).numbers["method"])
    styles = method_styles(rows["method"])
    for draw in (figures.gradient_error, profiles.pareto, profiles.performance):
        assert draw(rows, Page(styles)).figure.axes
    assert "Grid-Search" in texts(figures.memory(rows, Page(styles)).figure)
    assert "Grid-Search" in texts(figures.time(rows, Page(styles)).figure)
