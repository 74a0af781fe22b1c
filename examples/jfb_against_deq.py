"""The gradient of Jacobian-free backpropagation beside that of a deep equilibrium, on one image."""

import torch
from matplotlib.figure import Figure
from skimage import data

from benchmark import Implicit, LastLayers, Series, hypergradient
from benchmark.imaging.wavelets import OrthonormalWavelet

image = torch.from_numpy(data.astronaut()[100:164, 190:254] / 255.0).permute(2, 0, 1)[None]
generator = torch.Generator().manual_seed(0)
mask = (torch.rand(1, 1, 64, 64, generator=generator) < 0.5).double()
y = mask * (image + 0.05 * torch.randn(image.shape, generator=generator, dtype=torch.float64))
wavelet = OrthonormalWavelet("db4", 3, (64, 64))
log_weights = torch.full((3,), -3.0, dtype=torch.float64, requires_grad=True)


def T(x: torch.Tensor) -> torch.Tensor:
    """Forward-backward on ½‖mask·x − y‖² + 0.01‖x‖² + Σ_j λ_j‖(Wx)_j‖₁, a weight per scale."""
    low, details = wavelet.analysis(x - 0.9 * (mask * x - y + 0.02 * x))
    shrunk = []
    for d, threshold in zip(details, 0.9 * log_weights.exp(), strict=True):
        shrunk.append(torch.relu(d - threshold) - torch.relu(-d - threshold))
    return wavelet.synthesis(low, shrunk)


def loss(x: torch.Tensor) -> torch.Tensor:
    """Mean squared error."""
    return (x - image).square().mean()


exact = hypergradient(T, y, loss, [log_weights], gradient_tol=1e-6)
assert exact.converged
print(f"DEQ: {[f'{g:.2e}' for g in exact.gradient[0].tolist()]}")
errors = []
rules = [LastLayers(1), LastLayers(10), Series(10), LastLayers(50), Implicit(tol=1e-8)]
for rule in rules:
    found = hypergradient(T, y, loss, [log_weights], gradient=rule, tol=1e-8)
    error = (found.gradient[0] - exact.gradient[0]).norm() / exact.gradient[0].norm()
    errors.append(error.item())
    print(f"{rule}: relative error {error:.1e}")
assert errors[0] > errors[1] > errors[3] > errors[4]

figure = Figure(figsize=(8, 2.4), layout="constrained")
axes = figure.subplots()
axes.plot(errors, [str(rule) for rule in rules], "o")
axes.set(xscale="log", xlabel="relative error of the gradient")
axes.invert_yaxis()
figure.savefig("jfb_against_deq.png")
