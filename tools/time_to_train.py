"""How long training takes until F is within 1 %, 0.1 % of the best known, each method at its best.

    python tools/time_to_train.py [--problems N …] [--methods NAME …] [--out FOLDER]

θ are the weights of the bands, log λ (3, 3), of a wavelet layer with a ridge, learned on crops of
photographs: inpainting and deblurring at 64×64, another photograph kept aside, and both at 256×256.
The wavelet is Haar's, with which deepinv's own layer is the same to rounding: ``native_loops``
trains it as one would without this project.

Every method that trains (``training_settings``) is run cold and, where it can be, warm: at its
first setting with every learning rate of Adam's, then at the others with the best of them. A run
ends where F is there, after ``STEPS`` outer steps, ``BUDGET`` layers and products or ``SECONDS`` of
training, where F has settled too high, or where it has taken longer than the method's best:
"never" means, at none of these. At 256×256 a method has the settings and rates that were its best
at 64×64 with the same operator.

The clock runs in outer steps alone. F is evaluated between them, in float64 at the true
equilibrium, to 1e-5 of itself: at steps ``CHECKS``, and by bisection between two of them where F
has come below a threshold. The best known F is the least that was seen by any method, L-BFGS on
exact gradients among them. The best runs are then timed in ``ROUNDS`` rounds, in shuffled order and
without evaluations, as far as they need to come; and so are ``LONG`` outer steps of some, of which
the last third tells what a step costs once training has settled.

What is finished is kept in ``outputs/time_to_train`` by the digest of all sources: the same command
goes on there, and ``--stop-after`` says when no run begins any more. Float32, one thread; alone on
a core, or times mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from math import inf
from pathlib import Path
from time import monotonic

import native_loops as natives
import torch
import training_course
import training_settings
import training_table
from benchopt.benchmark import Benchmark
from native_loops import Moment
from training_course import STEPS, TARGETS, TrainingLoss, Trial, crossing, followed, rank, told
from training_settings import Method, Options

from benchmark.gradients.refined import flat
from benchmark.imaging.images import crops
from benchmark.imaging.metrics import gradient_error
from benchmark.imaging.photographs import serving
from benchmark.measure import garbage, provenance
from benchmark.measure.device import full_precision
from benchmark.measure.truth import at_theta
from benchmark.options.seeds import seed_of
from benchmark.plugins.task import make_task
from benchmark.problems import wavelet_l1
from benchmark.problems.bilevel import BilevelTask
from benchmark.solve.convergence import NotConverged

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "outputs" / "time_to_train"
LOWER = "wavelet_l1(wavelet='haar',ridge=0.05)"
ROUNDS, LONG = 3, 60
#: seconds of what is not timed again in rounds
SLOW = 30.0

LOOPS: dict[str, Callable[..., Iterator[Moment]]] = {
    "native deepinv": natives.deepinv_loop,
    "native deepinv, Jacobian-free": natives.deepinv_loop,
    "native torchdeq": natives.torchdeq_loop,
    "equilibrium() on deepinv's layer": natives.library_loop,
}


@dataclass(frozen=True)
class Cell:
    """How images are seen, their side, how many are trained on, the photograph that they are cut
    from (None: several in turn), the problem whose best settings are taken over (None: all are
    tried).
    """

    degradation: str
    size: int
    images: int
    photograph: str | None = None
    like: int | None = None


_HOLES, _BLUR = "inpainting(keep=0.5,sigma=0.05)", "deblurring(width=1.5,sigma=0.02)"
CELLS = (
    Cell(_HOLES, 64, images=2),
    Cell(_BLUR, 64, images=2),
    Cell("inpainting(keep=0.3,sigma=0.05)", 64, images=2, photograph="sail.png"),
    Cell(_HOLES, 256, images=1, like=0),
    Cell(_BLUR, 256, images=1, like=1),
)


class Problem:
    """A cell with the plugins of this checkout, and what is found on it, kept as JSON."""

    def __init__(self, number: int, cell: Cell, solvers: Mapping[str, type], file: Path) -> None:
        self.number, self.cell, self.solvers, self.file = number, cell, solvers, file
        parts = serving(cell.photograph, train=cell.images, test=1)
        numbers = {"train": cell.images, "test": 1}
        images = {
            split: crops(parts[split], number=n, size=cell.size, seed=seed_of(0, split))
            for split, n in numbers.items()
        }
        given = {"degradation": cell.degradation, "lower": LOWER, "probe_size": 1, "seed": 0}
        made = make_task(**images, **given)
        device = torch.device("cpu")
        self.exact = made.to(device=device, dtype=torch.float64)
        self.task = made.to(device=device, dtype=torch.float32)
        self.kept = {"trials": {}, "rounds": [{} for _ in range(ROUNDS)], "settled": {}}
        if file.is_file():
            self.kept |= json.loads(file.read_text())

    def keep(self) -> None:
        """Put what is found into the file, whole or not at all."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(self.kept))
        unfinished.replace(self.file)

    def trials(self, key: str) -> list[Trial]:
        return [Trial.of_json(kept) for kept in self.kept["trials"].get(key, ())]

    @property
    def best(self) -> float:
        """The least F that was seen."""
        seen = (trial.least for key in self.kept["trials"] for trial in self.trials(key))
        return min((self.kept["reference"], *seen))

    def solver(self, name: str, options: Options, *, task: BilevelTask | None = None) -> object:
        made = self.solvers[name].get_instance(evaluate_every=STEPS, **options)
        made.set_objective((task or self.task).learning)
        made.warm_up()
        return made

    def course(self, name: str, settings: Options, rate: float | None) -> Iterator[Moment]:
        """The method's training, step by step; it ends with the first step that fails."""
        options = settings if rate is None else {**settings, "learning_rate": rate}
        if name in LOOPS:
            yield from LOOPS[name](self.task.learning, **options)
            return
        self.running = solver = self.solver(name, {"steps": STEPS, **options})
        for step in solver.course():
            if not solver.outcome.ok:
                return
            if step.number == 0:
                solver.clock = natives.BothClocks()
            evals = solver.counted.layer_evals, solver.counted.vjp_evals
            theta = solver.lower.log_weights.detach().clone()
            yield Moment(step.seconds, solver.clock.busy, *evals, theta)

    def fits(self, method: Method) -> bool:
        """Whether it is installed and can be used on the task."""
        if method.name in LOOPS:
            return natives.available(method.name)
        cls = self.solvers[method.name]
        return (
            cls.is_installed(quiet=True)
            and not cls.get_instance(**method.settings[0]).skip(self.task.learning)[0]
        )

    def look(self) -> None:
        """F where L-BFGS on exact gradients leads; by how much deepinv's F differs from ours."""
        searched = "LBFGS(line_search_fn='strong_wolfe',max_iter=30,max_eval=40)"
        options = {"optimizer": searched, "learning_rate": 1.0, "steps": 1, "warm_start": True}
        tols = {"tol": 1e-6, "adjoint_tol": 1e-3, "equilibrium_solver": "anderson"}
        solver, loss = self.solver("DEQ", options | tols, task=self.exact), TrainingLoss(self.exact)
        for _ in solver.course():
            theta = solver.lower.log_weights.detach().clone()
        self.kept["reference"] = loss(theta)
        self.kept["disagreement"] = natives.loss(self.exact, theta) / self.kept["reference"] - 1
        self.keep()

    def candidates(self, method: Method, like: Problem | None) -> Iterator[tuple[Options, float]]:
        """Settings and rates to try, those that are best by then told from ``trials``."""
        if like is not None:
            known = sorted(like.trials(method.key), key=lambda trial: rank(trial, like.best))
            yield from dict.fromkeys(
                (json.dumps(trial.settings), trial.rate)
                for trial in like.chosen(method.key) or known[:1]
            )
            return
        first, *others = (json.dumps(settings) for settings in method.settings)
        yield from ((first, rate) for rate in method.rates)
        for settings in others:
            trials = self.trials(method.key)
            yield settings, min(trials, key=lambda trial: rank(trial, self.best)).rate

    def search(self, method: Method, like: Problem | None, most: Callable[[], None]) -> None:
        """Run what is not there, and what ended at a best known F that is none any more."""
        trials = [t for t in self.trials(method.key) if not self.stale(t)]
        self.kept["trials"][method.key] = [asdict(trial) for trial in trials]
        for settings, rate in self.candidates(method, like):
            known = {(json.dumps(t.settings), t.rate) for t in self.trials(method.key)}
            if (settings, rate) in known:
                continue
            most()
            best, trial = self.best, Trial(json.loads(settings), rate)
            ranks = [rank(own, best) for own in self.trials(method.key)]
            done, seconds = min(ranks, default=(0, inf))
            course = self.course(method.name, trial.settings, rate)
            limit = seconds if -done == len(TARGETS) else inf
            followed(trial, course, TrainingLoss(self.exact), best=best, most_seconds=limit)
            self.kept["trials"][method.key].append(asdict(trial))
            self.keep()
            print(f"{self.number}: {told(method.key, trial, best)}", flush=True)

    def stale(self, trial: Trial) -> bool:
        """Whether it was ended as there and is not, the best known F being less by now."""
        return trial.end == "reached" and trial.least > (1 + TARGETS[-1]) * self.best

    def chosen(self, key: str) -> list[Trial]:
        """The fastest trial for each target."""
        found = []
        for limit in ((1 + target) * self.best for target in TARGETS):
            there = [t for t in self.trials(key) if crossing(t.values, limit) is not None]
            if there:
                found.append(min(there, key=lambda t: t.busy[crossing(t.values, limit)]))
        return found

    def timed(self, number: int, most: Callable[[], None]) -> None:
        """A round: seconds until each target of what is worth it, one after another, shuffled."""
        known, runs = self.kept["rounds"][number], {}
        limits = [(1 + target) * self.best for target in TARGETS]
        for key in self.kept["trials"]:
            for trial in self.chosen(key):
                runs[json.dumps((key, trial.settings, trial.rate))] = key, trial
        for name in random.Random(number).sample([*runs], len(runs)):
            key, trial = runs[name]
            steps = [crossing(trial.values, limit) for limit in limits]
            last = max(step for step in steps if step is not None)
            if name in known or (trial.busy[last] > SLOW and "native" not in key):
                continue
            most()
            gc.collect()
            course = self.course(key.rpartition(", ")[0], trial.settings, trial.rate)
            seconds = [(moment.seconds, moment.busy) for moment in islice(course, last + 1)]
            known[name] = [None if step is None else seconds[step] for step in steps]
            self.keep()

    def steps(self, number: int, most: Callable[[], None]) -> None:
        """A round: what an outer step costs once training has settled."""
        known = self.kept["settled"]
        listed = training_settings.SETTLED
        for name, settings in random.Random(number).sample(listed, len(listed)):
            own = known.setdefault(json.dumps((name, settings)), {})
            if len(own.get("seconds", ())) > number:
                continue
            most()
            gc.collect()
            moments = [*self.course(name, {"steps": LONG, **settings}, None)]
            if len(moments) <= LONG:
                raise RuntimeError(f"{name}, {settings}: ended at outer step {len(moments) - 1}")
            first, last = moments[LONG - LONG // 3], moments[LONG]
            for what in ("seconds", "busy", "layers", "products"):
                spent = getattr(last, what) - getattr(first, what)
                own.setdefault(what, []).append(spent / (LONG // 3))
            if number == 0:
                own["error"] = self.error(self.running)
            self.keep()

    def error(self, solver: object) -> float:
        """The relative error of the gradient that a method's next outer step would follow."""
        tols = {"gradient_tol": 1e-3, "equilibrium_solver": "anderson(depth=20)"}
        lower = at_theta(self.exact.lower, solver.lower.theta())
        true = self.solver("DEQ", tols, task=self.exact).mean_hypergradient(lower, self.exact.train)
        found = solver.mean_hypergradient(solver.lower, self.task.train)
        return gradient_error(flat(found.gradient), flat(true.gradient))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "time_to_train")
    parser.add_argument("--problems", type=int, nargs="+", default=range(len(CELLS)))
    parser.add_argument("--methods", nargs="+", help="those alone whose names begin so")
    parser.add_argument("--stop-after", type=float, default=inf, metavar="SECONDS")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", NotConverged)
    full_precision()
    end = monotonic() + options.stop_after

    def most() -> None:
        if monotonic() > end:
            raise SystemExit(75)

    solvers = {cls.name: cls for cls in Benchmark(ROOT, seed=0, no_cache=True).get_solvers()}
    files = [
        *(ROOT / "solvers").glob("*.py"),
        *map(Path, (__file__, natives.__file__, training_course.__file__)),
    ]
    digest = provenance.digest(provenance.sources([*files, Path(wavelet_l1.__file__)]))
    folder = KEPT / digest

    @cache
    def problem_of(number: int) -> Problem:
        return Problem(number, CELLS[number], solvers, folder / f"{number}.json")

    wanted = [
        method
        for method in training_settings.methods()
        if not options.methods or method.key.startswith(tuple(options.methods))
    ]
    with garbage.only_of_what_is_new():
        for problem in map(problem_of, options.problems):
            like = None if problem.cell.like is None else problem_of(problem.cell.like)
            if "reference" not in problem.kept:
                problem.look()
            for _ in range(2):  # again where the best known F has fallen
                for method in filter(problem.fits, wanted):
                    problem.search(method, like, most)
            for number in range(ROUNDS):
                problem.timed(number, most)
                problem.steps(number, most)
    training_table.write([*map(problem_of, options.problems)], options.out, digest)


if __name__ == "__main__":
    main()
