"""Surfaces whose minima, saddles and passes are known, and naive ways to find them: Newton, a flood, a way down."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.ndimage import label, minimum_filter
from scipy.optimize import root
from torch import Tensor

from tests.oracles import muller_brown

Function = Callable[[Tensor], Tensor]

_TURN = torch.linalg.qr(torch.randn(10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
_STIFFNESS = torch.linspace(4, 8, 9, dtype=torch.float64)
_BEND = torch.linspace(-0.5, 0.6, 9, dtype=torch.float64)


def three_holes(theta: Tensor) -> Tensor:
    """Two deep holes and a shallow one, joined above by two equal saddles and below by a single higher one.

    Metzner, Schütte and Vanden-Eijnden 2006, J. Chem. Phys. 125, 084110.
    """
    x, y = theta[0], theta[1]
    return (
        3 * torch.exp(-(x**2) - (y - 1 / 3) ** 2)
        - 3 * torch.exp(-(x**2) - (y - 5 / 3) ** 2)
        - 5 * torch.exp(-((x - 1) ** 2) - y**2)
        - 5 * torch.exp(-((x + 1) ** 2) - y**2)
        + 0.2 * x**4
        + 0.2 * (y - 1 / 3) ** 4
    )


def bent_well(theta: Tensor) -> Tensor:
    """Two wells in R^10 at the ends of a bent valley, turned so that no axis is special.

    With x = Qθ it is (x₀² - 1)² + Σ kᵢ (xᵢ - cᵢ (1 - x₀²))², which is 0 at x₀ = ±1, xᵢ = 0. It is nowhere below
    (x₀² - 1)², so every way between the two passes a height of 1 where x₀ = 0; the saddle there, at xᵢ = cᵢ, has it.
    """
    x = _TURN @ theta
    return (x[0] ** 2 - 1) ** 2 + (_STIFFNESS * (x[1:] - _BEND * (1 - x[0] ** 2)) ** 2).sum()


@dataclass(frozen=True)
class Surface:
    """A surface and what is known of it.

    Attributes:
        function: the height.
        minima: minima `[m, P]`; the ends of paths come first.
        saddles: saddles `[s, P]`, the one on the way of a band from the straight line first.
        bottleneck: the least height that a way between the two ends must pass.
        rate: at which plain descent is stable.
    """

    function: Function
    minima: Tensor
    saddles: Tensor
    bottleneck: float
    rate: float

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        return self.minima[0], self.minima[1]

    def heights(self, points: Tensor) -> Tensor:
        """The heights `[n]` of points `[n, P]`."""
        return torch.vmap(self.function)(points)


@cache
def surface(name: str) -> Surface:
    """One of `SURFACES`; what is not known by arithmetic is found by Newton's method and by flooding a grid."""
    if name == "bent well":
        wells, pass_ = torch.zeros(2, 10, dtype=torch.float64), torch.zeros(1, 10, dtype=torch.float64)
        wells[:, 0] = torch.tensor([-1.0, 1.0])
        pass_[0, 1:] = _BEND
        return Surface(bent_well, wells @ _TURN, pass_ @ _TURN, 1.0, 0.01)
    function, rate, box, near_minima, near_saddles = _PLANAR[name]
    minima, saddles = (
        torch.stack([stationary(function, guess) for guess in guesses]) for guesses in (near_minima, near_saddles)
    )
    place = flood(function, minima[0], minima[1], box)[1]
    return Surface(function, minima, saddles, float(function(stationary(function, place.tolist()))), rate)


_PLANAR = {
    "Müller-Brown": (
        muller_brown,
        2e-4,
        ((-1.5, 1.1), (-0.4, 2.0)),
        ((-0.55, 1.45), (0.6, 0.0), (-0.05, 0.45)),
        ((-0.8, 0.6), (0.2, 0.3)),
    ),
    "three holes": (
        three_holes,
        0.01,
        ((-1.8, 1.8), (-1.2, 2.4)),
        ((-1.0, 0.0), (1.0, 0.0), (0.0, 1.5)),
        ((0.0, -0.3), (-0.6, 1.1), (0.6, 1.1)),
    ),
}
SURFACES = (*_PLANAR, "bent well")


def gradient(function: Function, theta: Tensor) -> Tensor:
    theta = theta.detach().requires_grad_()
    return torch.autograd.grad(function(theta), theta)[0]


def hessian(function: Function, theta: Tensor) -> Tensor:
    return torch.autograd.functional.hessian(function, theta)


def stationary(function: Function, guess: tuple[float, ...] | list[float]) -> Tensor:
    """The point near a guess where the slope is zero, by scipy."""

    def slope(x):
        return gradient(function, torch.from_numpy(x)).numpy()

    found = root(slope, guess, jac=lambda x: hessian(function, torch.from_numpy(x)).numpy(), tol=1e-13)
    assert np.abs(found.fun).max() < 1e-8, found.message
    return torch.from_numpy(found.x)


@cache
def _grid(
    function: Function, box: tuple[tuple[float, float], tuple[float, float]], count: int
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """The points of a grid over a box, their heights, and their order from the lowest up."""
    grid = torch.cartesian_prod(*(torch.linspace(low, high, count, dtype=torch.float64) for low, high in box))
    heights = torch.vmap(function)(grid).numpy()
    return grid, heights, np.argsort(heights)


def flood(
    function: Function, a: Tensor, b: Tensor, box: tuple[tuple[float, float], tuple[float, float]], count: int = 301
) -> tuple[float, Tensor]:
    """Let water rise on a grid over a box of the plane until it joins a and b: its height then, and where they met."""
    grid, heights, order = _grid(function, box, count)
    ends = [int((grid - end).norm(dim=1).argmin()) for end in (a, b)]

    def joined(level):
        lakes = label((heights <= level).reshape(count, count), structure=np.ones((3, 3)))[0].ravel()
        return lakes[ends[0]] == lakes[ends[1]] != 0

    dry, wet = 0, len(order) - 1
    while wet - dry > 1:
        middle = (dry + wet) // 2
        dry, wet = (dry, middle) if joined(heights[order[middle]]) else (middle, wet)
    return float(heights[order[wet]]), grid[order[wet]]


def minima_in(function: Function, box: tuple[tuple[float, float], tuple[float, float]], count: int = 301) -> Tensor:
    """All minima `[m, 2]` in a box: Newton's method from the places of a grid that are lower than all around them."""
    grid, heights, _ = _grid(function, box, count)
    square = heights.reshape(count, count)
    lowest = (square == minimum_filter(square, 3))[1:-1, 1:-1]
    places = grid.reshape(count, count, 2)[1:-1, 1:-1][torch.from_numpy(lowest)]
    return torch.stack([stationary(function, place.tolist()) for place in places])


def downhill(function: Function, saddle: Tensor, time: float) -> Tensor:
    """The way of steepest descent `[n, P]` from a saddle down both sides, by scipy."""
    values, vectors = torch.linalg.eigh(hessian(function, saddle))
    assert values[0] < 0 < values[1]

    def fall(_, x):
        return -gradient(function, torch.from_numpy(x)).numpy()

    sides = [
        solve_ivp(fall, (0, time), (saddle + sign * 1e-3 * vectors[:, 0]).numpy(), method="LSODA", rtol=1e-8, atol=1e-8)
        for sign in (-1, 1)
    ]
    return torch.from_numpy(np.concatenate([sides[0].y.T[::-1], saddle[None].numpy(), sides[1].y.T]))


def distances(points: Tensor, chain: Tensor) -> Tensor:
    """How far points `[n, P]` lie from the straight pieces of a chain `[m, P]`."""
    start, piece = chain[:-1], chain.diff(dim=0)
    offset = points[:, None] - start
    share = ((offset * piece).sum(dim=2) / piece.square().sum(dim=1).clamp_min(1e-300)).clamp(0, 1)
    return (offset - share[..., None] * piece).norm(dim=2).min(dim=1).values
