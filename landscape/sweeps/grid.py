"""Axes of a sweep from text."""

import numpy as np
from numpy.typing import NDArray

from landscape.errors import ConfigError

Place = tuple[int, ...]
"""The indices of a point of a grid."""

MOST_POINTS = 10_000
_FARTHEST = 1e30


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
