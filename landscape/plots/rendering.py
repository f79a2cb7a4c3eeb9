"""Figures and their files: one look for all pictures, and no global state of matplotlib."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from landscape.files import write_atomically

COLOURS = {"path": "#0072B2", "straight": "#D55E00", "ends": "#000000"}
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "svg.hashsalt": "mode-connectivity",
}
_DPI = 160


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` inches that belongs to no window."""
    with matplotlib.rc_context(_STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def save_figures(figures: Mapping[str, Figure], folder: Path, stem: str, format: str = "png") -> list[str]:
    """Write figures as `folder/stem_name.format`, or `folder/stem.format` for a name that is empty.

    Returns:
        The files' names, in the figures' order.

    Raises:
        StorageError: a file cannot be written.
    """
    written = []
    for name, figure in figures.items():
        path = folder / f"{stem}{'_' if name else ''}{name}.{format}"
        buffer = io.BytesIO()
        undated = {"Date": None} if format == "svg" else {"CreationDate": None} if format == "pdf" else {}
        with matplotlib.rc_context(_STYLE):
            figure.savefig(buffer, format=format, dpi=_DPI, metadata=undated)
        write_atomically(path, buffer.getvalue())
        written.append(str(path))
    return written
