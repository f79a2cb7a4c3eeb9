"""Axes of a sweep: from text, or around points."""

import numpy as np
from numpy.typing import NDArray

from landscape.errors import ConfigError

Place = tuple[int, ...]
"""The indices of a point of a grid."""

MOST_POINTS = 10_000
_MARGIN, _FARTHEST = 0.25, 1e30


def parse_axis(text: str, flag: str) -> NDArray[np.float64]:
    """The values of an axis written as `start:stop:count`, ends included.

    Args:
        text: for example `-1:1:51`; a descending range is kept in its order.
        flag: what to name in an error.

    Returns:
        The values `[count]`.

    Raises:
        ConfigError: it is no such text, or names one point and two ends, or several points and one end.
    """
    parts = text.split(":")
    try:
        start, stop, count = float(parts[0]), float(parts[1]), int(parts[2])
        well_formed = (
            len(parts) == 3 and abs(start) <= _FARTHEST and abs(stop) <= _FARTHEST and 1 <= count <= MOST_POINTS
        )
    except (ValueError, IndexError):
        well_formed = False
    if not well_formed:
        raise ConfigError(
            f"{flag} is {text!r}, expected start:stop:count, such as -1:1:51, with at most {MOST_POINTS} points."
        )
    if (count == 1) != (start == stop):
        raise ConfigError(f"{flag} is {text!r}: one point needs start and stop to be equal, several need them apart.")
    return np.linspace(start, stop, count)


def axes_around(points: NDArray[np.float64], count: int) -> dict[str, NDArray[np.float64]]:
    """Axes of a plane that leave a margin of at least a quarter around points, with one spacing for both.

    Args:
        points: coordinates (x, y) `[n, 2]`, not all the same.
        count: points along the longer side, at least 2.

    Returns:
        Values of "y" and of "x".
    """
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * (high - low).max()
    sides = high - low + 2 * margin
    spacing = sides.max() / (count - 1)
    counts = np.maximum(2, np.ceil(np.round(sides / spacing, 6)).astype(int) + 1)
    starts = (low + high - (counts - 1) * spacing) / 2
    x, y = (start + spacing * np.arange(number) for start, number in zip(starts, counts, strict=True))
    return {"y": y, "x": x}
