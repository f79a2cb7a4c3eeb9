"""Curves and bands, and how they are trained."""
