"""The report on made-up results whose numbers follow from formulas written here."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchopt.plotting.helpers import update_plot_data_style
from benchopt.results import save_results
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from benchmark.options.spec import split_call
from benchmark.report import build, drawing, figures, pictures, tables
from benchmark.report.__main__ import main
from benchmark.report.drawing import Page
from benchmark.report.frame import tidied, tidy, traces, trained
from benchmark.report.names import distinguish, file_names
from benchmark.report.reading import read
from benchmark.report.style import FREE, KNOWN, labelled_styles, method_styles, variants

ROOT = Path(__file__).resolve().parents[1]
RUN_OF = ["objective_name", "dataset_name", "solver_name"]
TASKS = {"denoising(noise=0.1)": 0.6, "inpainting(keep=0.5,noise=0.05)": 0.93}
DENOISING, INPAINTING = TASKS
LAYER_SECONDS = 0.01
STUDY = (
    ("Unrolling", {"layers": 10}),
    ("JFB", {"tol": 1e-6, "max_layers": 1000}),
    ("Restarted-JFB", {"layers": 10, "restarts": 5}),
    ("DEQ", {"tol": 1e-6, "adjoint_tol": 1e-6, "max_layers": 1000}),
)
DEPTHS = (1, 2, 5, 10, 20, 50)
SWEEP = (
    *(("Unrolling", {"layers": depth}) for depth in DEPTHS),
    *(
        ("Restarted-JFB", {"layers": depth, "restarts": restarts})
        for restarts in (1, 5, 20)
        for depth in DEPTHS
    ),
    STUDY[1],
    STUDY[3],
)


# --- made-up results -------------------------------------------------------------------------


def gradient_error(method: str, parameters: dict, kappa: float) -> float:
    """Truncation κᴷ, plus what the state's own error adds."""
    depth, restarts = parameters.get("layers", 1), parameters.get("restarts", 0)
    return {
        "Unrolling": 0.8 * kappa**depth + 4 * kappa ** (0.8 * depth),
        "Restarted-JFB": 0.8 * kappa**depth + 4 * kappa ** (0.8 * (restarts + 1) * depth),
        "DEQ": 3e-7,
    }.get(method, 0.8)


def layers_run(method: str, parameters: dict) -> int:
    """Applications of T in one hypergradient."""
    depth, restarts = parameters.get("layers", 1), parameters.get("restarts", 0)
    return {"Unrolling": depth, "Restarted-JFB": (restarts + 1) * depth}.get(method, 120)


def vjps_run(method: str, parameters: dict) -> int:
    """Vector-Jacobian products in one hypergradient."""
    return {"DEQ": 60}.get(method, parameters.get("layers", 1))


def learned(method: str, *, index: int, repetition: int) -> str:
    """θ: a stepsize, and six weights that part from each other step by step."""
    weights = [-3 + index * (len(method) / 10 + position / 5) for position in range(6)]
    return json.dumps({"log_weights": weights, "stepsize_logit": [0.1 * index + repetition]})


def image(task: str, error: float) -> np.ndarray:
    """A smooth 8-bit image, off by a checkerboard of the given amplitude."""
    row, column = np.mgrid[:32, :32] / 31
    clean = np.stack([row, column, 0.5 + 0.4 * np.sin(6 * row * column + len(task))], axis=2)
    board = error * (-1.0) ** np.indices((32, 32)).sum(axis=0)
    return np.round(255 * np.clip(0.1 + 0.8 * clean + board[..., None], 0, 1)).astype(np.uint8)


def run(
    method: str,
    parameters: dict,
    *,
    task: str,
    repetition: int = 0,
    evaluations: int = 8,
    status: str = "ok",
) -> list[dict]:
    """Rows of one run, an evaluation every ten outer steps; a failure is one more row, of NaN."""
    kappa = TASKS[task]
    scale = 1 + 0.1 * repetition
    steps = 10 * (evaluations - 1)
    own = {"steps": steps, "learning_rate": 0.1, **parameters}
    layers, vjps = layers_run(method, parameters), vjps_run(method, parameters)
    seconds = (layers + 2 * vjps) * LAYER_SECONDS
    bias = 0.002 * min(1.0, gradient_error(method, parameters, kappa))
    rows = []
    for index in range(evaluations):
        value = 0.004 * scale + 0.02 * np.exp(-index / 2) + bias * (1 - np.exp(-index / 3))
        rows.append(
            {
                "stop_val": index,
                "time": 10 * index * seconds * scale,
                "objective_value": value,
                "objective_test_psnr": -10 * np.log10(1.2 * value),
                "objective_test_ssim": 1 - 10 * value,
                "objective_test_psnr_deployed": -10 * np.log10(1.3 * value),
                "objective_gradient_error": scale * gradient_error(method, parameters, kappa),
                "objective_gradient_cosine": 1 - gradient_error(method, parameters, kappa) / 9,
                "objective_gradient_error_estimate": 0.3
                * gradient_error(method, parameters, kappa),
                "objective_overhead": 1.2,
                "objective_reference_residual": 1e-11,
                "objective_contraction": kappa,
                "objective_state_residual": 1e-6,
                "objective_equilibrium_residual": 1e-12,
                "objective_gradient_seconds": scale * seconds,
                "objective_layer_seconds": LAYER_SECONDS,
                "objective_peak_memory_mib": 2 + 4.5 * parameters.get("layers", 1 + vjps // 30),
                "objective_peak_device_mib": 6 + 4.5 * parameters.get("layers", 1),
                "objective_layer_evals": float(layers),
                "objective_vjp_evals": float(vjps),
                "objective_training_layer_evals": 10.0 * index * layers,
                "objective_outer_step": float(10 * index),
                "objective_status": "ok",
                "objective_message": "",
                "objective_learned": learned(method, index=index, repetition=repetition),
            }
        )
    if status != "ok":
        empty = dict.fromkeys([key for key in rows[0] if key.startswith("objective_")], np.nan)
        empty["objective_learned"] = None
        failed = {"objective_status": status, "objective_message": "it failed"}
        last = {**rows[-1], **empty, **failed, "stop_val": evaluations}
        rows = [*rows[: evaluations // 2], last]
    else:
        amplitude = 0.05 + 10 * bias
        rows[-1]["objective_reconstruction"] = image(task, amplitude)
        rows[-1]["objective_observation"] = image(task, 0.2)
        rows[-1]["objective_truth"] = image(task, 0.0)
    written = ",".join(f"{key}={own[key]}" for key in sorted(own))
    common = {
        "objective_name": "Bilevel[device=cpu,dtype=float32,lower=wavelet_l1(ridge=0.1)]",
        "solver_name": f"{method}[{written}]",
        "dataset_name": f"Photographs[degradation={task},size=64]",
        "idx_rep": repetition,
        "sampling_strategy": "callback",
        "p_obj_lower": "wavelet_l1(ridge=0.1)",
        "p_obj_device": "cpu",
        "p_obj_dtype": "float32",
        "p_dataset_degradation": task,
        "p_dataset_size": 64,
        "objective_method": method,
        "objective_sources_digest": "abc123",
        "objective_images_digest": f"img{len(task)}",
        "objective_torch_version": "2.14.0",
        "objective_device_name": "a processor",
        "objective_threads": 1,
        "platform": "Linux",
        "system-cpus": 2,
        "version-numpy": "2.4.0",
        **{f"p_solver_{key}": value for key, value in own.items()},
    }
    return [{**common, **row} for row in rows]


def study(*, methods=STUDY, tasks=tuple(TASKS)) -> pd.DataFrame:
    """Four methods, two tasks, two repetitions; DEQ diverges in one run of inpainting."""
    rows = []
    for task in tasks:
        for method, parameters in methods:
            for repetition in range(2):
                failed = (method, task, repetition) == ("DEQ", INPAINTING, 1)
                status = "diverged" if failed else "ok"
                rows += run(method, parameters, task=task, repetition=repetition, status=status)
    return pd.DataFrame(rows)


def sweep(*, tasks=tuple(TASKS), depths=DEPTHS) -> pd.DataFrame:
    """One evaluation of each configuration, without training."""
    rows = []
    for task in tasks:
        for method, parameters in SWEEP:
            if parameters.get("layers", depths[0]) in depths:
                rows += run(method, parameters, task=task, evaluations=1)
    return pd.DataFrame(rows)


def save(frame: pd.DataFrame, path: Path) -> Path:
    save_results(frame, path, uniquify=False)
    return path


def cli(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def texts(figure: Figure) -> str:
    """Every text of a figure, legends and tick labels included."""
    found = figure.findobj(Text)
    return "\n".join(text.get_text() for text in found)


def one_task(frame: pd.DataFrame, word: str) -> pd.DataFrame:
    return frame[frame["task"].str.contains(word)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A study of inpainting, a sweep of denoising without images, and a memory curve."""
    folder = tmp_path_factory.mktemp("inputs")
    curve = {"method": ["JFB", "DEQ"] * 5, "seconds": range(10), "mib": range(100, 110)}
    pd.DataFrame(curve).to_csv(folder / "memory.csv", index=False)
    without = sweep(tasks=[DENOISING], depths=(1, 10)).drop(columns="objective_truth")
    return [
        save(study(tasks=[INPAINTING]), folder / "study.parquet"),
        save(without, folder / "sweep.parquet"),
        "--memory-curve",
        folder / "memory.csv",
    ]


@pytest.fixture(scope="module")
def page(inputs, tmp_path_factory):
    """What ``python -m benchmark.report`` wrote and printed.

    It fails if torch was imported, by that or by any other module of the report.
    """
    out = tmp_path_factory.mktemp("page") / "made" / "here"
    names = [path.stem for path in (ROOT / "benchmark" / "report").glob("[!_]*.py")]
    assert {"claims", "merge", "check", "build", "profiles"} <= set(names)
    script = (
        "import atexit, os, runpy, sys\n"
        "from importlib import import_module\n"
        "atexit.register(lambda: 'torch' in sys.modules and os._exit(3))\n"
        f"for name in {names}: import_module('benchmark.report.' + name)\n"
        "runpy.run_module('benchmark.report', run_name='__main__')\n"
    )
    command = [sys.executable, "-c", script, *map(str, inputs), "--out", str(out)]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8"
    )
    return out, done.stdout


@pytest.fixture(scope="module")
def frame():
    """The tidy frame of the study and the whole sweep."""
    return tidy(pd.concat([study(), sweep()]))


# --- the command line ------------------------------------------------------------------------


def test_every_artefact_is_written_or_explained(page):
    out, printed = page
    drawn = {f"{kind}_wavelet_l1_inpainting" for kind in ("accuracy", "reconstructions")}
    drawn |= {"gradient_error_wavelet_l1_denoising", "time", "memory", "memory_over_time"}
    drawn |= {"pareto_wavelet_l1_denoising", "pareto_wavelet_l1_inpainting", "performance"}
    drawn |= {"scaling", "learned_wavelet_l1_inpainting"}
    written = {path.name for path in out.iterdir()}
    assert {path for path in written if path.endswith(".png")} == {f"{n}.png" for n in drawn}
    assert {path for path in written if path.endswith(".pdf")} == {f"{n}.pdf" for n in drawn}
    others = {path for path in written if not path.endswith((".png", ".pdf"))}
    kinds = ("csv", "md", "tex", "html")
    names = {
        f"{name}.{kind}"
        for name in ("table", "headline", "time_to_accuracy", "ranking", "work")
        for kind in kinds
    }
    assert others == {*names, "provenance.json"}
    lines = printed.splitlines()
    assert "gradient_error_wavelet_l1_inpainting: skipped, needs at least two depths" in lines
    assert (
        "accuracy_wavelet_l1_denoising: skipped, needs at least two evaluations of a run" in lines
    )
    assert "reconstructions_wavelet_l1_denoising: skipped, no images in the data" in lines
    assert "read study.parquet: 61 rows, 61 used" in lines


def test_png_has_at_least_150_dpi(page):
    out, _ = page
    with Image.open(out / "memory.png") as picture:
        assert min(picture.info["dpi"]) >= 150


def test_same_bytes_in_another_process(page, inputs, tmp_path):
    """Neither figures nor tables depend on the process, its hash seed or the time of day."""
    out, _ = page
    again = tidy(read(inputs[1::-1]).rows)
    styles = method_styles(again["method"])
    with drawing.look():
        drawings = {
            "memory": figures.memory(again, Page(styles)),
            "reconstructions_wavelet_l1_inpainting": pictures.reconstructions(
                one_task(again, "inpainting"), Page(styles)
            ),
        }
        for name, drawn in drawings.items():
            for file in drawing.save(drawn.figure, tmp_path / name):
                assert (tmp_path / file).read_bytes() == (out / file).read_bytes(), file
    for name, content in tables.summarised(again).files().items():
        assert content == (out / name).read_text(encoding="utf-8"), name


def test_provenance(page, inputs):
    out, _ = page
    record = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs[:2]]
    assert [entry["sha256"] for entry in record["inputs"]] == digests
    assert [entry["file"] for entry in record["inputs"]] == ["study.parquet", "sweep.parquet"]
    assert record["rows"] == {"read": 71, "used": 71}
    assert record["sources_digests"] == ["abc123"]
    assert record["torch_versions"] == ["2.14.0"]
    assert record["threads"] == ["1"]
    assert record["platform"]["platform"] == ["Linux"]
    assert len(record["images_digests"]) == 2
    skipped = [entry["name"] for entry in record["artefacts"] if "skipped" in entry]
    assert len(skipped) == 5 and "gradient_error_wavelet_l1_inpainting" in skipped
    assert record["columns"] == "two"


def test_the_same_file_twice_counts_once(tmp_path):
    path = save(study(methods=STUDY[:1]), tmp_path / "a.parquet")
    again = tmp_path / "b.parquet"
    again.write_bytes(path.read_bytes())
    results = read([path, again])
    assert [source.rows_used for source in results.sources] == [32, 0]
    assert results.sources[1].left_out == {"same content as an earlier file": 32}
    assert len(results.rows) == 32


def _without(column):
    return lambda path: save(study(methods=STUDY[:1]).drop(columns=column), path)


def _truncated(path):
    save(study(methods=STUDY[:1]), path)
    path.write_bytes(path.read_bytes()[:-500])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_text("not a parquet file"), "not a readable benchopt parquet"),
        (_truncated, "not a readable benchopt parquet"),
        (lambda path: path.write_bytes(b""), "not a readable benchopt parquet"),
        (lambda path: save(study().iloc[:0], path), "no rows"),
        (_without("objective_test_psnr"), "no column objective_test_psnr"),
        (_without(["objective_value", "time"]), "no columns time, objective_value"),
        (_without("solver_name"), "no column solver_name"),
    ],
)
def test_unusable_input_is_one_line_and_exit_code_2(make, said, tmp_path):
    path = tmp_path / "given.parquet"
    make(path)
    code, _, complaint = cli(path, "--out", tmp_path / "out")
    assert code == 2
    assert complaint.count("\n") == 1
    assert str(path) in complaint and said in complaint
    assert not (tmp_path / "out").exists()


def test_rows_left_out_and_rows_without_numbers_are_counted(tmp_path, monkeypatch):
    whole = study(tasks=[INPAINTING])
    loose = whole["objective_method"] == "JFB"
    whole.loc[loose, "objective_reference_residual"] = 1e-3
    whole.loc[whole.index[0], "solver_name"] = None
    first = save(whole, tmp_path / "a.parquet")
    second = save(whole[~loose].assign(extra=1), tmp_path / "b.parquet")
    results = read([first, second])
    nameless = {"no solver, dataset or objective name": 1}
    assert results.sources[0].left_out == nameless
    assert results.sources[1].left_out == {**nameless, "same content as an earlier row": 44}
    why = "without a gradient error: the reference's residual is above 1e-06"
    assert results.sources[0].incomplete == {"without numbers: diverged": 1, why: 16}
    monkeypatch.setattr(build, "write_figures", lambda *args, **kwargs: iter(()))
    _, printed, _ = cli(first, second, "--out", tmp_path / "out")
    assert f"  16 rows {why}" in printed.splitlines()
    record = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    assert record["inputs"][1]["left_out"]["same content as an earlier row"] == 44


def test_site_is_built_from_a_folder_of_results(monkeypatch, tmp_path):
    asked = []
    module = types.SimpleNamespace(report=lambda results, out: asked.append((results, out)))
    module.__doc__ = ""
    monkeypatch.setitem(sys.modules, "benchmark.report.site", module)
    assert cli("site", "--out", tmp_path)[0] == 0
    assert cli("site", tmp_path, "--out", tmp_path / "pages")[0] == 0
    assert asked == [(Path("results"), tmp_path), (tmp_path, tmp_path / "pages")]


def test_many_reconstructions_take_several_lines():
    rows = study(methods=[(name, {}) for name in KNOWN], tasks=[DENOISING])
    frame = tidy(rows)
    made = pictures.reconstructions(frame, Page(method_styles(frame["method"])))
    shown = [axis for axis in made.figure.axes if axis.images]
    assert len(shown) == 3 * (len(KNOWN) + 2) - 1  # the truth has no error map
    assert made.figure.get_figheight() > 4 and not made.notes


def test_unusable_memory_curve(tmp_path):
    path = save(study(methods=STUDY[:1]), tmp_path / "a.parquet")
    curve = tmp_path / "memory.csv"
    curve.write_text("method,seconds\nDEQ,1\n")
    code, _, complaint = cli(path, "--out", tmp_path / "out", "--memory-curve", curve)
    assert (code, complaint) == (2, f"error: {curve}: no column mib\n")


# --- the table -------------------------------------------------------------------------------


def test_table_against_plain_pandas(frame):
    """Every mean and deviation again, from the raw frames, by another route."""
    written = io.StringIO(tables.to_csv(tables.summary(frame)))
    table = pd.read_csv(written).set_index(["task", "configuration"])
    raw = study()
    for task, name in zip(TASKS, ("denoising", "inpainting"), strict=True):
        for method, parameters in STUDY:
            rows = raw[(raw["p_dataset_degradation"] == task) & (raw["objective_method"] == method)]
            rows = rows[(rows["objective_outer_step"] == 70) & (rows["objective_status"] == "ok")]
            inside = [f"{k}={parameters[k]}" for k in ("layers", "restarts") if k in parameters]
            label = f"{method} ({', '.join([*inside, 'steps=70'])})"
            entry = table.loc[f"wavelet_l1, {name}", label]
            begin = raw[(raw["objective_outer_step"] == 0)].merge(rows[[*RUN_OF, "idx_rep"]])
            for column in tables.columns(frame):
                if column == "time_ratio":
                    continue
                at = begin if column.endswith("_start") else rows
                source = "time" if column == "seconds" else f"objective_{column}"
                numbers = at[source.removesuffix("_start")]
                assert entry[f"{column}_mean"] == pytest.approx(numbers.mean()), column
                assert entry[f"{column}_std"] == pytest.approx(numbers.std(), nan_ok=True)
                assert entry[f"{column}_count"] == len(rows)


def test_table_keeps_failures_and_every_configuration(page):
    out, _ = page
    table = pd.read_csv(out / "table.csv")
    failed = table[(table["method"] == "DEQ") & (table["task"] == "wavelet_l1, inpainting")]
    assert failed["status"].tolist() == ["1/2 ok, 1 diverged"]
    assert len(table) == len(STUDY) + 10
    for name in ("table.md", "table.tex", "table.html"):
        assert "1/2 ok, 1 diverged" in (out / name).read_text(encoding="utf-8")


def test_configuration_that_always_failed_keeps_its_row():
    rows = run("DEQ", {}, task=DENOISING, status="oom")
    rows += run("JFB", {}, task=DENOISING)
    text = tables.summarised(tidy(pd.DataFrame(rows))).text.set_index("configuration")
    assert text.loc["DEQ", "status"] == "0/1 ok, 1 oom"
    assert text.loc["DEQ", "test PSNR (dB)"] == tables.MISSING
    only_failed = tables.summary(tidy(pd.DataFrame(rows[:5])))
    assert only_failed["ok"].tolist() == [0]


def test_time_ratio_is_within_one_file_and_repetition():
    fast, slow = STUDY[0], STUDY[3]
    rows = []
    for source, load in {"a": 1.0, "b": 7.0}.items():
        for repetition in range(2):
            for method, parameters in (fast, slow):
                for row in run(method, parameters, task=DENOISING, repetition=repetition):
                    seconds = load * row["objective_gradient_seconds"]
                    rows.append({**row, "source": source, "objective_gradient_seconds": seconds})
    numbers = tables.summary(tidy(pd.DataFrame(rows))).set_index("configuration")
    # 120 layers and 60 products at two layers each, against 10 and 10
    assert numbers.loc["DEQ", "time_ratio_mean"] == pytest.approx(240 / 30)
    assert numbers.loc["DEQ", "time_ratio_std"] == pytest.approx(0, abs=1e-12)
    assert numbers.loc["Unrolling (layers=10)", "time_ratio_mean"] == 1
    assert numbers.loc["DEQ", "gradient_seconds_count"] == 4


def test_row_order_does_not_matter(frame):
    raw = pd.concat([study(), sweep()])
    shuffled = tidy(raw.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(shuffled, frame)
    assert tables.to_csv(tables.summary(shuffled)) == tables.to_csv(tables.summary(frame))


@pytest.mark.parametrize(
    ("mean", "std", "decimals", "written"),
    [
        (28.314, 0.0421, 2, "28.31 ± 0.04"),
        (28.314, np.nan, 2, "28.31"),
        (np.nan, np.nan, 2, "—"),
        (0.012345, 0.00067, np.nan, "0.0123 ± 0.0007"),
        (3.14e-7, 2.1e-8, np.nan, "(3.14 ± 0.21)e-07"),
        (3.14e-7, np.nan, np.nan, "3.14e-07"),
        (1234.5, np.nan, np.nan, "1234"),
        (0.0, np.nan, np.nan, "0.00"),
        (60.0, 0.0, 0, "60 ± 0"),
        (60.5, 0.7, 0, "60.5 ± 0.7"),
    ],
)
def test_measured(mean, std, decimals, written):
    assert tables.measured(mean, std, decimals=decimals) == written


def test_latex_is_escaped(frame):
    text = tables.to_latex(tables.summarised(frame).text)
    assert r"wavelet\_l1, denoising & Unrolling (layers=10, steps=70)" in text
    assert r"$\pm$" in text and "±" not in text
    assert text.count(r"\midrule") == 2


# --- names and styles ------------------------------------------------------------------------


def test_split_call():
    found = split_call("A[lower=b(c=1,d=(2, 3)),size:4]")
    assert found == ("A", {"lower": "b(c=1,d=(2, 3))", "size": "4"})
    assert split_call("plain") == ("plain", {})


def test_distinguish_shows_what_differs():
    details = {1: {"a": "1", "b": "2"}, 2: {"a": "1", "b": "3"}, 3: {"a": "9"}}
    heads = {1: "x", 2: "x", 3: "y"}
    assert distinguish(heads, details) == {1: "x (b=2)", 2: "x (b=3)", 3: "y"}
    assert distinguish(heads, details, ("a",))[3] == "y (a=9)"


def test_tasks_differ_by_what_differs():
    rows = []
    for task in ("inpainting(keep=0.5,noise=0.05)", "inpainting(keep=0.1,noise=0.05)"):
        for row in run("JFB", {}, task=DENOISING):
            name = f"Photographs[degradation={task},size=64]"
            rows.append({**row, "p_dataset_degradation": task, "dataset_name": name})
    tasks = sorted(set(tidy(pd.DataFrame(rows))["task"]))
    assert tasks == ["wavelet_l1, inpainting (keep=0.1)", "wavelet_l1, inpainting (keep=0.5)"]
    assert list(file_names(tasks).values()) == [
        "wavelet_l1_inpainting_keep_0.1",
        "wavelet_l1_inpainting_keep_0.5",
    ]


def test_file_names_are_safe_and_distinct():
    names = file_names(["a/b", "a:b", "A b", "x" * 200, "../.."])
    assert len({name.lower() for name in names.values()}) == 5
    assert all(len(name) <= 64 and re.fullmatch(r"[\w.]+", name) for name in names.values())
    assert not any(name.startswith(".") for name in names.values())


def test_styles_are_fixed_for_known_methods_and_distinct_for_others():
    styles = method_styles(["Zeta", "DEQ", "Alpha", "JFB"])
    assert styles["DEQ"] == KNOWN["DEQ"] and styles["JFB"] == KNOWN["JFB"]
    assert (styles["Alpha"], styles["Zeta"]) == FREE[:2]
    many = method_styles([*KNOWN, *(f"method {index}" for index in range(2 * len(FREE)))])
    assert len(set(many.values())) == len(many)
    markers = {(style.marker, style.filled) for style in (*KNOWN.values(), *FREE)}
    assert len(markers) == len(KNOWN) + len(FREE)
    assert len({style.color for style in (*KNOWN.values(), *FREE)}) == len(KNOWN) + len(FREE)
    assert len(set(variants(KNOWN["DEQ"], 4))) == 4


# --- what is drawn ---------------------------------------------------------------------------


def drawn_lines(rows, *, label, by, x, y, ends=()) -> dict[str, dict]:
    """The curves as benchopt's page gets them, by label."""
    looks = labelled_styles(rows, label, method_styles(rows["method"]))
    return {trace["label"]: trace for trace in traces(rows, (label, by), x, y, looks, ends)}


def test_curves_over_training(frame):
    rows = trained(one_task(frame, "denoising"))
    lines = drawn_lines(rows, label="configuration", by="outer_step", x="seconds", y="value")
    line = lines["Restarted-JFB (layers=10, restarts=5)"]
    raw = study()
    raw = raw[
        (raw["objective_method"] == "Restarted-JFB") & (raw["p_dataset_degradation"] == DENOISING)
    ]
    pairs = raw.pivot(index="stop_val", columns="idx_rep", values="objective_value")
    assert line["y"] == pytest.approx(pairs.mean(axis=1).tolist())  # the median of two
    low = 0.75 * pairs.min(axis=1) + 0.25 * pairs.max(axis=1)
    assert line["y_low"] == pytest.approx(low.tolist())
    assert line["x"] == pytest.approx([10 * index * 0.8 * 1.05 for index in range(8)])
    assert all(type(value) is float for value in (*line["x"], *line["y"], *line["y_high"]))


def test_figures_draw_the_same_curves(frame):
    """Medians as lines, quartiles as bands, those of the values also where the axis is a log."""
    part = one_task(frame, "denoising")
    with drawing.look():
        figure = figures.accuracy(part, Page(method_styles(frame["method"]))).figure
    rows = trained(part)
    for axis, y in zip(figure.axes[::3], figures.ACCURACY, strict=True):
        lines = drawn_lines(rows, label="configuration", by="outer_step", x="seconds", y=y)
        colors = {line["color"]: line for line in lines.values()}
        assert len(axis.lines) - (y == "value") == len(axis.collections) == len(lines)
        for line, band in zip(axis.lines, axis.collections, strict=False):
            expected = colors[line.get_color()]
            assert list(line.get_ydata()) == pytest.approx(expected["y"])
            bounds = {round(float(v), 9) for path in band.get_paths() for v in path.vertices[:, 1]}
            for bound in (*expected["y_low"], *expected["y_high"]):
                assert min(abs(bound - v) for v in bounds) < 1e-8


def test_failure_is_at_the_last_finite_point(frame):
    found = figures.unfinished(one_task(frame, "inpainting"), x="outer_step", y="value")
    (end,) = found.itertuples()
    assert end.configuration.startswith("DEQ")
    assert (end.method, end.x) == ("DEQ", 30.0)
    raw = study()
    raw = raw[(raw["objective_method"] == "DEQ") & (raw["idx_rep"] == 1)]
    raw = raw[raw["p_dataset_degradation"].str.startswith("inpainting")]
    assert end.y == raw["objective_value"].dropna().iloc[-1]


def test_curves_over_depth(frame):
    rows = one_task(frame[frame["steps"] == 0], "inpainting")
    options = {"label": "series", "by": "layers", "x": "layers", "y": "gradient_error"}
    lines = drawn_lines(rows, **options, ends=(1.0, 50.0))
    assert set(lines) == {
        "Unrolling",
        "JFB",
        "DEQ",
        *(f"Restarted-JFB (restarts={n})" for n in (1, 5, 20)),
    }
    expected = [gradient_error("Unrolling", {"layers": depth}, 0.93) for depth in DEPTHS]
    assert lines["Unrolling"]["x"] == list(DEPTHS)
    assert lines["Unrolling"]["y"] == pytest.approx(expected)
    assert lines["DEQ"]["x"] == [1, 50]
    assert "DEQ" not in drawn_lines(rows, **options)


def test_depths_of_different_methods_are_no_sweep(frame):
    rows = one_task(frame, "inpainting")
    shallow = rows[(rows["method"] == "Unrolling") & (rows["layers"] == DEPTHS[0])]
    deep = rows[(rows["method"] == "Restarted-JFB") & (rows["layers"] == DEPTHS[1])]
    assert len(shallow) and len(deep)
    both = pd.concat([shallow, deep])
    with pytest.raises(drawing.NothingToDrawError, match="two depths"):
        figures.gradient_error(both, Page(method_styles(frame["method"])))
    assert len(figures.memory(both, Page(method_styles(frame["method"]))).figure.axes) == 1


def test_slope_of_theory(frame):
    rows = one_task(frame, "inpainting")
    figure = figures.gradient_error(rows, Page(method_styles(frame["method"]))).figure
    assert "κ = 0.93" in texts(figure)
    (line,) = [line for line in figure.axes[0].lines if "theory" in str(line.get_label())]
    layers, error = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert np.log(error[-1] / error[0]) / (layers[-1] - layers[0]) == pytest.approx(np.log(0.93))
    start = gradient_error("Restarted-JFB", {"layers": 1, "restarts": 20}, 0.93)
    assert (layers[0], error[0]) == (1, pytest.approx(start))


def test_the_slope_hides_no_error_that_is_larger_elsewhere(frame):
    """At the θ that exact gradients reach, with the same axis."""
    rows = one_task(frame, "inpainting")
    rows = rows.assign(gradient_error_reached=100 * rows["gradient_error_start"])
    figure = figures.gradient_error(rows, Page(method_styles(frame["method"]))).figure
    highest = rows["gradient_error_reached"].max()
    assert all(axis.get_ylim()[1] > highest for axis in figure.axes)


def test_no_slope_without_contraction(frame):
    rows = one_task(frame, "inpainting").assign(contraction=1.0)
    made = figures.gradient_error(rows, Page(method_styles(frame["method"])))
    assert "theory" not in texts(made.figure)
    assert made.notes == ("the theory's slope (kappa = 1)",)


def test_failed_depth_is_marked():
    task = INPAINTING
    rows = run("Unrolling", {"layers": 50}, task=task, evaluations=1, status="oom")
    frame = tidy(pd.concat([sweep(tasks=[task], depths=(1, 2)), pd.DataFrame(rows)]))
    figure = figures.gradient_error(frame, Page(method_styles(frame["method"]))).figure
    assert "failed at this depth" in texts(figure)
    shown = figures.time(frame, Page(method_styles(frame["method"]))).figure
    assert "oom" in texts(shown)


def test_reconstructions_carry_the_psnr_of_the_images(frame):
    rows = one_task(frame, "inpainting")
    figure = pictures.reconstructions(rows, Page(method_styles(frame["method"]))).figure
    task = INPAINTING
    bias = 0.002 * min(1.0, gradient_error("Unrolling", {"layers": 10}, TASKS[task]))
    truth, shown = (image(task, error).astype(float) for error in (0.0, 0.05 + 10 * bias))
    psnr = 10 * np.log10(255**2 / np.mean((shown - truth) ** 2))
    assert f"Unrolling\nlayers=10\n{psnr:.2f} dB" in texts(figure)


def test_other_test_image_is_left_out_and_said(frame):
    rows = one_task(frame, "inpainting").copy()
    for index in rows.index[rows["method"] == "DEQ"]:
        if rows.at[index, "truth"] is not None:
            rows.at[index, "truth"] = np.zeros((32, 32, 3), dtype=np.uint8)
    kept = rows[rows["method"].isin(["DEQ", "JFB", "Unrolling"])]
    made = pictures.reconstructions(kept, Page(method_styles(frame["method"])))
    assert len(made.notes) == 1 and "another test image" in made.notes[0]


def test_unknown_method_is_everywhere():
    others = [("Shiny-New", {"layers": depth, "memory": 4}) for depth in (1, 10)]
    frame = tidy(study(methods=[*STUDY, *others], tasks=[DENOISING]))
    page = Page(method_styles(frame["method"]))
    drawn = (figures.accuracy, figures.gradient_error, figures.time, figures.memory)
    for draw in (*drawn, pictures.reconstructions):
        assert "Shiny-New" in texts(draw(frame, page).figure), draw.__name__
    assert "Shiny-New (layers=10)" in set(tables.summary(frame)["configuration"])


@pytest.mark.parametrize(
    "draw",
    [
        figures.accuracy,
        figures.gradient_error,
        figures.time,
        figures.memory,
        pictures.reconstructions,
    ],
)
def test_nothing_to_draw_is_said(draw):
    rows = pd.DataFrame(run("JFB", {}, task=DENOISING, status="error")[-1:])
    frame = tidy(rows)
    with pytest.raises(drawing.NothingToDrawError, match=r"needs|no "):
        draw(frame, Page(method_styles(frame["method"])))


# --- benchopt's pages ------------------------------------------------------------------------


def load_plot(name: str):
    spec = importlib.util.spec_from_file_location(f"plot_{name}", ROOT / "plots" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Plot.get_instance()


@functools.cache
def hostile_frames() -> dict[str, pd.DataFrame]:
    """What a page may be asked to draw."""
    rows = study(methods=STUDY[1:3], tasks=[DENOISING])
    names = ["objective_name", "solver_name", "dataset_name"]
    numbers = [name for name in rows.select_dtypes("number") if name.startswith("objective_")]
    return {
        "study": rows,
        "sweep": sweep(tasks=[DENOISING], depths=(1, 10)),
        "one row": rows.head(1),
        "names only": rows[names],
        "not finite": rows.assign(**dict(zip(numbers, [np.nan, np.inf] * 20, strict=False))),
        "failed": pd.DataFrame(run("DEQ", {}, task=DENOISING, status="oom")[-1:]),
    }


PLOTS = ("accuracy", "gradient_error", "memory", "summary")


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for i, name in enumerate(PLOTS) for kind in [*hostile_frames()][i % 2 :: 2]],
)
def test_plots_survive_anything_and_are_json(name, kind):
    plot = load_plot(name)
    plot._check()
    data, _ = plot._get_all_plots(hostile_frames()[kind])
    styled = update_plot_data_style({name: data}, plotly=True)
    assert json.loads(json.dumps(styled, allow_nan=False))
    if kind == "study":
        assert any(entry["data"] for entry in data.values())


def test_rows_are_made_tidy_once_for_all_plots_of_a_page():
    rows, others = (study(methods=STUDY[at : at + 1], tasks=[DENOISING]) for at in (1, 2))
    found = tidied(rows)
    assert tidied(rows) is found and found.equals(tidy(rows))
    assert set(tidied(others)["method"]) == {"Restarted-JFB"}
    assert set(tidied(rows)["method"]) == {"JFB"}


def test_plots_show_the_report_s_numbers():
    rows = study(methods=STUDY[1:3])
    objective, dataset = rows["objective_name"].iloc[0], rows["dataset_name"].iloc[0]
    traces = load_plot("accuracy").plot(rows, dataset, objective, "objective_value", "steps")
    assert [trace["label"] for trace in traces] == ["JFB", "Restarted-JFB (layers=10, restarts=5)"]
    assert traces[0]["x"] == [10.0 * index for index in range(8)]
    assert traces[0]["color"] == KNOWN["JFB"].color
    (bar, _) = load_plot("memory").plot(rows, dataset, objective)
    assert bar["label"] == "JFB" and bar["y"] == [6.5, 6.5]
