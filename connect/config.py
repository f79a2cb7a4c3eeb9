"""What each command of `connect` can be told; see `landscape.config`. Nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from landscape import (
    CheckpointOptions,
    ComputeOptions,
    ConfigError,
    MapOptions,
    OutputOptions,
    ProblemOptions,
    RecipeOptions,
    require_seed,
    require_suffix,
)

_ENDS = 2


@dataclass(frozen=True, kw_only=True)
class PlotConfig:
    """Draw a profile or a plane again, from its file alone.

    Attributes:
        result: the result's file, .h5.
        out: folder for the pictures; by default the result's own.
        format: of the pictures.
    """

    result: Path
    out: Path | None = None
    format: Literal["png", "pdf", "svg"] = "png"


@dataclass(frozen=True, kw_only=True)
class FitConfig(RecipeOptions, ProblemOptions, CheckpointOptions, ComputeOptions, OutputOptions):
    """Find a low-loss path between two checkpoints, measure it against the straight line, and draw both.

    Attributes:
        a: checkpoint at t = 0.
        b: checkpoint at t = 1.
        out: folder for the path, the measurements and the pictures.
        curve: Bézier curve or polygonal chain.
        control_points: their number, the two ends included.
        seed: of the order of examples, of t and of dropout.
        points: values of t at which path and straight line are measured.
        plane_points: points along the longer side of the plane that is measured for plane.png; 0 leaves it out.
    """

    a: Path
    b: Path
    out: Path
    curve: Literal["bezier", "chain"] = "bezier"
    control_points: int = 3
    seed: int = 0
    points: int = 61
    plane_points: int = 21

    def __post_init__(self) -> None:
        super().__post_init__()
        require_seed(self.seed)
        _require_points(self.points)
        if self.plane_points == 1 or self.plane_points < 0:
            raise ConfigError(f"--plane-points is {self.plane_points}, expected 0, or at least 2.")


@dataclass(frozen=True, kw_only=True)
class ProfileConfig(MapOptions, ProblemOptions, CheckpointOptions, ComputeOptions, OutputOptions):
    """Measure a saved path again, against the straight line between its ends.

    Attributes:
        path: the path's file, .safetensors.
        out: the result to write, .h5, with the picture beside it; by default beside the path, with "_profile" in its
            name.
        points: values of t at which path and straight line are measured.
        split: the examples that are measured, such as train, test or train,test; all stands for every split. The
            curvature is that of the first.
        base: a checkpoint with what the path does not hold: parameters that were not trained, and buffers.
        seed: of the random vectors of the curvature.
        trace_products: with the curvature, estimate the Hessian's trace with so many products a point; 0 leaves it out.
    """

    path: Path
    out: Path | None = None
    points: int = 61
    split: str = "all"
    base: Path | None = None
    seed: int = 0
    trace_products: int = 30

    def __post_init__(self) -> None:
        CheckpointOptions.__post_init__(self)
        MapOptions.__post_init__(self)
        require_seed(self.seed)
        _require_points(self.points)
        if self.out is not None:
            require_suffix(self.out, ".h5")
        if self.batch_norm not in {None, "recomputed"}:
            raise ConfigError(
                f"--batch-norm is {self.batch_norm}, but a path holds no running statistics; leave it at recomputed."
            )


def _require_points(points: int) -> None:
    if points < _ENDS:
        raise ConfigError(f"--points is {points}, expected at least {_ENDS}, for the two ends.")
