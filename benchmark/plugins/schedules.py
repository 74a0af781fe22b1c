"""Tolerances that fall from one outer step to the next."""

#: by the number k of the outer step, 0 the first, in units of the first tolerance: those of
#: Pedregosa, "Hyperparameter optimization with approximate gradient" (2016), arXiv 1602.02355
DECREASES = {
    "exponential": lambda k: 0.9**k,
    "quadratic": lambda k: (k + 1.0) ** -2,
    "cubic": lambda k: (k + 1.0) ** -3,
}
