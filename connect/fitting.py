"""Train a curve between two minima so that the loss stays low all along it.

The expected loss over t, uniform on [0, 1], is minimised over the inner control points while the ends stay where they
are (Garipov et al. 2018, arXiv 1802.10026). One step is an ordinary training step at θ(t) = c(t)·C, plus one product
`[k]×[k, P]` before it and one outer product after it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from connect.curves import Bezier, Curve
from connect.path import Path
from landscape import ConfigError, Keeping, LayoutError, Objective, Recipe, Reporter, descend, silent

DEFAULT_RECIPE = Recipe(epochs=40, lr=0.1, batch_size=128, schedule="linear")


@dataclass(frozen=True)
class _FixedEnds:
    """A curve whose inner control points move."""

    curve: Curve

    @property
    def free(self) -> slice:
        return slice(1, self.curve.control_points - 1)

    def coefficients(self, t: Tensor) -> Tensor:
        return self.curve.coefficients(t)


@dataclass(frozen=True)
class Fit:
    """A trained path.

    Attributes:
        path: the path.
        losses: mean training loss of each epoch `[epochs]`, over examples and t, as met on the way.
    """

    path: Path
    losses: Tensor


def fit_curve(
    objective: Objective,
    a: Tensor,
    b: Tensor,
    curve: Curve | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
    *,
    seed: int = 0,
    keeping: Keeping | None = None,
    after_epoch: Callable[[int, Tensor], None] | None = None,
    report: Reporter = silent,
) -> Fit:
    """Train a curve from a to b, beginning with the straight line.

    Args:
        objective: the height; a network's risk or an analytic potential.
        a: the end `[P]` at t = 0.
        b: the end `[P]` at t = 1.
        curve: the family; by default a Bézier curve of three control points.
        recipe: SGD's settings; weight decay acts on θ(t).
        seed: of the order of examples, of t, which is stratified over each epoch, and of dropout.
        keeping: where the state is kept on the way, so that the fit can be resumed.
        after_epoch: called with the number of finished epochs and the control points `[k, P]`.
        report: told of every step.

    Raises:
        LayoutError: a and b differ in shape.
        ConfigError: a and b are the same point.
        Interrupted: stopped by a signal.
    """
    if a.shape != b.shape or a.ndim != 1:
        raise LayoutError(f"the ends have shapes {tuple(a.shape)} and {tuple(b.shape)}, expected [P] twice.")
    if torch.equal(a, b):
        raise ConfigError("the two ends are the same point; there is nothing to connect.")
    curve = curve or Bezier(3)
    shares = torch.linspace(0, 1, curve.control_points, dtype=torch.float64).tolist()
    start = torch.stack([torch.lerp(a, b, share) for share in shares])
    descent = descend(
        objective,
        start,
        _FixedEnds(curve),
        recipe,
        seed=seed,
        keeping=keeping,
        after_epoch=after_epoch,
        report=report,
    )
    return Fit(Path(descent.points, curve), descent.losses)
