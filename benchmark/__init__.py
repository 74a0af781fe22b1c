"""Gradient methods that learn at equilibrium: what the plugins of this benchmark share."""
