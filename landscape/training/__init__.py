"""Stochastic descent, its recipe and its state."""
