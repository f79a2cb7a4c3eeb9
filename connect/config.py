"""What each command of `connect` can be told; see `landscape.config`. Nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from landscape import (
    CheckpointOptions,
    ComputeOptions,
    ConfigError,
    OutputOptions,
    ProblemOptions,
    RecipeOptions,
    require_seed,
)


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
        if self.points < 2:
            raise ConfigError(f"--points is {self.points}, expected at least 2, for the two ends.")
        if self.plane_points == 1 or self.plane_points < 0:
            raise ConfigError(f"--plane-points is {self.plane_points}, expected 0, or at least 2.")
