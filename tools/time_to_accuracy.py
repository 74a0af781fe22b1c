"""What a hypergradient of relative error 1e-2, 1e-4 or 1e-6 costs, each method at its best setting.

    python tools/time_to_accuracy.py [--out ROWS.parquet] [--problems N]

18 problems: six photographs, each with three degradations; six pairs of a family of layers and a
size, each once with every degradation (half a Latin square). The larger ones have a ridge, lest a
sweep take days. Every method is swept over its depth, terms, restarts and tolerances, with the same
equilibrium solver, the better one on the problem. Each axis is dearer and more exact as it goes on:
the cheapest setting whose error is below a threshold is found by growing steps and bisection, of
two axes first together and then each alone. "Never" means: at no place of the axes within
``BUDGET`` layers and products. Of the settings so found, the fastest of each method, those within
``NEAR`` of it and the one of fewest layers and products are then timed in ``ROUNDS`` rounds, or
what of them ``TIMING_BUDGET`` has room for, all methods of a problem in turn.

All is in float64, at the start θ, from x⁰ with nothing carried over. Left out are
Checkpointed-Unrolling (Unrolling's error for half as much work again), Single-Loop and SABA (which
live on what they carry), SPSA, MAID and Finite-Differences (whose errors have other axes: random
directions, values of F, a step). Rows are as benchopt writes them, a repetition for each round;
settings that were tried and not timed are there without a time.

What is finished of a problem and method is kept in ``outputs/time_to_accuracy``, by the digest of
all files that can change it: the same command goes on there. Cost: on one
core a 32×32 problem takes some minutes of search, most of it for the methods that need a thousand
layers and more, and ``TIMING_BUDGET``; all of them hours. One process on a quiet machine, or times
mean nothing.
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import inf, nan
from pathlib import Path

import pandas as pd
import torch
from benchopt.benchmark import Benchmark
from benchopt.results.parquet import to_parquet
from benchopt.utils.run_context import RunContext
from benchopt.utils.sys_info import get_sys_info

from benchmark.measure import garbage, memory, provenance, timing
from benchmark.measure.common import nowhere
from benchmark.measure.counting import CountedProblem
from benchmark.measure.device import full_precision, numerics
from benchmark.measure.evaluation import at_theta, estimate, reference_quality, unknown
from benchmark.measure.failure import Outcome, attempt

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "outputs" / "time_to_accuracy"
THRESHOLDS = (1e-2, 1e-4, 1e-6)
BUDGET, NEAR, ROUNDS = 10_000, 1.2, 3
#: seconds of a problem after which no round of timing begins
TIMING_BUDGET = 100.0
#: bytes of states in the graph above which unrolling is not tried; its checkpointed form is
MOST_BYTES = 4 * 2**30

PHOTOGRAPHS = ("coffee.png", "kodim23.png", "china.jpg", "astronaut.png", "sail.png", "monarch.png")
DEGRADATIONS = (
    "inpainting(keep=0.5,sigma=0.05)",
    "deblurring(width=1.5,sigma=0.02)",
    "inpainting(keep=0.3,sigma=0.05)",
)
LAYERS = (
    ("wavelet_l1(ridge=0.05)", 64),
    ("wavelet_l1(ridge=0.05)", 128),
    ("wavelet_l12", 32),
    ("wavelet_l12(ridge=0.05)", 64),
    ("pnp(stepsize=1.5)", 32),
    ("wavelet_l1", 32),
)

#: the axes, from cheap to dear
COUNTS = tuple(dict.fromkeys(round(2 ** (k / 2)) for k in range(25)))
TOLERANCES = tuple(float(f"1e-{k}") for k in range(1, 14))
MEMORIES, MOST_DIRECTIONS = (10, 30, 100), 256
#: of these each problem has the one that reaches a residual of 1e-8 with the fewest layers
SOLVERS = ("anderson(depth=20)", "fista")


def cell(number: int) -> tuple[str, str, tuple[str, int]]:
    """Of a problem, 0 … 17: photograph, degradation, and the pair of a family and a size."""
    photograph, degradation = divmod(number, len(DEGRADATIONS))
    layer = LAYERS[(photograph + 2 * degradation) % len(LAYERS)]
    return PHOTOGRAPHS[photograph], DEGRADATIONS[degradation], layer


@dataclass(frozen=True)
class Variant:
    """A method, the options that are held, and the names of its one axis or two."""

    method: str
    axes: tuple[str, ...]
    held: dict[str, object] = field(default_factory=dict)

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(len(levels(name)) for name in self.axes)

    def options(self, at: Sequence[int]) -> dict[str, object]:
        """The plugin's parameters at these places of the axes."""
        own = {name: levels(name)[i] for name, i in zip(self.axes, at, strict=True)}
        if "total" in own:  # layers run in all: what is left of them are restarts
            own["restarts"] = max(1, own.pop("total") // own["layers"] - 1)
        if "both" in own:
            own |= dict.fromkeys(("f_tol", "b_tol"), own.pop("both"))
        return {"steps": 0, **self.held, **own}


def levels(axis: str) -> tuple[float, ...]:
    """Of an axis by its name: a count, or a tolerance."""
    if axis == "total":
        return tuple(n for n in (*COUNTS, 2 * COUNTS[-1]) if n >= 2)
    if axis == "directions":  # each is a state that is kept
        return tuple(n for n in COUNTS if n <= MOST_DIRECTIONS)
    return COUNTS if axis in ("layers", "terms", "grad", "inner_steps") else TOLERANCES


def variants(solver: str = SOLVERS[0]) -> Iterator[Variant]:
    """All methods with all that they are swept over, their equilibria found by ``solver``."""
    most = {"equilibrium_solver": solver, "max_layers": BUDGET}
    yield Variant("Unrolling", ("layers",))
    yield Variant("Restarted-JFB", ("layers", "total"))
    yield Variant("JFB", ("tol",), most)
    yield Variant("Neumann", ("terms", "tol"), most)
    yield Variant("DEQ", ("gradient_tol",), most)
    yield Variant("DEQ", ("tol", "adjoint_tol"), most)
    yield Variant("HOAG", ("first_tol",), most | {"tol": TOLERANCES[-1]})
    yield Variant("Newton-DEQ", ("tol", "adjoint_tol"), most)
    yield Variant("Recycled-DEQ", ("tol", "adjoint_tol"), most)
    yield Variant("Sketched-DEQ", ("directions", "tol"), most)
    yield Variant("Forward-Mode", ("tol",), most)
    yield Variant("Piggyback", ("tol",), {"max_layers": BUDGET // 2})
    for damping in (0.5, 1.0):
        yield Variant("Phantom", ("layers", "tol"), most | {"damping": damping})
    for kept in MEMORIES:  # what it estimates the inverse from is Anderson's
        yield Variant("SHINE", ("tol",), {"max_layers": BUDGET, "memory": kept})
    # other libraries, as documented and with what is better here
    better = {"m": 20, "lam": 0.0, "f_solver": "anderson"}
    both = {"f_max_iter": BUDGET // 4, "b_max_iter": BUDGET // 4}
    yield Variant("torchdeq-IFT", ("f_tol", "b_tol"), better | both | {"b_solver": "anderson"})
    # the vectors of Broyden's method fill the memory with more iterations than these
    broyden = {"f_solver": "broyden", "b_solver": "broyden", "f_max_iter": 300, "b_max_iter": 300}
    yield Variant("torchdeq-IFT", ("both",), broyden)
    yield Variant("torchdeq-IFT", ("both",), {"f_solver": "anderson", "b_solver": "anderson"})
    yield Variant("torchdeq-Phantom", ("grad", "f_tol"), better | {"f_max_iter": BUDGET // 4})
    better = {"max_iter": BUDGET // 4, "anderson": True, "history_size": 20, "eps": 0.0}
    yield Variant("deepinv-DEQ", ("thres_conv",), better | {"max_iter_backward": BUDGET // 4})
    yield Variant("deepinv-JFB", ("thres_conv",), better)


@dataclass(frozen=True)
class Trial:
    """One hypergradient: with which options, its columns, seconds as it was, not warmed up."""

    options: dict[str, object]
    columns: dict[str, object]
    seconds: float

    @property
    def evals(self) -> float:
        return self.columns["layer_evals"] + self.columns["vjp_evals"]

    def reaches(self, threshold: float) -> bool:
        return self.columns["gradient_error"] <= threshold and self.evals <= BUDGET


def least(reached: Callable[[int], bool], first: int, last: int) -> int | None:
    """The smallest of first … last that is reached, by growing steps and bisection; None: none is.

    ``reached`` is monotone. Costs grow with the number: none is tried that is much too large.

    Examples
    --------
    >>> least(lambda i: i >= 7, 0, 24), least(lambda i: False, 0, 24)
    (7, None)
    """
    below, at = first - 1, first
    while not reached(at):
        if at >= last:
            return None
        below, at = at, min(at + 3, last)
    while at - below > 1:
        middle = (below + at) // 2
        below, at = (below, middle) if reached(middle) else (middle, at)
    return at


def cheapest(
    lengths: Sequence[int], reached: Callable[[tuple[int, ...]], bool], first: int = 0
) -> tuple[int, tuple[int, ...]] | None:
    """The first place reached on the diagonal of the axes, and from it each axis as far down as is
    still reached, the last axis first; None where none is. ``first``: where the diagonal begins.
    """
    number = max(lengths)

    def place(step: int) -> tuple[int, ...]:
        return tuple(round(step * (n - 1) / (number - 1)) for n in lengths)

    step = least(lambda i: reached(place(i)), first, number - 1)
    if step is None:
        return None
    at = list(place(step))
    for axis in reversed(range(len(at) if len(at) > 1 else 0)):

        def lower(down: int, axis: int = axis) -> bool:
            return not reached((*at[:axis], at[axis] - down, *at[axis + 1 :]))

        top = at[axis]
        stop = least(lower, 1, top) if top else None
        at[axis] = 0 if stop is None else top - stop + 1
    return step, tuple(at)


class Problem:
    """A problem with the plugins of this checkout, and what is found on it."""

    def __init__(self, benchmark: Benchmark, number: int) -> None:
        photograph, degradation, (lower, size) = cell(number)
        objective, datasets = benchmark.get_benchmark_objective(), benchmark.get_datasets()
        self.solvers = {cls.name: cls for cls in benchmark.get_solvers()}
        self.number = number
        self.objective = objective.get_instance(lower=lower, dtype="float64", probe_size=1)
        (dataset,) = [cls for cls in datasets if cls.name == "Photographs"]
        self.dataset = dataset.get_instance(
            degradation=degradation,
            size=size,
            n_train=1,
            n_test=1,
            train_on=photograph,
        )
        self.context = RunContext().set_run_context(
            objective=self.objective,
            dataset=self.dataset,
            solver=None,
            repetition=0,
            base_seed=benchmark.seed,
        )
        skip, reason = self.objective._set_dataset(self.dataset)
        if skip:
            raise RuntimeError(f"problem {number}: {reason}")
        self.task, self.truth = self.objective.task, self.objective.rows.truth
        self.reference = self.truth.reference(self.truth.start)
        self.system, self.origins = get_sys_info(), {}
        most = {"steps": 0, "tol": 1e-8, "max_layers": BUDGET}
        tried = {name: self.tried("JFB", most | {"equilibrium_solver": name}) for name in SOLVERS}
        known = {name: trial.evals for name, trial in tried.items() if trial.evals > 0}
        self.best_solver = min(known, key=known.get, default=SOLVERS[0])

    def solver(self, method: str, options: dict[str, object]) -> object:
        made = self.solvers[method].get_instance(**options)
        made.set_objective(self.task.learning)
        return made

    def fits(self, variant: Variant) -> bool:
        """Whether the method is installed and can be used on the task."""
        cls = self.solvers[variant.method]
        if not cls.is_installed(quiet=True):
            return False
        solver = cls.get_instance(**variant.options([0] * len(variant.axes)))
        return not solver.skip(self.task.learning)[0]

    def call(self, solver: object) -> Callable[[], object]:
        lower = at_theta(self.task.lower, self.truth.start)
        return lambda: solver.hypergradient_on_probe(lower, self.task.probe)

    def tried(self, method: str, options: dict[str, object]) -> Trial:
        """One hypergradient, counted, timed as it is, and compared with the reference."""
        row = unknown(self.truth, Outcome())
        layers = options.get("layers", 0) if method == "Unrolling" else 0
        state = self.task.lower.init(self.task.probe.parts[0].observation)
        if layers * 3 * state.numel() * 8 > MOST_BYTES:
            return Trial(options, row | {"status": "oom", "message": "not tried"}, inf)
        solver = self.solver(method, options)
        counted = CountedProblem(at_theta(self.task.lower, self.truth.start))
        outcomes: list[Outcome] = []

        def once() -> None:
            found = attempt(lambda: estimate(solver, self.task, counted, self.reference))
            outcomes.append(found)

        seconds = timing.elapsed(once, self.task.device)
        (outcome,) = outcomes
        row |= {"status": outcome.status, "message": outcome.message}
        row |= vars(outcome.value) if outcome.ok else {}
        return Trial(options, row, seconds)

    def row(self, method: str, trial: Trial) -> dict[str, object]:
        """As benchopt writes it, without a time."""
        solver = self.solver(method, trial.options)
        accuracy = attempt(lambda: self.truth.accuracy(self.truth.start))
        columns = nowhere() | trial.columns | (vars(accuracy.value) if accuracy.ok else {})
        columns |= vars(reference_quality(self.reference)) | numerics()
        columns |= {"outer_step": 0, "training_layer_evals": 0.0, "training_vjp_evals": 0.0}
        columns |= {"ended": "finished" if trial.columns["status"] == "ok" else "error"}
        plugins = {"obj": self.objective, "solver": solver, "dataset": self.dataset}
        names = {"obj": "objective_name", "solver": "solver_name", "dataset": "dataset_name"}
        folders = {"obj": "", "solver": "solvers/", "dataset": "datasets/"}
        meta = {"base_seed": 0, "sampling_strategy": "Iteration", "stop_val": 0, "time": 0.0}
        for kind, plugin in plugins.items():
            file = folders[kind] + plugin._module_filename.name
            meta |= {names[kind]: str(plugin), f"file_{names[kind].removesuffix('_name')}": file}
            meta |= {f"p_{kind}_{name}": value for name, value in plugin._parameters.items()}
        meta["solver_description"] = inspect.cleandoc(solver.__doc__ or "")
        if method not in self.origins:  # which files are behind a method takes long to find
            self.origins[method] = self.objective.evaluate_result({}, solver)
        columns |= self.origins[method]
        return meta | {f"objective_{n}": value for n, value in columns.items()} | self.system


def searched(problem: Problem, variant: Variant) -> dict[str, object]:
    """What was tried, and which trial is the cheapest for each threshold (None: never)."""
    trials: dict[tuple[int, ...], Trial] = {}

    def tried(at: tuple[int, ...]) -> Trial:
        if at not in trials:
            trials[at] = problem.tried(variant.method, variant.options(at))
        return trials[at]

    best, first = [], 0
    for threshold in THRESHOLDS:
        reached = partial(lambda threshold, at: tried(at).reaches(threshold), threshold)
        found = cheapest(variant.lengths, reached, first) if None not in best else None
        best.append(found and [*trials].index(found[1]))
        first = found[0] if found else first
    return {"trials": [asdict(trial) for trial in trials.values()], "best": best}


def chosen(found: Sequence[dict[str, object]]) -> list[Trial]:
    """Of one method, the settings that are worth timing."""
    kept: dict[str, Trial] = {}
    for at in range(len(THRESHOLDS)):
        known = [v["trials"][v["best"][at]] for v in found if v["best"][at] is not None]
        trials = [Trial(**trial) for trial in known]
        if trials:
            least = min(trial.seconds for trial in trials)
            near = [trial for trial in trials if trial.seconds <= NEAR * least]
            for trial in (*near, min(trials, key=lambda trial: trial.evals)):
                kept[json.dumps(trial.options)] = trial
    return [*kept.values()]


def rows_of(problem: Problem, found: dict[str, list]) -> pd.DataFrame:
    """All that was tried on a problem; what is worth it timed, a row for each round."""
    rows, calls = [], {}
    for method, own in found.items():
        worth = {json.dumps(trial.options): trial for trial in chosen(own)}
        for trial in (Trial(**trial) for variant in own for trial in variant["trials"]):
            key, row = json.dumps(trial.options), problem.row(method, trial)
            if key in worth:
                calls[method, key] = problem.call(problem.solver(method, trial.options))
                mib = memory.live_memory(calls[method, key])
                rows.append(row | {"objective_peak_memory_mib": mib, "key": (method, key)})
            else:
                rows.append(row | {"idx_rep": 0, "key": None})
    timed = timing.seconds(calls, problem.task.device, rounds=ROUNDS, budget=TIMING_BUDGET)
    every = []
    for row in rows:
        key = row.pop("key")
        samples = () if key is None else timed[key].samples
        every += [row] if key is None else []
        for repetition, seconds in enumerate(samples):
            every.append(row | {"idx_rep": repetition, "objective_gradient_seconds": seconds})
    return pd.DataFrame(every)


def solved(benchmark: Benchmark, number: int) -> Path:
    """The file with the rows of a problem, made where it is not there."""
    solvers = {cls.name: cls for cls in benchmark.get_solvers()}
    methods = dict.fromkeys(variant.method for variant in variants())
    versions = {method: version(solvers[method], number) for method in methods}
    path = KEPT / f"{number:02}_{provenance.digest(versions)}.parquet"
    if path.is_file():
        return path
    found, problem = {}, Problem(benchmark, number)
    for method in methods:
        kept = KEPT / f"{number:02}_{method}_{versions[method]}.json"
        if not kept.is_file():
            own = [v for v in variants(problem.best_solver) if v.method == method]
            own = [variant for variant in own if problem.fits(variant)]
            found[method] = [searched(problem, variant) for variant in own]
            _put(kept, lambda file, own=found[method]: file.write_text(json.dumps(own)))
        found[method] = json.loads(kept.read_text())
        print(f"problem {number}, {method}: {_told(found[method])}", flush=True)
    rows = rows_of(problem, found)
    _put(path, lambda file: to_parquet(rows, file))
    return path


def version(solver: type, number: int) -> str:
    """The digest of all files that can change what is found of a method on a problem."""
    _, _, (lower, _) = cell(number)
    roots = [Path(__file__), ROOT / "objective.py", ROOT / "datasets" / "photographs.py"]
    roots += [Path(solver._module_filename), *provenance.named([lower])]
    return provenance.digest(provenance.sources(roots))


def _told(found: Sequence[dict[str, object]]) -> str:
    """The fewest layers and products for each threshold."""
    trials = [t for v in found for t in v["trials"]]
    texts = []
    for threshold in THRESHOLDS:
        evals = [t.evals for t in (Trial(**t) for t in trials) if t.reaches(threshold)]
        texts.append(f"{min(evals, default=nan):.0f}")
    return f"{' / '.join(texts)} layers and products; {sum(t['seconds'] for t in trials):.1f} s"


def _put(path: Path, write: Callable[[Path], object]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    write(unfinished)
    unfinished.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "time_to_accuracy.parquet")
    parser.add_argument("--problems", type=int, nargs="+", default=range(18), help="all: 0 … 17")
    options = parser.parse_args()
    torch.set_num_threads(1)
    benchmark = Benchmark(ROOT, seed=0, no_cache=True)
    full_precision()
    with garbage.only_of_what_is_new():  # collecting all would take longer than what is measured
        files = [solved(benchmark, number) for number in options.problems]
    rows = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    rows["run_date"] = pd.Timestamp.now().isoformat()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    to_parquet(rows, options.out)
    print(f"{len(rows)} rows in {options.out}")


if __name__ == "__main__":
    main()
