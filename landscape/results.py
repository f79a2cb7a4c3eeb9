"""What was measured, and under which settings: immutable, and complete without the model or the data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Sweep:
    """Measurements over a grid.

    Attributes:
        axes: values of each coordinate, in the order of the arrays' dimensions: `t` for a line, `y` and `x` for a
            plane.
        values: arrays by quantity, such as `train_loss` and `test_accuracy`, `[it]` or `[iy, ix]`; NaN and infinity are
            data.
        done: which points are measured, boolean, of the same shape.
    """

    axes: Mapping[str, Array]
    values: Mapping[str, Array]
    done: Array

    @classmethod
    def empty(cls, axes: Mapping[str, Array]) -> "Sweep":
        """A grid on which nothing is measured yet."""
        return cls(dict(axes), {}, np.zeros([len(v) for v in axes.values()], dtype=bool))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that losses were measured on."""
        return tuple(name.removesuffix("_loss") for name in self.values if name.endswith("_loss"))


@dataclass(frozen=True)
class Result:
    """The content of one result file.

    Attributes:
        kind: what was studied: "surface", "plane" or "profile".
        sweeps: measurements by name; a result with a single sweep calls it "".
        marks: points and polylines to draw on a plane, by name, `[n, 2]`.
        provenance: the resolved configuration, fingerprints, versions and seed.
        facts: figures that belong to the result as a whole, such as lengths.
    """

    kind: str
    sweeps: Mapping[str, Sweep]
    marks: Mapping[str, Array] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sweep(self) -> Sweep:
        """The only sweep of a result that has one."""
        (only,) = self.sweeps.values()
        return only
