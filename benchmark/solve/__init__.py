"""Fixed points x = T(x) and linear systems A x = b, per sample of a batch."""
