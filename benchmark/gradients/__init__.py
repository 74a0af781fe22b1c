"""Rules that differentiate through an equilibrium."""
