"""What was measured along the two ways between minima, joined over the rounds of refinement."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.storage.results import Result, Sweep

WAYS = ("path", "straight")


def along(result: Result, way: str) -> Sweep:
    """All that was measured of one way, ordered by t: the first values and those of every refinement.

    Where there is no path but the straight line, it is both. Quantities that were measured at the first values only,
    such as curvature, are NaN at the others.

    Args:
        result: of kind "profile".
        way: "path" or "straight".
    """
    rounds = [measured for name, measured in result.sweeps.items() if name.partition(" ")[0] == way]
    return joined(rounds) if rounds else along(result, "straight")


def joined(rounds: Sequence[Sweep]) -> Sweep:
    """Sweeps over t as one, ordered by t, each value once; it has the quantities of the first."""
    t, order = np.unique(np.concatenate([found["t"] for found in rounds]), return_index=True)
    values: dict[str, Any] = {}
    for name, first in rounds[0].values.items():
        parts = [
            found.values.get(name, np.full((len(found.done), *first.shape[1:]), np.nan, first.dtype))
            for found in rounds
        ]
        values[name] = np.concatenate(parts)[order]
    return Sweep({"t": t}, values, np.concatenate([found.done for found in rounds])[order])
