"""Grids, strategies and the driver that measures."""
