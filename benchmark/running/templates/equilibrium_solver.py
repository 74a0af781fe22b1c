"""Plain iteration with relaxation, as an equilibrium solver."""


def template(T, x0, *, tol, max_layers, relaxation=0.9):
    """x ← x + ρ(T(x) − x) until ‖T(x) − x‖ ≤ tol ‖T(x)‖ for each sample, ρ = ``relaxation``.

    T maps states (N, …) to states, each sample by itself; x⁰ is a tensor without a graph. What is
    returned, the state or a ``benchmark.solve.Equilibrium``, is measured by the caller.
    """
    x = x0
    for _ in range(max_layers):
        image = T(x)
        gap, size = ((image - x).flatten(1).norm(dim=1), image.flatten(1).norm(dim=1))
        if (gap <= tol * size).all():
            return image
        x = x + relaxation * (image - x)
    return x
