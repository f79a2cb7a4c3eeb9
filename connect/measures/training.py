"""How the training of a path ended, by the mean losses of its epochs: whether it had arrived, or would have gone on.

Towards its end a schedule lowers the rate, and any loss is flat there, whether the path has arrived or not. So whether
the loss still falls is read from the last epochs at the highest rate, and whether it rises from the last of all. A
slope is the median of those between all pairs of epochs, and counts where its interval, which follows from the scatter
of the losses, excludes 0 (Theil 1950; Sen 1968, J. Am. Stat. Assoc. 63, 1379).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from landscape.storage.results import Array

if TYPE_CHECKING:  # drawing imports no torch
    from connect.paths.path import Path

Ending = Literal["converged", "still falling", "too short", "diverged"]

_HIGH = 0.9  # of the peak rate
_SHARE, _FEWEST = 0.2, 8  # of the epochs, at the end of which a slope is taken; but at least so many
_MATERIAL = 0.05  # of the range of all losses that a slope would add in as many epochs again
_SURE = 0.98  # of the interval, so that 99 of 100 lie on the right side of either end


@dataclass(frozen=True)
class Trend:
    """How a loss changes with the epochs.

    Attributes:
        slope: of the loss, an epoch.
        low: lower end of its interval.
        high: upper end; where it is below 0 the loss falls for sure.
    """

    slope: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Training:
    """The course of a training.

    Attributes:
        losses: mean loss of each epoch `[epochs]`, as met on the way.
        rates: learning rate in the middle of each `[epochs]`; NaN where it is not known.
    """

    losses: Array
    rates: Array

    @classmethod
    def of(cls, path: "Path") -> "Training | None":
        """The course of a path's training; None where the path does not know it."""
        if path.losses is None or not len(path.losses):
            return None
        unknown = np.full(len(path.losses), np.nan)
        return cls(path.losses.numpy(), unknown if path.rates is None else path.rates.numpy())

    @classmethod
    def from_flat(cls, kept: Mapping[str, Sequence[float]] | None) -> "Training | None":
        """The course that a result holds; None where it holds none."""
        return cls(*(np.array(kept[name], dtype=float) for name in ("losses", "rates"))) if kept else None

    def flat(self) -> dict[str, Any]:
        """The course as files hold it."""
        return {"losses": self.losses.tolist(), "rates": self.rates.tolist()}

    @property
    def peak(self) -> float:
        """The highest rate; NaN where rates are not known."""
        return float(np.max(self.rates))

    @cached_property
    def at_peak(self) -> Trend:
        """The trend of the last epochs at the highest rate; of the last of all, where rates are not known."""
        enough = np.sort(self.rates)[-_FEWEST:][0]
        return _trend(self.losses[~(self.rates < min(_HIGH * self.peak, enough))])

    @cached_property
    def at_end(self) -> Trend:
        """The trend of the last epochs."""
        return _trend(self.losses)

    @property
    def ending(self) -> Ending:
        """How it ended: "diverged" where the loss rose at the end, "too short" where nothing is told from scatter."""
        if not np.isfinite(self.losses).all():
            return "diverged"
        if len(self.losses) < _FEWEST:
            return "too short"
        if self.at_end.low > 0 and self._matters(self.at_end):
            return "diverged"
        return "still falling" if self.at_peak.high < 0 and self._matters(self.at_peak) else "converged"

    def _matters(self, trend: Trend) -> bool:
        """Whether as many epochs again would change the loss by a notable part of what all have changed."""
        return abs(trend.slope) * len(self.losses) > _MATERIAL * float(np.ptp(self.losses))


def _trend(losses: Array) -> Trend:
    """The trend of the last losses."""
    from scipy.stats import theilslopes

    fitted = theilslopes(losses[-max(_FEWEST, round(_SHARE * len(losses))) :], alpha=_SURE)
    return Trend(float(fitted.slope), float(fitted.low_slope), float(fitted.high_slope))
