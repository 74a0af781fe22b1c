"""Methods with one fault each, run between two good ones.

What is left behind, changed and returned is tried in one process, where nothing else protects a
method from another; what ends a process, in processes of their own. A good method runs before and
after each, and its rows must be the same each time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import cache, partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
from fault import Fault

from benchmark.imaging.images import simulated
from benchmark.measure import cost
from benchmark.measure.surroundings import EVERYTHING
from benchmark.measure.truth import Truth
from benchmark.options.columns import must_repeat
from benchmark.plugins.rows import Rows
from benchmark.plugins.task import make_task
from benchmark.running.course import PROCESSES, Course

STATE = '''\
"""{name}."""

import torch

from benchmark.plugins.bilevel_solver import StateMethod


class Solver(StateMethod):
    """{name}."""

    name = "{name}"
    parameters = {{**StateMethod.parameters}}

    def equilibrium(self, T, x0):
        x = T(x0.detach()).detach()
        y = T(x)
        {body}
'''
ESTIMATE = '''\
"""{name}."""

from dataclasses import replace

import torch

from benchmark.gradients.last_layers import LastLayers
from benchmark.gradients.pair import Pair
from benchmark.gradients.rule import AdjointRecord
from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.plugins.bilevel_solver import BilevelSolver
from benchmark.solve.search import Steps


class Solver(BilevelSolver):
    """{name}."""

    name = "{name}"
    parameters = {{**BilevelSolver.parameters}}

    def hypergradient(self, lower, batch):
        problem = EquilibriumLoss.of_lower_level(lower, batch)
        pair = Pair(Steps(1), LastLayers(1))
        found = pair.hypergradient(problem, self.start(lower, batch), AdjointRecord())
        {body}

    def deploy(self, lower, y):
        x = lower.init(y)
        {deploy}
'''
GOOD = "return y"


def method(folder: Path, name: str, text: str) -> type:
    """The class of a plugin's file, which is written."""
    path = folder / f"{name.lower().replace('-', '_')}.py"
    path.write_text(text)
    spec = spec_from_file_location(f"fault_{path.stem}", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Solver._module_filename = str(path)  # as benchopt does
    return module.Solver


def state(name: str, body: str) -> str:
    lines = ("\n" + " " * 8).join(body.split("; "))
    return STATE.format(name=name, body=lines)


def estimate(name: str, body: str, deploy: str = "return x") -> str:
    return ESTIMATE.format(name=name, body=body, deploy=deploy)


@cache
def study() -> SimpleNamespace:
    """The task, and what is known of it."""
    torch.set_num_threads(1)
    cost.TIMING_BUDGET = 0.01
    # the meters of memory take a second each time, and say nothing here
    cost.memory.live_memory = lambda call: float(call() is None)
    cost.memory.device_memory = lambda call, device: float(call() is None)
    exact = make_task(
        train=simulated(number=2, size=8, seed=0),
        test=simulated(number=2, size=8, seed=1),
        degradation="denoising(sigma=0.1)",
        lower="wavelet_l1(wavelet='haar',levels=1,ridge=0.1)",
        probe_size=2,
        seed=0,
    )
    task = exact.to(device=torch.device("cpu"), dtype=torch.float32)
    return SimpleNamespace(task=task, truth=Truth(exact))


def rows_of(
    solver_class: type, folder: Path, *, steps: int = 1, apart: bool = False, limit: float | None
) -> list[dict]:
    """The rows of a run; ``apart`` in a process of its own."""
    known = study()
    rows = Rows(known.truth, known.task)
    solver = solver_class.get_instance(steps=steps, evaluate_every=1)
    solver.set_objective(known.task.learning, rows, Course(folder / "kept", "one", known.truth))
    seen = []

    def callback() -> bool:
        seen.append(solver.get_result()["row"])
        return True

    callback.stopping_criterion = SimpleNamespace(timeout=limit)
    with mock.patch.dict(os.environ, {PROCESSES: "1" if apart else "0"}):
        solver.run(callback)
    return seen


def plain(rows: list[dict]) -> str:
    """The columns that must be the same each time."""
    listed = [{k: v.tolist() if hasattr(v, "tolist") else v for k, v in r.items()} for r in rows]
    return repr([[(k, v) for k, v in r.items() if must_repeat(f"objective_{k}")] for r in listed])


@cache
def without_faults() -> str:
    """The rows of a good method before any faulty one has run."""
    with tempfile.TemporaryDirectory() as folder:
        return good(Path(folder))


def good(folder: Path) -> str:
    text = state("Good", GOOD)
    return plain(rows_of(method(folder, "Good", text), folder, limit=None))


def otherwise(
    folder: Path,
    *,
    text: Callable[[str], str],
    name: str,
    status: str,
    said: str,
    left: str,
    apart: bool,
    limit: float | None,
) -> str:
    """What a method with a fault ended in, other than is promised; "" where it did as promised."""
    expected = without_faults()
    before = {setting.name: setting.get() for setting in EVERYTHING}
    files = set(Path.cwd().iterdir())
    faulty = method(folder, name, text(name))
    last = rows_of(faulty, folder, apart=apart, limit=limit)[-1]
    wrong = []
    if last["status"] != status or said not in last["message"]:
        wrong.append(f"{last['status']}: {last['message']}")
    if left not in last["left_behind"]:
        wrong.append(f"left behind: {last['left_behind'] or 'nothing'}")
    now = {setting.name: setting.get() for setting in EVERYTHING}
    wrong += [f"{n} is not what it was" for n in before if now[n] != before[n]]
    if set(Path.cwd().iterdir()) != files:
        wrong.append("files are left in the working directory")
    if good(folder) != expected:
        wrong.append("the rows of the method after it are others")
    return "; ".join(wrong)


def fault(
    kind: str,
    name: str,
    how: str,
    *,
    status: str = "error",
    said: str = "",
    left: str = "",
    apart: bool = False,
    limit: float | None = None,
    text: Callable[[str, str], str] = state,
) -> Fault:
    promised = f"a row `{status}`" + (f" that says “{said}”" if said else "")
    promised = f"put back; `left_behind` names “{left}”" if left else promised
    options = {"status": status, "said": said, "left": left, "apart": apart, "limit": limit}
    tried = partial(
        otherwise, name=name.title().replace(" ", "-"), text=lambda n: text(n, how), **options
    )
    return Fault(kind, name, how, promised, tried)


def left(name: str, how: str, said: str) -> Fault:
    """A change of the process: the method's own rows are "ok"."""
    return fault("Left behind", name, how, status="ok", left=said)


changed = partial(fault, "Changed in place")
returned = partial(fault, "Returned")
estimated = partial(fault, "Returned", text=estimate)
ends = partial(fault, "Ends", apart=True)
raises = partial(fault, "Ends")


def deployed(name: str, how: str, **expected: str) -> Fault:
    text = lambda n, how: estimate(n, "return found", how)  # noqa: E731
    return fault("Returned", name, how, text=text, **expected)


_LEARNED = "next(p for p in T.parameters() if p.requires_grad)"
_CONSTANT = "next(b for n, b in T.named_buffers() if n != 'y')"

FAULTS = [
    # --- what is left behind
    left("grad mode off", "torch.set_grad_enabled(False); return y", "grad mode"),
    left(
        "inference mode kept",
        "self.kept = torch.inference_mode(); self.kept.__enter__(); return y",
        "inference mode",
    ),
    left("float64 by default", "torch.set_default_dtype(torch.float64); return y", "default dtype"),
    left("float16 by default", "torch.set_default_dtype(torch.float16); return y", "default dtype"),
    left("a default device", "torch.set_default_device('meta'); return y", "default device"),
    left(
        "a device entered", "torch.device('meta').__enter__(); return y", "modes of torch functions"
    ),
    left("more threads", "torch.set_num_threads(3); return y", "number of threads"),
    left(
        "hooks after modules",
        "import torch.nn.modules.module as m; "
        "m.register_module_forward_hook(lambda _, i, o: o * 1.001 if torch.is_tensor(o) else o); "
        "return y",
        "hooks on all modules",
    ),
    left(
        "hooks before modules",
        "import torch.nn.modules.module as m; m.register_module_forward_pre_hook(lambda _, i: None)"
        "; return y",
        "hooks on all modules",
    ),
    left(
        "deterministic algorithms",
        "torch.use_deterministic_algorithms(True); return y",
        "deterministic algorithms",
    ),
    left("products rounded", "torch.set_float32_matmul_precision('medium'); return y", "backends"),
    left("no oneDNN", "torch.backends.mkldnn.enabled = False; return y", "backends"),
    left("autocast", "torch.set_autocast_enabled('cpu', True); return y", "autocast"),
    left("anomalies", "torch.autograd.set_detect_anomaly(True); return y", "anomaly detection"),
    left("small numbers", "torch.set_flush_denormal(True); return y", "small numbers as zeros"),
    left(
        "an environment variable",
        "import os; os.environ['LEFT'] = '1'; return y",
        "environment variables",
    ),
    left("no environment", "import os; os.environ.clear(); return y", "environment variables"),
    left("another folder", "import os; os.chdir('/'); return y", "working directory"),
    left(
        "a folder that is gone",
        "import os, tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d); return y",
        "working directory",
    ),
    left(
        "warnings as errors",
        "import warnings; warnings.simplefilter('error'); return y",
        "filters of warnings",
    ),
    left(
        "SIGTERM ignored",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); return y",
        "signal handlers",
    ),
    left("an alarm", "import signal; signal.alarm(1000); return y", "an alarm"),
    left("umask", "import os; os.umask(0o777); return y", "umask"),
    left("recursion limit", "import sys; sys.setrecursionlimit(5000); return y", "recursion limit"),
    left("the import path", "import sys; sys.path.insert(0, '/nowhere'); return y", "sys.path"),
    left("the import path emptied", "import sys; sys.path.clear(); return y", "sys.path"),
    left("stdout gone", "import sys; sys.stdout = None; return y", "standard streams"),
    left(
        "stderr in a file",
        "import sys, os; sys.stderr = open(os.devnull, 'w'); return y",
        "standard streams",
    ),
    left("no collection of garbage", "import gc; gc.disable(); return y", "garbage collection"),
    left("rare collections", "import gc; gc.set_threshold(10**6); return y", "garbage collection"),
    left(
        "numpy raises", "import numpy as np; np.seterr(all='raise'); return y", "numpy's handling"
    ),
    left(
        "a process",
        "import subprocess; subprocess.Popen(['sleep', '1000']); return y",
        "a process",
    ),
    left(
        "a fork",
        "import os, time; pid = os.fork(); pid or time.sleep(1e4); return y",
        "a process",
    ),
    left(
        "a thread",
        "import threading; threading.Thread(target=threading.Event().wait, args=(30,), "
        "daemon=True).start(); return y",
        "a thread",
    ),
    left("a fork that goes on as the run does", "import os; os.fork(); return y", ""),
    fault(
        "Left behind",
        "generators",
        "torch.manual_seed(7); import random; random.seed(7); return y",
        status="ok",
    ),
    # --- what is changed in place
    changed("test images", "self.task.test.truth.mul_(0.5); return y", said="no attribute 'test'"),
    changed(
        "the images it is judged by",
        "self.evaluate.task.test.truth.data.mul_(0.5); return y",
        said="the images of the test set",
        apart=True,
    ),
    changed(
        "training images", "self.task.train.truth.mul_(0.5); return y", said="of the training set"
    ),
    changed(
        "training images, unseen",
        "self.task.train.truth.data.mul_(0.5); return y",
        said="of the training set",
    ),
    changed(
        "training images, by NumPy",
        "a = self.task.train.truth.numpy(); a *= 0.5; return y",
        said="of the training set",
    ),
    changed(
        "what was observed of them",
        "self.task.train.observation.zero_(); return y",
        said="the observations of the training set",
    ),
    changed("the probe", "self.task.probe.truth.add_(1); return y", said="the images of the probe"),
    changed("its observations", "T.y.mul_(0.5); return y", said="observations"),
    changed(
        "θ",
        f"with torch.no_grad(): {_LEARNED}.add_(1); return y",
        said="θ (log_weights)",
    ),
    changed("θ, unseen", f"{_LEARNED}.data.add_(1); return y", said="θ"),
    changed(
        "the first θ",
        "torch.nn.init.zeros_(self.task.lower.log_weights); return y",
        said="θ (log_weights)",
    ),
    changed("the operator", f"{_CONSTANT}.mul_(0.5); return y", said="the operator ("),
    # --- what is returned
    returned("nothing", "return None", said="equilibrium returned None"),
    returned("a tuple", "return y, x", said="equilibrium returned a tuple"),
    returned("an array", "return y.detach().numpy()", said="equilibrium returned a ndarray"),
    returned("one of n", "return y[:1]", said="a tensor (1, 3, 8, 8)"),
    returned("a number", "return y.mean()", said="a tensor ()"),
    returned("an axis more", "return y[None]", said="a tensor (1, 2, 3, 8, 8)"),
    returned("flat", "return y.flatten(1)", said="a tensor (2, 192)"),
    returned("float64", "return y.double()", said="in float64"),
    returned("float16", "return y.half()", said="in float16"),
    returned("complex numbers", "return y.to(torch.complex64)", said="in complex64"),
    returned("another device", "return y.to('meta')", said="on meta"),
    returned("no graph", "return y.detach()", said="without a graph"),
    returned("made without gradients", "with torch.no_grad(): y = T(x); return y", said="graph"),
    returned("another graph", "return x.clone().requires_grad_() * 1.0", said="does not reach θ"),
    returned("NaN", "return y * float('nan')", status="diverged", said="not finite"),
    returned("infinity", "return y + float('inf')", status="diverged", said="not finite"),
    estimated("no estimate", "return None", said="hypergradient returned None"),
    estimated("a pair", "return found.loss, found.gradient", said="expected a Hypergradient"),
    estimated("no gradient", "return replace(found, gradient=())", said="0 gradients, expected 1"),
    estimated(
        "a gradient too many",
        "return replace(found, gradient=found.gradient * 2)",
        said="2 gradients, expected 1",
    ),
    estimated(
        "None as gradient", "return replace(found, gradient=(None,))", said="log_weights None"
    ),
    estimated(
        "a gradient of another shape",
        "return replace(found, gradient=(found.gradient[0].sum(),))",
        said="a tensor ()",
    ),
    estimated(
        "a gradient in float64",
        "return replace(found, gradient=(found.gradient[0].double(),))",
        said="in float64",
    ),
    estimated(
        "a gradient of NaN",
        "return replace(found, gradient=(found.gradient[0] * float('nan'),))",
        status="diverged",
        said="gradient is not finite",
    ),
    estimated(
        "a loss for each", "return replace(found, loss=found.loss.expand(2))", said="its loss"
    ),
    estimated("a loss of Python", "return replace(found, loss=1.0)", said="its loss a float"),
    estimated("one state", "return replace(found, state=found.state[:1])", said="as its state"),
    deployed("no reconstruction", "return None", said="deploy returned None"),
    deployed("one reconstruction", "return x[:1]", said="deploy returned a tensor (1, 3, 8, 8)"),
    deployed("one in float64", "return x.double()", said="in float64"),
    deployed("one of NaN", "return x * float('nan')", status="diverged", said="not finite"),
    # --- how it ends
    raises("an exception", "raise RuntimeError('no')", said="RuntimeError: no"),
    raises("an exception of nothing", "raise Exception", said="Exception ("),
    raises("SystemExit", "raise SystemExit(3)", said="SystemExit: 3"),
    raises("exit", "import sys; sys.exit()", said="SystemExit"),
    raises("GeneratorExit", "raise GeneratorExit", said="GeneratorExit"),
    raises("StopIteration", "raise StopIteration", said="StopIteration"),
    raises("recursion", "f = lambda: f(); f()", said="RecursionError"),
    raises("out of memory", "torch.empty(2**50)", status="oom", said="memory"),
    raises("an assertion", "assert False", said="AssertionError"),
    ends("KeyboardInterrupt", "raise KeyboardInterrupt", said="KeyboardInterrupt"),
    ends("abort", "import os; os.abort()", said="SIGABRT"),
    ends("segmentation fault", "import ctypes; ctypes.string_at(0)", said="SIGSEGV"),
    ends("exit at once", "import os; os._exit(0)", said="exit code 0"),
    ends("exit with a code", "import os; os._exit(7)", said="exit code 7"),
    ends("killed", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", said="SIGKILL"),
    ends(
        "an endless loop",
        "exec('while True: pass')",
        status="timeout",
        said="took longer",
        limit=3.0,
    ),
    ends(
        "a long call",
        "import time; time.sleep(1e5)",
        status="timeout",
        said="took longer",
        limit=3.0,
    ),
    ends(
        "SIGTERM ignored, and a loop",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); exec('while True: pass')",
        status="timeout",
        said="took longer",
        limit=3.0,
    ),
    ends(
        "a thread that lives on",
        "from threading import Event, Thread; Thread(target=Event().wait).start(); return y",
        status="ok",
        left="a thread",
    ),
    ends(
        "a fork that lives on",
        "import os, time; pid = os.fork(); pid or time.sleep(1e5); return y",
        status="ok",
        left="a process",
    ),
    ends("a fork that goes on as the run does", "import os; os.fork(); return y", status="ok"),
    ends(
        "a fork in a session of its own",
        "import os, time; pid = os.fork(); pid or (os.setsid(), time.sleep(1e5)); return y",
        status="ok",
        left="a process",
    ),
]
