"""The meters against graphs whose bytes and products can be counted by hand."""

from __future__ import annotations

import copy
import gc
import os
import sys
import time
import weakref
from functools import partial
from math import inf, isnan
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from benchmark.measure import device as device_module
from benchmark.measure import resident, timing
from benchmark.measure.counting import CountedLayer, CountedProblem
from benchmark.measure.curve import memory_curve, now
from benchmark.measure.device import (
    device_name,
    is_out_of_memory,
    resolve_device,
    synchronize,
    threads,
)
from benchmark.measure.memory import device_memory, live_memory
from benchmark.measure.timing import Timing, ratio, ratio_to_sum, seconds
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.running import memory_curve as memory_curve_module

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
MIB = 2**20
#: a float32 tensor of 1 MiB
ONE_MIB = torch.ones(2**18)


@pytest.fixture(autouse=True)
def _quick_collections():
    """The meters collect garbage each time: slow beside all that the test suite has imported."""
    gc.freeze()
    yield
    gc.unfreeze()


# Counts


@pytest.fixture
def layer() -> CountedLayer:
    """x ↦ tanh(W x), counted, with a W that requires gradients."""
    W = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return CountedLayer(lambda x: torch.tanh(W @ x))


X = torch.linspace(-1, 2, 4)


def counts(layer: CountedLayer) -> tuple[int, int]:
    return layer.layer_evals, layer.vjp_evals


def test_the_layer_itself_is_unchanged(layer):
    x = X.double().requires_grad_()
    W = torch.randn(4, 4, dtype=torch.float64)
    plain, counted = (lambda x: torch.tanh(W @ x)), CountedLayer(lambda x: torch.tanh(W @ x))
    assert torch.equal(counted(x), plain(x))
    assert torch.autograd.gradcheck(counted, x)


def test_each_repeated_product_counts(layer):
    x = X.clone().requires_grad_()
    image = layer(x)
    for _ in range(3):
        torch.autograd.grad(image, x, torch.ones(4), retain_graph=True)
    assert counts(layer) == (1, 3)


def test_backward_counts_every_use(layer):
    layer(layer(layer(X))).sum().backward()
    assert counts(layer) == (3, 3)


def test_a_truncated_backward_counts_only_what_it_passes(layer):
    with torch.no_grad():
        x = layer(layer(X))
    layer(x).sum().backward()
    assert counts(layer) == (3, 1)


def test_no_graph_no_product(layer):
    with torch.no_grad():
        assert not layer(X).requires_grad
    constant = CountedLayer(torch.sin)
    image = constant(X.clone())
    image.mul_(2)  # no graph, so the output may be changed
    assert not image.requires_grad
    assert counts(layer) == counts(constant) == (1, 0)


def test_functional_vjp(layer):
    image, vjp = torch.func.vjp(layer, X)
    vjp(torch.ones_like(image))
    (cotangent,) = vjp(X)
    assert counts(layer) == (1, 2)
    assert torch.allclose(cotangent, torch.func.vjp(layer.T, X)[1](X)[0])


def test_a_vectorised_product_counts_once(layer):
    _, vjp = torch.func.vjp(layer, X)
    (jacobian,) = torch.vmap(vjp)(torch.eye(4))
    assert counts(layer) == (1, 1)
    assert torch.allclose(jacobian, torch.func.jacrev(layer.T)(X))
    torch.vmap(lambda x: torch.func.vjp(layer, x)[1](X)[0])(torch.ones(3, 4))
    assert counts(layer) == (2, 2)
    torch.func.grad(lambda x: torch.vmap(layer)(x).sum())(torch.ones(3, 4))
    assert counts(layer) == (3, 3)


def test_forward_mode_counts_layers_only(layer):
    _, tangent = torch.func.jvp(layer, (X,), (X,))
    assert counts(layer) == (1, 0)
    assert torch.allclose(tangent, torch.func.jvp(layer.T, (X,), (X,))[1])


def test_checkpointing_counts_the_recomputation(layer):
    checkpoint(layer, X.clone().requires_grad_(), use_reentrant=False).sum().backward()
    assert counts(layer) == (2, 1)


def test_an_application_that_raises_counts():
    def broken(x):
        raise ZeroDivisionError

    layer = CountedLayer(broken)
    with pytest.raises(ZeroDivisionError):
        layer(X)
    assert counts(layer) == (1, 0)


class Shrink(LowerLevelProblem):
    """x ↦ θx + y."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def init(self, y):
        return torch.zeros_like(y)

    def step(self, x, y):
        return self.factor * x + y

    def reconstruct(self, x):
        return 3 * x


def test_a_counted_problem_is_the_problem_with_counts():
    lower = Shrink()
    counted = CountedProblem(lower)
    assert list(counted.theta().values()) == [lower.factor]
    T, x = counted.layer(X), counted.init(X)
    assert torch.equal(x, torch.zeros(4))
    x = T(T(x))
    assert torch.equal(x, 1.5 * X)
    counted.reconstruct(x).sum().backward()
    assert (counted.layer_evals, counted.vjp_evals) == (2, 2)
    # d/dθ of 3 Σ (θX + X)
    assert torch.allclose(lower.factor.grad, 3 * X.sum())


def test_a_copy_of_a_counted_problem_counts_for_itself():
    counted = CountedProblem(Shrink())
    twin = copy.deepcopy(counted)
    with torch.no_grad():
        twin.lower.factor.fill_(2)
        assert torch.equal(twin.step(X, X), 3 * X)
    assert (counted.layer_evals, twin.layer_evals) == (0, 1)


# Time


class FakeClock:
    """Wall and processor clocks that only the timed calls advance."""

    def __init__(self, monkeypatch) -> None:
        self.wall = self.busy = 0.0
        monkeypatch.setattr(timing, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(timing, "process_time", lambda: self.busy)
        monkeypatch.setattr(timing, "threads", lambda: 1)
        for name in ("collect", "freeze", "unfreeze"):
            monkeypatch.setattr(timing.gc, name, lambda: None)
        self.log: list[str] = []

    def call(self, name: str, *durations: float, load: float = 1.0):
        """A call that takes the next of ``durations`` (the last for ever), ``load`` of it busy."""
        remaining = list(durations)

        def run() -> None:
            self.log.append(name)
            wall = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            self.wall += wall
            self.busy += load * wall

        return run


@pytest.fixture
def clock(monkeypatch) -> FakeClock:
    return FakeClock(monkeypatch)


def test_a_warm_up_then_rounds_of_every_call_in_shuffled_order(clock):
    calls = {name: clock.call(name, 1.0) for name in "abcd"}
    seconds(calls, CPU, rounds=20)
    assert clock.log[:4] == list("abcd")
    rounds = [tuple(clock.log[i : i + 4]) for i in range(4, len(clock.log), 4)]
    assert len(rounds) == 20
    assert all(sorted(order) == list("abcd") for order in rounds)
    assert len(set(rounds)) > 5
    first = clock.log.copy()
    clock.log.clear()
    seconds(calls, CPU, rounds=20)
    assert clock.log == first


def test_median_and_interquartile_range_without_the_warm_up(clock):
    timing = seconds({"a": clock.call("a", 99, 5, 1, 4, 2, 3)}, CPU, rounds=5)["a"]
    assert timing == Timing(3.0, 2.0, 5, False, (5.0, 1.0, 4.0, 2.0, 3.0))


def test_ratio_is_taken_within_each_round(clock):
    # a machine that slows down threefold leaves the ratio alone
    pair = {"a": clock.call("a", 2, 2, 4, 6), "b": clock.call("b", 1, 1, 2, 3)}
    timings = seconds(pair, CPU, rounds=3)
    assert ratio(timings["a"], timings["b"]) == 2.0
    assert timings["a"].seconds == 4.0
    with pytest.raises(ValueError, match="shorter"):
        ratio(timings["a"], Timing(1.0, 0.0, 1, None, (1.0,)))


def test_ratio_to_a_sum_is_taken_within_each_round():
    whole, one, other = (
        Timing(samples[0], 0.0, 3, False, samples)
        for samples in ((10.0, 20.0, 90.0), (1.0, 2.0, 3.0), (4.0, 8.0, 12.0))
    )
    assert ratio_to_sum(whole, (6, one), (1, other)) == 1.0
    assert ratio_to_sum(whole, (0, one), (5, other)) == 0.5


@pytest.mark.parametrize(
    "budget, expected", [(inf, 7), (100, 7), (9, 4), (8, 3), (0, 1)], ids=lambda v: str(v)
)
def test_no_round_begins_once_the_budget_is_spent(clock, budget, expected):
    # the warm-up and each round take 2 s
    calls = {"a": clock.call("a", 1.5), "b": clock.call("b", 0.5)}
    timings = seconds(calls, CPU, rounds=7, budget=budget)
    assert [t.rounds for t in timings.values()] == [expected, expected]
    assert isnan(timings["a"].spread) == (expected == 1)


def test_contention_is_told_by_the_processor_time(clock):
    calls = {"quiet": clock.call("quiet", 1, load=0.96), "busy": clock.call("busy", 1, load=0.9)}
    timings = seconds(calls, CPU)
    assert (timings["quiet"].contended, timings["busy"].contended) == (False, True)


def test_contention_is_unknown_with_several_threads(clock, monkeypatch):
    monkeypatch.setattr(timing, "threads", lambda: 2)
    assert seconds({"a": clock.call("a", 1, load=0.1)}, CPU)["a"].contended is None


def test_garbage_is_collected_before_the_clock_starts(clock, monkeypatch):
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, clock.call(name, 10.0))
    timing = seconds({"a": clock.call("a", 1.0)}, CPU, rounds=2)["a"]
    assert clock.log == ["a", "freeze", "collect", "a", "collect", "a", "unfreeze"]
    assert timing.samples == (1.0, 1.0)
    clock.log.clear()
    with pytest.raises(StopIteration):
        seconds({"fails after the warm-up": iter([0]).__next__}, CPU)
    assert clock.log == ["freeze", "collect", "unfreeze"]


def test_cuda_is_synchronised_on_both_sides(clock, monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: clock.call("sync", 0.5)())
    timing = seconds({"a": clock.call("a", 1.0)}, CUDA, rounds=1)["a"]
    assert clock.log == ["a", "sync", "a", "sync"]
    assert timing.samples == (1.5,)  # waiting for the work counts, for what came before does not
    assert timing.contended is None


def test_the_real_clock_ticks_in_seconds():
    timing = seconds({"a": lambda: time.sleep(0.02)}, CPU, rounds=2)["a"]
    assert 0.02 <= timing.seconds < 2


def test_rounds_must_be_positive_and_errors_pass():
    with pytest.raises(ValueError, match="rounds"):
        seconds({}, CPU, rounds=0)
    with pytest.raises(ZeroDivisionError):
        seconds({"a": lambda: 1 / 0}, CPU)


# Live tensor bytes


def unrolled(steps: int, x: torch.Tensor = ONE_MIB):
    """A call that differentiates through ``steps`` exponentials, each saving its output."""

    def call() -> None:
        z = x.clone().requires_grad_()
        for _ in range(steps):
            z = z.exp()
        z.backward(x)

    return call


@pytest.mark.parametrize("steps", [1, 2, 10, 50])
def test_unrolling_holds_one_state_per_step(steps):
    # the clone, the saved states, and the gradient of the last; from the second on a gradient
    # comes in as another goes out, and the last state is held by its name
    expected = 1 + steps + (1 if steps == 1 else 2)
    assert live_memory(unrolled(steps)) == expected


def test_no_grad_is_constant():
    @torch.no_grad()
    def call(steps):
        z = ONE_MIB.clone()
        for _ in range(steps):
            z = z.exp()

    assert {live_memory(partial(call, steps)) for steps in (1, 10, 50)} == {2.0}


@pytest.mark.parametrize(
    "call, expected",
    [
        (lambda: ONE_MIB.view(2, -1).T[0], 0),
        (lambda: ONE_MIB.clone().view(2, -1).T[0], 1),
        (lambda: ONE_MIB.clone().mul_(2).add_(1), 1),
        (lambda: ONE_MIB + ONE_MIB, 1),
        (lambda: (ONE_MIB + 1) + 1, 2),
        (lambda: ((ONE_MIB + 1) + 1) + 1, 2),
        (lambda: ONE_MIB.double(), 2),
        (lambda: [ONE_MIB + k for k in range(5)], 5),
        (lambda: [ONE_MIB + 1 + k for k in range(5)], 6),
        (lambda: torch.empty(3, 2**18), 3),
        (lambda: torch.tensor([0.0] * 2**18), 1),
        (lambda: ONE_MIB.view(512, 512).unfold(0, 2, 1), 0),
        (lambda: torch.ones(1).expand(2**18), 4 / MIB),
        (lambda: ONE_MIB.view(512, 512).sort(), 3),  # values, and indices in int64
        (lambda: None, 0),
    ],
)
def test_bytes_of_small_graphs(call, expected):
    assert live_memory(call) == expected


def test_backward_alone_is_seen():
    x = ONE_MIB.clone().requires_grad_()
    z = x.exp()
    # z existed before; the product with it is new, and becomes x's gradient
    assert live_memory(lambda: z.backward(ONE_MIB)) == 1


def test_what_is_returned_and_what_is_kept_dies_or_lives():
    kept: list[torch.Tensor] = []

    def call() -> torch.Tensor:
        kept.append(ONE_MIB + 1)
        result = ONE_MIB + 2
        watched.append(weakref.ref(result))
        return result

    watched: list[weakref.ref] = []
    assert live_memory(call) == 2
    assert watched[0]() is None
    assert torch.equal(kept.pop(), ONE_MIB + 1)  # and may die after the meter is gone


def test_nothing_is_left_behind():
    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    call = unrolled(5)
    call()
    before = tensors()
    assert live_memory(call) == live_memory(call)
    assert tensors() == before
    with pytest.raises(ZeroDivisionError):
        live_memory(lambda: ONE_MIB.exp() / 0 + 1 / 0)
    assert live_memory(call) == 8


def test_fake_tensors_are_counted_without_computing():
    with FakeTensorMode():
        fake = torch.ones(2**18)
        assert live_memory(unrolled(10, fake)) == live_memory(unrolled(10, torch.ones(2**18)))
        huge = torch.empty(2**30, 2**10)
        assert live_memory(lambda: huge + 1) == 2**22
    assert live_memory(unrolled(10)) == 13


def test_the_count_wrapper_adds_no_memory():
    def call(T) -> None:
        z = ONE_MIB.clone().requires_grad_()
        for _ in range(4):
            z = T(z)
        z.backward(ONE_MIB)

    assert live_memory(partial(call, CountedLayer(torch.exp))) == live_memory(
        partial(call, torch.exp)
    )


# What the system shows


def hold(mib: int, block: int = MIB):
    """A call that fills ``mib`` MiB in tensors of ``block`` bytes and lets them go."""

    def call() -> None:
        held = [torch.ones(block // 4) for _ in range(mib * MIB // block)]
        held.clear()

    return call


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux_only
@pytest.mark.parametrize("block", [2**14, 2**17, 2**20, 2**23])
def test_resident_memory_rises_by_what_is_held(block):
    device_memory(hold(8), CPU)
    # a heap with room to reuse, at its end and between what is still in use
    held = [torch.ones(block // 4) for _ in range(64 * MIB // block)]
    del held[::2]
    hold(50, block)()
    # the ends of a gap too small for a mapping of its own share their pages with its neighbours
    tolerance = 0.3 if block < 2**16 else 0.1
    for mib in (24, 56):
        figures = [device_memory(hold(mib, block), CPU) for _ in range(2)]
        assert figures == pytest.approx([mib] * 2, rel=tolerance)


@linux_only
def test_resident_memory_agrees_with_live_bytes_in_a_process_that_has_worked():
    generator = torch.Generator().manual_seed(0)
    keep = []
    for size in torch.randint(2**12, 2**19, (60,), generator=generator).tolist():
        keep.append(torch.ones(size))
        unrolled(3, torch.ones(size))()
        if len(keep) > 10:
            del keep[::3]
    for steps in (30, 60):
        call = unrolled(steps)
        assert device_memory(call, CPU) == pytest.approx(live_memory(call), rel=0.05)


@linux_only
def test_the_heap_is_given_back():
    def work() -> float:
        held = [torch.ones(2**18) for _ in range(80)]
        del held[::2]
        device_memory(hold(8), CPU)
        return resident._resident("VmSize")

    before = work()
    assert max(work() for _ in range(5)) < before + 60


@linux_only
def test_a_failing_call_leaves_the_meter_working():
    with pytest.raises(ZeroDivisionError):
        device_memory(lambda: 1 / 0, CPU)
    assert device_memory(hold(40), CPU) == pytest.approx(40, rel=0.1)


@linux_only
def test_the_allocator_of_this_process_stays_as_it_was():
    """A block of 128 KiB comes from the heap or a mapping, as it did before."""
    libc = resident.glibc()
    if libc is None:
        pytest.skip("glibc alone is set")

    def mapped() -> int:
        before = libc.mallinfo2().hblks
        blocks = [libc.malloc(96 * 1024) for _ in range(20)]
        after = libc.mallinfo2().hblks
        for block in blocks:
            libc.free(block)
        return after - before

    hold(8)()
    before = mapped()
    device_memory(hold(8), CPU)
    assert mapped() == before


@linux_only
def test_a_call_that_hangs_in_the_child_ends_by_the_limit():
    start = time.monotonic()
    assert resident.rise_in_child(lambda: time.sleep(60), limit=0.5) is None
    assert time.monotonic() - start < 10


@linux_only
def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(resident.ctypes, "CDLL", lambda name: SimpleNamespace())
    assert device_memory(hold(10), CPU) >= 0


def test_without_proc_memory_is_sampled(monkeypatch, tmp_path):
    monkeypatch.setattr(resident, "PROC", tmp_path)
    calls = []

    def call() -> None:
        calls.append(1)
        block = bytearray(os.urandom(1)) * (60 * MIB)
        time.sleep(0.2)
        del block

    assert device_memory(call, CPU) == pytest.approx(60, abs=10)
    assert calls == [1]
    device_memory(partial(calls.append, 2), CPU)
    assert calls == [1, 2]
    with pytest.raises(ZeroDivisionError):
        device_memory(lambda: 1 / 0, CPU)


def test_cuda_memory_is_the_allocators_peak_over_what_was_there(monkeypatch):
    log = []
    answers = {"memory_allocated": 5 * MIB, "max_memory_allocated": 12 * MIB}
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats", *answers):

        def stand_in(*args, name=name):
            log.append((name, *args))
            return answers.get(name)

        monkeypatch.setattr(torch.cuda, name, stand_in)
    assert device_memory(lambda: log.append("call"), CUDA) == 7
    assert log == [
        ("synchronize", CUDA),
        ("empty_cache",),
        ("reset_peak_memory_stats", CUDA),
        ("memory_allocated", CUDA),
        "call",
        ("synchronize", CUDA),
        ("max_memory_allocated", CUDA),
    ]


CHILD = """
import time
time.sleep(0.3)
block = bytearray(b"x") * (200 << 20)
time.sleep(0.3)
del block
time.sleep(0.3)
"""


def test_memory_curve_follows_another_process():
    start = now()
    curve = [(moment - start, mib) for moment, mib in memory_curve([sys.executable, "-c", CHILD])]
    moments, mib = zip(*curve, strict=True)
    assert len(curve) > 10
    assert list(moments) == sorted(moments)
    assert 0 <= moments[0] < moments[-1]
    peak = mib.index(max(mib))
    assert mib[peak] - mib[0] == pytest.approx(200, abs=20)
    assert 0.3 < moments[peak] < moments[-1]
    assert mib[-2] < 100


def test_the_memory_curve_takes_the_solvers_of_a_configuration(tmp_path):
    """At the first of the values given, as benchopt reads them: alone, in lists, and in groups."""
    config = tmp_path / "config.yml"
    config.write_text(
        "solver:\n"
        "  - JFB:\n      tol: 0.001\n      equilibrium_solver: anderson\n"
        '  - DEQ:\n      "tol, adjoint_tol": [[0.1, 0.2], [0.3, 0.4]]\n      steps: [2, 3]\n'
        "  - Unrolling:\n"
    )
    assert memory_curve_module.configured(config) == {
        "JFB": {"tol": 0.001, "equilibrium_solver": "anderson"},
        "DEQ": {"tol": 0.1, "adjoint_tol": 0.2, "steps": 2},
        "Unrolling": {},
    }
    for text, said in (("solver: [DEQ]", "mappings"), ("{", "not YAML"), ("", "mappings")):
        config.write_text(text)
        with pytest.raises(ValueError, match=f"config.yml: .*{said}"):
            memory_curve_module.configured(config)


def test_memory_curve_hands_over_the_environment():
    script = "import os, sys; sys.exit(os.environ.get('GREETING') != 'hello')"
    memory_curve([sys.executable, "-c", script], env={**os.environ, "GREETING": "hello"})
    with pytest.raises(RuntimeError):
        memory_curve([sys.executable, "-c", script])


def test_memory_curve_says_why_a_command_failed():
    script = "import sys; print('x' * 10**6, file=sys.stderr); sys.exit('no such layer')"
    with pytest.raises(RuntimeError, match=r"-c.*ended with 1: (?s:.*)no such layer$") as caught:
        memory_curve([sys.executable, "-c", script])
    assert len(str(caught.value)) < 3000


# Errors and names


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)
    with pytest.raises(MemoryError) as caught:
        bytearray(2**60)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error, expected",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


def test_synchronize_only_touches_cuda(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    synchronize(CPU)
    synchronize(torch.device("meta"))
    assert waited == []
    synchronize(CUDA)
    assert waited == [CUDA]


@pytest.mark.parametrize("present, automatic", [(2, "cuda"), (0, "cpu")])
def test_resolve_device(monkeypatch, present, automatic):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: present)
    assert resolve_device("auto") == torch.device(automatic)
    assert resolve_device("cpu") == CPU
    if present:
        assert resolve_device("cuda:0") == CUDA
    with pytest.raises(ValueError, match=f"finds {present} CUDA devices"):
        resolve_device("cuda:2")
    for name in ("abacus", "meta", ""):
        with pytest.raises(ValueError, match="unknown device"):
            resolve_device(name)


def test_names(monkeypatch, tmp_path):
    assert threads() == torch.get_num_threads()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert device_name(CUDA) == "GPU 0"
    monkeypatch.setattr(device_module, "PROC", tmp_path)
    monkeypatch.setattr(device_module.platform, "processor", lambda: "")
    monkeypatch.setattr(device_module.platform, "machine", lambda: "abacus")
    assert device_name(CPU) == "abacus"
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Abacus 3000 \nmodel name\t: b")
    assert device_name(CPU) == "Abacus 3000"


def test_the_derivative_of_a_backward_pass_counts_as_a_layer():
    layer = CountedLayer(torch.sin)
    x = torch.ones(3, requires_grad=True)
    u = torch.zeros(3, requires_grad=True)
    (product,) = torch.autograd.grad(layer(x), x, u, create_graph=True)
    for _ in range(2):
        (tangent,) = torch.autograd.grad(product, u, torch.ones(3), retain_graph=True)
    assert torch.allclose(tangent, x.cos())
    assert (layer.layer_evals, layer.vjp_evals) == (3, 1)
