"""Lengths, angles and norms along a curve, from the inner products of its control points alone.

θ(t) = c(t)·C, so that every length along the curve follows from the Gram matrix `[k, k]` of the control points, and no
point of the curve is ever held.
"""

import torch
from torch import Tensor

from connect.paths.curves import Curve
from landscape.space.pieces import gram
from landscape.storage.results import Array

_PIECES = 4096
_STEP = 1e-4


class Geometry:
    """Where the curve c(t)·C of control points C `[k, P]` goes."""

    def __init__(self, points: Tensor, curve: Curve) -> None:
        self._curve = curve
        self._around_start = gram(points, points[0]).cpu()
        self._around_origin = gram(points).cpu()
        self._t = torch.linspace(0, 1, _PIECES + 1, dtype=torch.float64)
        steps = curve.coefficients(self._t).diff(dim=0)
        self._arc = torch.cat([torch.zeros(1, dtype=torch.float64), self._norms(steps).cumsum(0)])

    @property
    def distance(self) -> float:
        """Length of the straight line between the ends."""
        return float(self._around_start[-1, -1].clamp_min(0).sqrt())

    @property
    def length(self) -> float:
        """Length of the curve, as that of 4096 straight pieces: a hair too short, never too long."""
        return float(self._arc[-1])

    def arc(self, t: Array) -> Array:
        """The length of the path up to each t `[n]`."""
        return _interpolated(torch.from_numpy(t), self._t, self._arc).numpy()

    def even(self, count: int) -> Array:
        """Values of t `[count]` from 0 to 1 that are passed after equal lengths of the path."""
        shares = torch.linspace(0, 1, count, dtype=torch.float64)
        if not self._arc[-1] > 0:
            return shares.numpy()
        t = _interpolated(shares * self._arc[-1], self._arc, self._t)
        t[0], t[-1] = 0.0, 1.0
        return t.numpy()

    def norm(self, t: Array) -> Array:
        """The norm of θ at each t `[n]`."""
        c = self._curve.coefficients(torch.from_numpy(t))
        return torch.einsum("ni,ij,nj->n", c, self._around_origin, c).clamp_min(0).sqrt().numpy()

    def angle(self, t: Array) -> Array:
        """The angle between the curve's direction at each t `[n]` and the straight line, in degrees; NaN at a halt."""
        at = torch.from_numpy(t)
        low, high = (at - _STEP).clamp_min(0), (at + _STEP).clamp_max(1)
        steps = self._curve.coefficients(high) - self._curve.coefficients(low)
        along = steps @ self._around_start[:, -1]
        cosine = along / (self._norms(steps) * self.distance)
        return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))).numpy()

    def _norms(self, steps: Tensor) -> Tensor:
        """The lengths of differences of coefficients `[n, k]`, whose rows sum to 0."""
        return torch.einsum("ni,ij,nj->n", steps, self._around_start, steps).clamp_min(0).sqrt()


def _interpolated(x: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Linear interpolation at x `[n]` between increasing places `[m]`."""
    right = torch.searchsorted(places, x.contiguous()).clamp(1, len(places) - 1)
    left = right - 1
    gap = places[right] - places[left]
    share = torch.where(gap > 0, (x - places[left]) / gap, torch.zeros_like(x))
    return values[left] + share * (values[right] - values[left])
