"""What each command of `connect` can be told; see `landscape.app.config`. Nothing here imports torch."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from landscape.app.config import (
    CheckpointOptions,
    ComputeOptions,
    MapOptions,
    OutputOptions,
    ProblemOptions,
    RecipeOptions,
    require_seed,
    require_suffix,
)
from landscape.app.options import Options
from landscape.errors import ConfigError

_ENDS = 2


@dataclass(frozen=True, kw_only=True)
class PlotConfig(Options):
    """Draw a result again, from its file alone.

    Attributes:
        result: the result's file, .h5.
        out: folder for the pictures; by default the result's own.
        format: of the pictures.
        colour: what the minima of a graph are coloured by: seed, batch_size, test_accuracy, or any other attribute.
    """

    result: Path
    out: Path | None = None
    format: Literal["png", "pdf", "svg"] = "png"
    colour: str | None = None


@dataclass(frozen=True, kw_only=True)
class VerdictOptions(Options):
    """What counts as connected, and how closely it is looked at.

    Attributes:
        points: values of t at which path and straight line are measured to begin with.
        tolerance: go on measuring around the highest places until the maximum of the loss is known to this; 0 leaves it
            out.
        max_barrier: largest barrier of the loss at which two networks count as connected.
        max_error_barrier: largest rise of the error above the mean of the ends at which they do, as a share of the
            examples.
    """

    points: int = 61
    tolerance: float = 1e-3
    max_barrier: float = 0.1
    max_error_barrier: float = 0.02

    def _require_measurable(self) -> None:
        if self.points < _ENDS:
            raise ConfigError(f"--points is {self.points}, expected at least {_ENDS}, for the two ends.")
        if not 0 <= self.tolerance < math.inf:
            raise ConfigError(f"--tolerance is {self.tolerance}, expected 0 or more, in units of the loss.")
        for name in ("max_barrier", "max_error_barrier"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected at least 0.")


@dataclass(frozen=True, kw_only=True)
class BandOptions(Options):
    """Elastic bands.

    Attributes:
        spring: stiffness of springs between the images of neb; 0 keeps them at even distances instead.
        climb: images of neb that climb to a saddle in the second half: none, the highest, or all peaks.
        cycles: of autoneb, as number x epochs @ rate ("4x2@0.1,2x4@0.1,4x2@0.01,4x2@0.001").
        most_images: autoneb inserts images up to this number.
        sag: autoneb inserts where the loss between two images rises above the line between theirs by more than this
            share of the band's range.
    """

    spring: float | None = None
    climb: Literal["none", "highest", "all"] | None = None
    cycles: str | None = None
    most_images: int | None = None
    sag: float | None = None


@dataclass(frozen=True, kw_only=True)
class CurveOptions(Options):
    """The kind of path.

    Attributes:
        curve: Bézier curve, polygonal chain, nudged elastic band, or a band that gets new images where it sags.
        control_points: their number, the two ends included; of a band its images to begin with (3; 9 for neb, 5 for
            autoneb).
        sampling: t of a curve uniform, or drawn more often where the loss is high.
        length_weight: penalty on the length of a curve, in units of the loss.
    """

    curve: Literal["bezier", "chain", "neb", "autoneb"] = "bezier"
    control_points: int | None = None
    sampling: Literal["uniform", "concentrated"] | None = None
    length_weight: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(RecipeOptions, ProblemOptions):
    """What is trained, and how."""


@dataclass(frozen=True, kw_only=True)
class PathOptions(CurveOptions, BandOptions, TrainingOptions):
    """Everything that a path is trained by."""

    def _require_trainable(self) -> None:
        if self.length_weight is not None and not 0 <= self.length_weight < math.inf:
            raise ConfigError(f"--length-weight is {self.length_weight}, expected at least 0.")
        for name, kinds in _BELONGS.items():
            if self.curve not in kinds and getattr(self, name, None) not in {None, False}:
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag} is for --curve {' and '.join(kinds)}; leave it out for {self.curve}.")


@dataclass(frozen=True, kw_only=True)
class FitConfig(VerdictOptions, PathOptions, CheckpointOptions, ComputeOptions, OutputOptions):
    """Find a low-loss path between two checkpoints, measure it against the straight line, and draw both.

    Attributes:
        a: checkpoint at t = 0.
        b: checkpoint at t = 1.
        out: folder for the path, the measurements and the pictures.
        start: a path between the same two checkpoints to begin with, of any kind; by default the straight line.
        free_ends: let the ends of a curve move too.
        seed: of the order of examples, of t, of augmentation and of dropout.
        plane_points: points along the longer side of the plane that is measured for plane.png; 0 leaves it out.
        save_every: seconds between two writes of the state that a resume goes on from.
    """

    a: Path
    b: Path
    out: Path
    start: Path | None = None
    free_ends: bool = False
    seed: int = 0
    plane_points: int = 21
    save_every: float = 60.0

    def __post_init__(self) -> None:
        CheckpointOptions.__post_init__(self)
        self._require_measurable()
        require_seed(self.seed)
        _require_plane(self.plane_points)
        if not self.save_every >= 0:
            raise ConfigError(f"--save-every is {self.save_every}, expected at least 0 seconds.")
        self._require_trainable()


def _require_plane(points: int) -> None:
    if points == 1 or points < 0:
        raise ConfigError(f"--plane-points is {points}, expected 0, or at least 2.")


_CURVES = ("bezier", "chain")
_BELONGS = {
    "free_ends": _CURVES,
    "sampling": _CURVES,
    "length_weight": _CURVES,
    "spring": ("neb",),
    "climb": ("neb",),
    "cycles": ("autoneb",),
    "most_images": ("autoneb",),
    "sag": ("autoneb",),
    "epochs": (*_CURVES, "neb"),
    "lr": (*_CURVES, "neb"),
    "schedule": (*_CURVES, "neb"),
    "nesterov": _CURVES,
}


@dataclass(frozen=True, kw_only=True)
class SavedPathOptions(ProblemOptions, CheckpointOptions, ComputeOptions, OutputOptions):
    """A path that was fitted before.

    Attributes:
        path: the path's file, .safetensors.
        base: a checkpoint with what the path does not hold: parameters that were not trained, and buffers.
    """

    path: Path
    base: Path | None = None

    def __post_init__(self) -> None:
        CheckpointOptions.__post_init__(self)
        if self.batch_norm not in {None, "recomputed"}:
            raise ConfigError(
                f"--batch-norm is {self.batch_norm}, but a path holds no running statistics; leave it at recomputed."
            )


@dataclass(frozen=True, kw_only=True)
class ProfileConfig(VerdictOptions, MapOptions, SavedPathOptions):
    """Measure a saved path again, against the straight line between its ends.

    Attributes:
        out: the result to write, .h5, with the picture beside it; by default beside the path, with "_profile" in its
            name.
        split: the examples that are measured, such as train, test or train,test; all stands for every split. The
            curvature is that of the first.
        seed: of the random vectors of the curvature.
        trace_products: with the curvature, estimate the Hessian's trace with so many products a point; 0 leaves it out.
        curvature_tolerance: largest residual of an eigenvalue, over its own size.
        plane_points: also measure the plane that the path lies in, with so many points along its longer side, and write
            it beside the result, with "_plane" in its name; 0 leaves it out.
    """

    out: Path | None = None
    split: str = "all"
    seed: int = 0
    plane_points: int = 0
    trace_products: int = 30
    curvature_tolerance: float = 1e-2

    def __post_init__(self) -> None:
        SavedPathOptions.__post_init__(self)
        self._require_measurable()
        MapOptions.__post_init__(self)
        require_seed(self.seed)
        _require_plane(self.plane_points)
        if self.out is not None:
            require_suffix(self.out, ".h5")

    @property
    def _tolerance_flag(self) -> str:
        return "curvature_tolerance"


@dataclass(frozen=True, kw_only=True)
class ExportConfig(SavedPathOptions):
    """Write a network on a path as an ordinary checkpoint, with batch-norm statistics recomputed there.

    Attributes:
        t: where on the path, in [0, 1].
        out: the checkpoint to write, .safetensors.
    """

    t: float
    out: Path

    def __post_init__(self) -> None:
        super().__post_init__()
        require_suffix(self.out, ".safetensors")
        if not 0 <= self.t <= 1:
            raise ConfigError(f"--t is {self.t}, expected a number in [0, 1].")


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig(SavedPathOptions):
    """Average the predictions of several networks on a path, and set them against the ends and their averages.

    Attributes:
        out: the result to write, .h5, with the picture beside it; by default beside the path, with "_ensemble" in its
            name.
        members: how many networks.
        choose: at equal lengths of the path, or one by one where the predictions differ most from those that are
            chosen already; labels take no part in it.
        candidates: networks at equal lengths of the path that the second way chooses among.
        split: the examples that are predicted.
    """

    out: Path | None = None
    members: int = 5
    choose: Literal["even", "greedy"] = "even"
    candidates: int = 21
    split: str = "test"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out is not None:
            require_suffix(self.out, ".h5")
        if "," in self.split or self.split == "all":
            raise ConfigError(f"--split is {self.split}, expected a single split, such as test.")
        if self.members < _ENDS:
            raise ConfigError(f"--members is {self.members}, expected at least {_ENDS}.")
        if self.choose == "greedy" and self.candidates < self.members:
            raise ConfigError(f"--candidates is {self.candidates}, expected at least --members {self.members}.")


@dataclass(frozen=True, kw_only=True)
class SimplexConfig(TrainingOptions, CheckpointOptions, ComputeOptions, OutputOptions):
    """Train points that join minima by whole simplices of low loss, sample inside them, and measure.

    Attributes:
        minima: checkpoints, one or more; each spans a simplex with the connecting points.
        out: folder for the simplices, the measurements and the picture.
        connecting: number of connecting points.
        volume_weight: reward for the logarithm of the volume, in units of the loss.
        samples: networks that are drawn inside and measured.
        seed: of the order of examples, of the places, of the samples and of dropout.
        save_every: seconds between two writes of the state that a resume goes on from.
    """

    minima: tuple[Path, ...]
    out: Path
    connecting: int = 2
    volume_weight: float = 0.01
    samples: int = 40
    seed: int = 0
    save_every: float = 60.0

    def __post_init__(self) -> None:
        CheckpointOptions.__post_init__(self)
        require_seed(self.seed)
        if not self.minima:
            raise ConfigError("no checkpoint is given; name one minimum or more.")
        if self.connecting < 1:
            raise ConfigError(f"--connecting is {self.connecting}, expected at least 1.")
        if self.samples < 1:
            raise ConfigError(f"--samples is {self.samples}, expected at least 1.")
        if not 0 <= self.volume_weight < math.inf:
            raise ConfigError(f"--volume-weight is {self.volume_weight}, expected at least 0.")


@dataclass(frozen=True, kw_only=True)
class GraphConfig(PathOptions, CheckpointOptions, ComputeOptions, OutputOptions):
    """Map minima and the passes between them: which share a valley, at which height.

    Attributes:
        checkpoints: checkpoints, or folders of them; with resume, more of them than before.
        out: folder for the graph, the paths and the pictures.
        strategy: join what is apart by its nearest pair first, or through the lowest minimum; either then takes the
            pair whose bounds are furthest apart. All joins every pair.
        budget: join at most so many pairs, those of earlier runs included; by default as many as it takes.
        tolerance: a pair is never joined when its bounds meet within this, in units of the loss.
        points: values of t at which a way is measured to begin with.
        sharpness: also find the largest eigenvalue of the Hessian at every minimum.
        samples: take the Hessian over so many examples; by default over all.
        members: how many minima an ensemble has, where the best are compared with random ones; 0 leaves it out.
        seed: of the order of examples, of t, of augmentation, of dropout and of random choices.
        save_every: seconds between two writes of the state of a fit that a resume goes on from.
    """

    checkpoints: tuple[Path, ...]
    out: Path
    strategy: Literal["nearest", "lowest", "all"] = "nearest"
    budget: int | None = None
    tolerance: float = 0.01
    points: int = 31
    sharpness: bool = False
    samples: int | None = None
    members: int = 3
    seed: int = 0
    save_every: float = 60.0

    def __post_init__(self) -> None:
        CheckpointOptions.__post_init__(self)
        self._require_trainable()
        require_seed(self.seed)
        if not 0 < self.tolerance < math.inf:
            raise ConfigError(f"--tolerance is {self.tolerance}, expected above 0, in units of the loss.")
        if self.batch_norm not in {None, "recomputed"}:
            raise ConfigError(
                f"--batch-norm is {self.batch_norm}, under which a pass would depend on all other minima; leave it at "
                "recomputed."
            )
        if self.points <= _ENDS:
            raise ConfigError(f"--points is {self.points}, expected at least {_ENDS + 1}: two ends and one between.")
        for name, least in (("budget", 0), ("samples", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"--{name} is {value}, expected at least {least}.")
        if self.samples is not None and not self.sharpness:
            raise ConfigError("--samples is for --sharpness; add it, or leave --samples out.")
        if self.members < 0 or self.members == 1:
            raise ConfigError(f"--members is {self.members}, expected 0, or at least {_ENDS}.")
        if not self.save_every >= 0:
            raise ConfigError(f"--save-every is {self.save_every}, expected at least 0 seconds.")
