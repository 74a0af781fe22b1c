"""A learned total variation: the weights of horizontal and vertical differences, in denoising.

The layer is a step of projected gradient on the dual of ½‖x − y‖² + Σ_d λ_d‖D_d x‖₁ (Chambolle,
2004): the state is the dual variable, and the image is y − Dᵀu.
"""

import deepinv
import torch
from skimage import data

from benchmark import equilibrium

image = torch.from_numpy(data.coffee()[150:198, 250:298] / 255.0).permute(2, 0, 1)[None]
noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
y = image + 0.1 * noise
log_weights = torch.full((2,), -4.0, dtype=torch.float64, requires_grad=True)


def differences(x: torch.Tensor) -> torch.Tensor:
    """Dx, both directions stacked (N, C, 2, H, W), zero across the frame."""
    vertical = torch.nn.functional.pad(x.diff(dim=-2), (0, 0, 0, 1))
    horizontal = torch.nn.functional.pad(x.diff(dim=-1), (0, 1))
    return torch.stack([vertical, horizontal], dim=2)


def adjoint(u: torch.Tensor) -> torch.Tensor:
    """Dᵀu."""
    vertical, horizontal = u.unbind(dim=2)
    v = torch.nn.functional.pad(vertical[..., :-1, :], (0, 0, 1, 1)).diff(dim=-2)
    h = torch.nn.functional.pad(horizontal[..., :-1], (1, 1)).diff(dim=-1)
    return -v - h


def T(u: torch.Tensor) -> torch.Tensor:
    """u ← projection of u + D(y − Dᵀu)/8 on |u_d| ≤ λ_d."""
    bound = log_weights.exp().view(2, 1, 1)
    return torch.clamp(u + differences(y - adjoint(u)) / 8, -bound, bound)


optimizer = torch.optim.Adam([log_weights], lr=0.3)
start = torch.zeros_like(differences(y))
losses = []
for step in range(6):
    start = equilibrium(T, start, gradient="implicit(solver='gmres(restart=20)')", tol=1e-5)
    loss = (y - adjoint(start.x) - image).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    vertical, horizontal = log_weights.exp().tolist()
    print(f"step {step}: loss {loss.item():.5f}, weights {vertical:.4f}, {horizontal:.4f}")
assert losses[-1] < 0.7 * losses[0]
deepinv.utils.plot(
    {"observed": y, "learned": y - adjoint(start.x), "photograph": image},
    save_fn="learned_tv.png",
    rescale_mode="clip",
    dpi=100,
    show=False,
    close=True,
)
