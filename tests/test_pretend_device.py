"""The pretend device: the CPU's results on all that the benchmark uses, and mixtures caught."""

from __future__ import annotations

import copy
import weakref

import deepinv as dinv
import pytest
import torch
from deepinv.physics import Blur, BlurFFT, Denoising, GaussianNoise, Inpainting
from pretend_device import (
    CPU,
    DEVICE,
    MixedDevices,
    PretendTensor,
    pretend_device,
    to_pretend,
    unwrap,
)
from torch import nn
from torchwavelets import DWT2D, IDWT2D

from benchmark.measure.counting import CountedLayer
from benchmark.measure.memory import device_memory, live_memory

SHAPE = (2, 3, 16, 16)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def image(request) -> torch.Tensor:
    """A plain CPU image batch in either precision."""
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(0), dtype=request.param)


@pytest.fixture
def device():
    """The pretend device, active during the test."""
    with pretend_device() as device:
        yield device


def same(pretend: torch.Tensor, plain: torch.Tensor) -> bool:
    """Whether ``pretend`` is on the device and has the values and the type of ``plain``."""
    values = unwrap(pretend)
    return pretend.dtype == plain.dtype and torch.equal(values, plain.detach())


def test_a_moved_tensor_reports_the_device_and_keeps_its_values(image, device):
    moved = image.to(device)
    assert isinstance(moved, PretendTensor)
    assert moved.device == device == DEVICE
    assert (moved.shape, moved.dtype, moved.stride()) == (image.shape, image.dtype, image.stride())
    assert same(moved, image)
    assert moved.to(device) is moved
    for back in (moved.cpu(), moved.to("cpu")):
        assert type(back) is torch.Tensor
        assert torch.equal(back, image)


def test_unwrap_refuses_a_plain_tensor(image):
    with pytest.raises(TypeError, match="cpu"):
        unwrap(image)


def test_python_values(image):
    moved = to_pretend(image)
    assert moved.sum().item() == image.sum().item()
    assert moved[0, 0].tolist() == image[0, 0].tolist()
    assert float(moved.mean()) == float(image.mean())
    assert bool((moved >= 0).all()) and not bool((moved > 2).any())
    assert torch.equal(moved, to_pretend(image))


@pytest.mark.parametrize(
    "make",
    [
        lambda device: torch.zeros(2, 3, device=device),
        lambda device: torch.full((2,), 7.0, device=device),
        lambda device: torch.arange(4, device=device),
        lambda device: torch.eye(3, device=device),
        lambda device: torch.linspace(0, 1, 5, device=device),
        lambda device: torch.tensor([1.0, 2.0], device=device),
        lambda device: torch.as_tensor([[1, 2]], device=device),
        lambda device: torch.zeros_like(torch.ones(3), device=device),
        lambda device: torch.ones(3).to(device).new_full((2,), 4),
    ],
)
def test_factories(make, device):
    assert same(make(device), make("cpu"))


def test_factories_follow_the_default_dtype(device):
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.zeros(2, device=device).dtype == torch.float64
        assert torch.rand(2, device=device).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, y: torch.linalg.solve(x, y),
        lambda x, y: torch.linalg.lstsq(x, y).solution,
        lambda x, y: torch.linalg.qr(x).R,
        lambda x, y: torch.linalg.solve_triangular(x, y, upper=True),
        lambda x, y: torch.linalg.vector_norm(x, dim=(-2, -1)),
        lambda x, y: torch.fft.irfft2(torch.fft.rfft2(x) * torch.fft.rfft2(y).conj()),
        lambda x, y: torch.where(x > y, x, 0.5),
        lambda x, y: x[x > 0.5],
        lambda x, y: x[:, torch.arange(2, device=x.device)],
        lambda x, y: torch.stack([x.sum(), y.mean()]),
        lambda x, y: x.clone().add_(y).clamp_(0, 1),
        lambda x, y: x.clone().index_fill_(1, torch.tensor([0], device=x.device), 3.0),
        lambda x, y: x * torch.tensor(2.0),
        lambda x, y: nn.functional.pad(x, (1, 1, 1, 1), mode="circular"),
        lambda x, y: nn.functional.mse_loss(x, y),
        lambda x, y: dinv.metric.PSNR()(x, y),
    ],
)
def test_operations_give_the_cpu_result(operation, image, device):
    other = image.flip(0)
    assert same(operation(image.to(device), other.to(device)), operation(image, other))


def test_writing_through_a_view_changes_its_base(image, device):
    moved, plain = image.to(device), image.clone()
    for x in (moved, plain):
        x[:, 0] = 1
        x.view(-1)[-1] = 5
        x[x > 4] = 0
    assert same(moved, plain)
    assert moved.view(-1).untyped_storage()._cdata == moved.untyped_storage()._cdata


def test_backward_and_repeated_autograd_grad(image, device):
    x = to_pretend(image.requires_grad_())
    assert x.requires_grad and x.is_leaf
    for leaf in (x, image):
        loss = (leaf.sin() ** 2).sum()
        first = torch.autograd.grad(loss, leaf, retain_graph=True)
        second = torch.autograd.grad(loss, leaf, retain_graph=True)
        loss.backward()
        assert torch.equal(*first, *second)
        assert type(leaf.grad) is type(leaf)
    assert same(x.grad, image.grad)


def test_a_move_is_differentiated(image, device):
    image.requires_grad_()
    (image.to(device) ** 2).sum().backward()
    assert type(image.grad) is torch.Tensor
    assert torch.equal(image.grad, 2 * image.detach())


class Square(torch.autograd.Function):
    """x², whose backward pass uses what ``saved`` makes of the saved x."""

    @staticmethod
    def forward(ctx, x, saved):
        ctx.save_for_backward(x)
        ctx.saved = saved
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * ctx.saved(x) * gradient, None


def test_custom_function(image):
    x = to_pretend(image).requires_grad_()
    Square.apply(x, lambda x: x).sum().backward()
    assert same(x.grad, 2 * image)


def test_functional_transforms(image, device):
    x = image.to(device)
    value, vjp = torch.func.vjp(torch.sin, x)
    assert same(vjp(torch.ones_like(value))[0], image.cos())
    assert same(torch.func.jvp(torch.sin, (x,), (torch.ones_like(x),))[1], image.cos())
    assert same(torch.vmap(torch.sin)(x), image.sin())


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "filters left behind"])
def test_wavelets(moved, image, device):
    analysis, synthesis = (
        DWT2D(J=2, wave="db2", mode="periodization"),
        IDWT2D(wave="db2", mode="periodization"),
    )
    coarse, details = analysis(image)
    if moved:
        analysis, synthesis = analysis.to(device), synthesis.to(device)
    pretend_coarse, pretend_details = analysis(image.to(device))
    assert same(pretend_coarse, coarse)
    assert all(same(p, d) for p, d in zip(pretend_details, details, strict=True))
    assert same(synthesis((pretend_coarse, pretend_details)), synthesis((coarse, details)))


@pytest.mark.parametrize(
    "make",
    [
        lambda kernel, mask: Inpainting(img_size=SHAPE[1:], mask=mask),
        lambda kernel, mask: Denoising(GaussianNoise(0.1)),
        lambda kernel, mask: Blur(filter=kernel, padding="circular"),
        lambda kernel, mask: Blur(filter=kernel, padding="valid"),
        lambda kernel, mask: BlurFFT(img_size=SHAPE[1:], filter=kernel),
    ],
    ids=["inpainting", "denoising", "blur", "valid blur", "blur by FFT"],
)
def test_deepinv_physics(make, image):
    kernel = torch.rand(1, 3, 5, 5, dtype=image.dtype)
    mask = (torch.rand(1, 3, 16, 16) > 0.5).to(image.dtype)
    physics, moved = make(kernel, mask), to_pretend(make(kernel, mask))
    y, pretend_y = physics.A(image), moved.A(to_pretend(image))
    assert same(pretend_y, y)
    assert same(moved.A_adjoint(pretend_y), physics.A_adjoint(y))
    assert isinstance(moved(to_pretend(image)), PretendTensor)


def test_drunet_forward_and_backward(image, device):
    drunet = dinv.models.DRUNet(3, 3, nc=(8, 8, 8, 8), nb=1, pretrained=None).to(image.dtype)
    moved = to_pretend(copy.deepcopy(drunet))
    out, pretend_out = drunet(image, 0.1), moved(image.to(device), 0.1)
    assert same(pretend_out, out)
    out.sum().backward()
    pretend_out.sum().backward()
    for p, plain in zip(moved.parameters(), drunet.parameters(), strict=True):
        assert torch.allclose(unwrap(p.grad), plain.grad)


class Affine(nn.Module):
    """θx + b, where θ is learned and b a buffer or, ``forgotten``, a plain attribute."""

    def __init__(self, forgotten: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((16,), 0.5))
        self.frozen = nn.Parameter(torch.ones(16), requires_grad=False)
        shift = torch.arange(16.0)
        if forgotten:
            self.shift = shift
        else:
            self.register_buffer("shift", shift)

    def forward(self, x):
        return self.weight * x * self.frozen + self.shift


def test_modules_move_there_and_back(device):
    module = to_pretend(Affine())
    assert [name for name, _ in module.named_parameters()] == ["weight", "frozen"]
    assert all(isinstance(p, nn.Parameter) for p in module.parameters())
    assert (module.weight.requires_grad, module.frozen.requires_grad) == (True, False)
    assert same(module.shift, torch.arange(16.0))
    module.to(device=device, dtype=torch.float64)
    assert module.weight.dtype == torch.float64
    assert type(module.cpu().weight.data) is torch.Tensor


def test_a_deep_copy_is_independent(device):
    module = to_pretend(Affine())
    twin = copy.deepcopy(module)
    with torch.no_grad():
        twin.weight.mul_(3)
        twin.shift.zero_()
    assert isinstance(twin.weight, nn.Parameter) and twin.weight.requires_grad
    assert same(twin.weight, torch.full((16,), 1.5))
    assert same(module.weight, torch.full((16,), 0.5))
    assert same(module.shift, torch.arange(16.0))


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_optimizers_take_the_same_steps(optimizer, device):
    plain, moved = Affine(), to_pretend(Affine())
    for module in (plain, moved):
        steps = optimizer([p for p in module.parameters() if p.requires_grad], lr=0.1)
        for _ in range(3):
            steps.zero_grad()
            (module(torch.ones(16).to(module.weight.device)) ** 2).mean().backward()
            steps.step()
    assert same(moved.weight, plain.weight)
    assert not torch.equal(plain.weight, torch.full((16,), 0.5))


def test_the_memory_meter_sees_the_same_as_on_the_cpu(image):
    def work(x):
        def call():
            z = x
            for _ in range(5):
                z = z.exp()
            torch.autograd.grad(z.view(-1).sum(), x)

        return call

    plain = image.clone().requires_grad_()
    pretend = to_pretend(plain)
    assert live_memory(work(pretend)) == live_memory(work(plain)) > 0
    with pretend_device():
        assert live_memory(work(pretend)) == live_memory(work(plain))
    assert device_memory(work(pretend), DEVICE) >= 0
    layer = CountedLayer(torch.sin)
    layer(layer(pretend)).sum().backward()
    assert (layer.layer_evals, layer.vjp_evals) == (2, 2)


def test_tensors_are_freed_at_once(image):
    moved = to_pretend(image)
    watched = [weakref.ref(moved), weakref.ref(moved.untyped_storage())]
    del moved
    assert [w() for w in watched] == [None, None]


@pytest.mark.parametrize(
    "mix",
    [
        lambda moved, plain: moved + plain,
        lambda moved, plain: plain * moved,
        lambda moved, plain: plain.clone().add_(moved),
        lambda moved, plain: torch.cat([plain, moved]),
        lambda moved, plain: plain[0, 0] @ moved[0, 0],
        lambda moved, plain: moved[torch.arange(2)],
        lambda moved, plain: moved[plain > 0.5],
        lambda moved, plain: torch.where(plain > 0.5, moved, 0.0),
        lambda moved, plain: moved + torch.zeros(SHAPE),
        lambda moved, plain: plain + moved.sum(),
        lambda moved, plain: nn.functional.conv2d(moved, torch.ones(3, 3, 2, 2, dtype=plain.dtype)),
    ],
)
def test_mixtures_raise_with_and_without_the_mode(mix, image):
    moved = to_pretend(image)
    with pytest.raises(MixedDevices, match="cpu"):
        mix(moved, image)
    with pretend_device(), pytest.raises(MixedDevices, match="cpu"):
        mix(moved, image)


def test_a_forgotten_buffer_raises(device):
    x = torch.ones(16, device=device)
    assert same(to_pretend(Affine())(x), Affine()(torch.ones(16)))
    with pytest.raises(MixedDevices):
        to_pretend(Affine(forgotten=True))(x)
    with pytest.raises(MixedDevices):
        Affine()(x)


def test_mixtures_raise_in_backward(image):
    x = to_pretend(image).requires_grad_()
    with pytest.raises(MixedDevices):
        Square.apply(x, unwrap).sum().backward()
    with pytest.raises(MixedDevices):
        x.sin().backward(torch.ones_like(image))


def test_a_gradient_left_on_the_cpu_raises_once_it_is_used(image):
    class Forgetful(Square):
        @staticmethod
        def backward(ctx, gradient):
            return gradient.cpu(), None

    x = to_pretend(image).requires_grad_()
    with pytest.raises(MixedDevices):
        Forgetful.apply(x.sin(), None).sum().backward()
    Forgetful.apply(x, None).sum().backward()
    with pytest.raises(MixedDevices):
        torch.optim.SGD([x]).step()


def test_copies_between_the_devices_are_allowed(image, device):
    moved = torch.zeros(SHAPE, dtype=image.dtype, device=device)
    assert moved.copy_(image) is moved
    assert same(moved, image)
    plain = torch.zeros_like(image)
    assert plain.copy_(moved) is plain
    assert torch.equal(plain, image)


def test_a_cpu_generator_raises(device):
    with pytest.raises(MixedDevices, match="generator"):
        torch.rand(3, device=device, generator=torch.Generator())
    with pytest.raises(MixedDevices, match="generator"):
        torch.zeros(3, device=device).normal_(generator=torch.Generator())


def test_a_tensor_made_outside_raises(image):
    with pytest.raises(MixedDevices, match="outside"):
        to_pretend(image) + torch.zeros(SHAPE, device=DEVICE)


def test_the_cpu_is_left_alone(image, device):
    assert type(torch.zeros(3)) is type(image + 1) is torch.Tensor
    assert (image + 1).device == CPU
    assert torch.rand(3, generator=torch.Generator().manual_seed(0)).device == CPU
