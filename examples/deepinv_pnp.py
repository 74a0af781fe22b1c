"""DEQ through a Plug-and-Play layer of deepinv: the noise level of its denoiser is learned."""

import deepinv
import torch
from skimage import data

from benchmark import Implicit, equilibrium
from benchmark.imaging.denoisers import make_denoiser

torch.manual_seed(0)
truth = torch.from_numpy(data.chelsea()[100:148, 100:148] / 255.0).permute(2, 0, 1)[None].float()
physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(0.1))
y = physics(truth)
# deepinv's DRUNet, small, with the weights that ship with this package
denoiser = make_denoiser("small_drunet", (3, 48, 48)).requires_grad_(False)
log_sigma = torch.tensor(-4.0, requires_grad=True)


def T(x: torch.Tensor) -> torch.Tensor:
    """Half a step of forward-backward with the denoiser in place of the proximity operator."""
    v = x - 0.5 * physics.A_adjoint(physics.A(x) - y)
    return 0.5 * v + 0.5 * denoiser(v, log_sigma.exp().expand(len(x)))


optimizer = torch.optim.Adam([log_sigma], lr=0.2)
start = y
losses = []
for step in range(6):
    start = equilibrium(T, start, solver="anderson", gradient=Implicit("gmres(restart=10)"))
    loss = (start.x - truth).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    print(f"step {step}: loss {loss.item():.5f}, sigma {log_sigma.exp().item():.4f}")
assert losses[-1] < losses[0]
deepinv.utils.plot(
    {"observed": y, "learned": start.x, "photograph": truth},
    save_fn="deepinv_pnp.png",
    rescale_mode="clip",
    dpi=100,
    show=False,
    close=True,
)
