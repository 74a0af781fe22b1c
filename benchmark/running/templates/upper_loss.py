"""A smooth absolute error, as an upper loss."""


def template(x_hat, x, eps=0.01):
    """The mean of √((x̂ − x̄)² + ε²) over each image: (N, C, H, W) twice to (N,).

    To be minimised; differentiable in x̂, in its dtype and on its device, each image by itself.
    """
    return ((x_hat - x).square() + eps**2).sqrt().flatten(1).mean(1)
