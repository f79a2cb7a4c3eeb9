"""Draw results again: the command of `landscape`, which draws those of `connect` too."""

from landscape.app.commands.pictures import draw_result, plot

__all__ = ["draw_result", "plot"]
