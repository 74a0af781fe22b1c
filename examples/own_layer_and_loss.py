"""One's own layer and loss: a small network at its equilibrium; and a second derivative."""

import torch
from matplotlib.figure import Figure
from torch import nn

from benchmark import Implicit, equilibrium, hypergradient

torch.manual_seed(0)


class Cell(nn.Module):
    """x ↦ tanh(Wx + Vy), ‖W‖ at most 0.9."""

    def __init__(self, y: torch.Tensor) -> None:
        super().__init__()
        self.inner = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8, bias=False))
        self.input = nn.Linear(4, 8)
        self.register_buffer("y", y)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(0.9 * self.inner(x) + self.input(self.y))


y, target = torch.randn(16, 4), torch.randn(16, 8).tanh() / 2
cell = Cell(y).eval()
optimizer = torch.optim.Adam(cell.parameters(), lr=0.02)
start = torch.zeros(16, 8)
losses = []
for _ in range(30):
    found = equilibrium(cell, start, gradient=Implicit("gmres"), on_failure="raise")
    loss = nn.functional.smooth_l1_loss(found.x, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss {losses[0]:.4f} → {losses[-1]:.4f}")
assert losses[-1] < losses[0]
figure = Figure(figsize=(6, 2.4), layout="constrained")
figure.subplots(subplot_kw={"xlabel": "step", "ylabel": "loss"}).plot(losses)
figure.savefig("own_layer_and_loss.png")

# to a tolerance on the gradient, which float32 alone does not reach
weights = [cell.input.weight, cell.input.bias]
exact = hypergradient(
    cell, start, lambda x: (x - target).square().mean(), weights, gradient_tol=1e-6, polish=True
)
print(f"estimated relative error of the gradient: {exact.error:.1e}")
assert exact.converged

# d²x*/dθ² of x = θ cos x, by implicit differentiation twice
theta = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
x = equilibrium(lambda x: theta * x.cos(), torch.zeros(1, 1).double(), tol=1e-12,
                gradient=Implicit("gmres", tol=1e-12)).x  # fmt: skip
(first,) = torch.autograd.grad(x.sum(), theta, create_graph=True)
(second,) = torch.autograd.grad(first, theta)
c, s, w = x.cos().item(), x.sin().item(), 1 + theta.item() * x.sin().item()
expected = -2 * s * c / w**2 - theta.item() * c**3 / w**3
print(f"second derivative {second.item():.8f}, by hand {expected:.8f}")
assert abs(second.item() - expected) < 1e-8
