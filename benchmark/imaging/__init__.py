"""Images, degradations, wavelets, denoisers, metrics: pure functions and modules."""
