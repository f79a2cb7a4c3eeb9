"""Find a path of low loss between two minima, by whichever method."""

from typing import Protocol, Unpack, runtime_checkable

from torch import Tensor

from connect.paths.curves import Curve
from connect.paths.fitting import DEFAULT_METHOD, DEFAULT_RECIPE, CurveFit
from connect.paths.path import Path
from landscape.risk.surface import Trainable
from landscape.runtime.progress import Reporter, silent
from landscape.training.descent import DescentOptions
from landscape.training.keeping import Keeping
from landscape.training.recipes import Recipe


@runtime_checkable
class PathMethod(Protocol):
    """A way to find a path: `CurveFit`, `Band` or `GrowingBand`."""

    def begin(self, a: Tensor, b: Tensor, start: Path | None = None) -> Path:
        """A path from a `[P]` to b `[P]` to begin with: the straight line, or `start` in the form that is trained.

        It raises as `find_path`.
        """

    def train(
        self, surface: Trainable, path: Path, recipe: Recipe = DEFAULT_RECIPE, **options: Unpack[DescentOptions]
    ) -> Path:
        """Train what `begin` made, whose control points are moved where they lie; as in `find_path`."""


def find_path(
    surface: Trainable,
    a: Tensor,
    b: Tensor,
    method: PathMethod | Curve = DEFAULT_METHOD,
    recipe: Recipe = DEFAULT_RECIPE,
    *,
    start: Path | None = None,
    seed: int = 0,
    keeping: Keeping | None = None,
    report: Reporter = silent,
) -> Path:
    """Find a path of low loss from a to b.

    Whoever has no room for a and b beside the control points calls `begin`, drops them, and calls `train`.

    Args:
        surface: the height; a network's risk or an analytic potential.
        a: the end `[P]` at t = 0.
        b: the end `[P]` at t = 1.
        method: how; a curve stands for its `CurveFit`.
        recipe: how it is trained.
        start: a path between the same ends to begin with, of any curve; by default the straight line.
        seed: of all random choices.
        keeping: where the state is kept on the way, so that the fit can be resumed.
        report: a progress reporter.

    Raises:
        LayoutError: a and b differ in shape.
        ConfigError: a and b are the same point, or the path to start from has other ends.
        DivergedError: the loss became NaN or infinite.
        Interrupted: stopped by a signal.

    Example:
        In a ring-shaped valley the straight line leads over the hill in the middle, and a curve around it.

        >>> import torch
        >>> from landscape import Potential
        >>> ring = Potential(lambda theta: (theta.square().sum() - 1).square(), 2)
        >>> a, b = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double()
        >>> path = find_path(ring, a, b, recipe=Recipe(epochs=200, lr=0.05, weight_decay=0.0))
        >>> round(float(path(0.5).norm()), 1)
        1.0
    """
    if not isinstance(method, PathMethod):
        method = CurveFit(method)
    path = method.begin(a, b, start)
    return method.train(surface, path, recipe, seed=seed, keeping=keeping, report=report)
