"""What each command of `connect` can be told; see `landscape.app.config`. Nothing here imports torch."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from landscape.app.config import (
    CheckpointOptions,
    ComputeOptions,
    Count,
    CountOrNone,
    CurvatureOptions,
    MapOptions,
    OutputOptions,
    ProblemOptions,
    RecipeOptions,
    Seed,
    TensorFile,
    require_curvature,
)
from landscape.app.config import PlotConfig as PlotConfig  # noqa: PLC0414 - one configuration draws all results
from landscape.app.options import Options, at_least, expected, flags, group, option, suffix, values
from landscape.errors import ConfigError

_ENDS = 2

PlanePoints = Annotated[int, expected(f"0, or at least {_ENDS}", lambda points: points == 0 or points >= _ENDS)]
Seconds = Annotated[float, at_least(0, " seconds")]
_Barrier = Annotated[float, at_least(0)]
_Weight = expected("at least 0", lambda weight: 0 <= weight < math.inf)


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

    points: Annotated[int, at_least(_ENDS, ", for the two ends")] = 61
    tolerance: Annotated[float, expected("0 or more, in units of the loss", lambda loss: 0 <= loss < math.inf)] = 1e-3
    max_barrier: _Barrier = option(0.1, harmless=True)
    max_error_barrier: _Barrier = option(0.02, harmless=True)


@dataclass(frozen=True, kw_only=True)
class BandOptions(Options):
    """Elastic bands.

    Attributes:
        spring: stiffness of springs between the images of neb; 0 keeps them at even distances instead.
        climb: images of neb that climb to a saddle in the second half: none, the highest, or all peaks.
        cycles: of autoneb, as number x epochs @ rate ("4x2@0.1,2x4@0.1,4x2@0.01,4x2@0.001"; by adamw a hundredth of
            these rates).
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
    length_weight: Annotated[float | None, _Weight] = None


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


def _require_of_curve(config: Options) -> None:
    """Check that a command's options are for the kind of path that it trains.

    Raises:
        ConfigError: one is for another kind.
    """
    given, known = values(config), flags(type(config))
    for word, kinds in _BELONGS.items():
        if given["curve"] not in kinds and given.get(word) not in {None, False}:
            raise ConfigError(
                f"{known[word].name} is for --curve {' and '.join(kinds)}; leave it out for {given['curve']}."
            )


@dataclass(frozen=True, kw_only=True, init=False)
class FitConfig(Options):
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
    free_ends: bool = option(False, harmless=True)
    seed: Seed = 0
    plane_points: PlanePoints = option(21, harmless=True)
    save_every: Seconds = option(60.0, harmless=True)
    verdict: VerdictOptions
    curve: CurveOptions = group(harmless=True)
    band: BandOptions = group(harmless=True)
    recipe: RecipeOptions = group(harmless=True)
    problem: ProblemOptions
    checkpoints: CheckpointOptions
    compute: ComputeOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        _require_of_curve(self)


@dataclass(frozen=True, kw_only=True)
class SavedPathOptions(Options):
    """A path that was fitted before.

    Attributes:
        path: the path's file, .safetensors.
        base: a checkpoint with what the path does not hold: parameters that were not trained, and buffers.
    """

    path: Path
    base: Path | None = None


def _require_recomputed(checkpoints: CheckpointOptions) -> None:
    checkpoints.require_recomputed("but a path holds no running statistics")


@dataclass(frozen=True, kw_only=True, init=False)
class ProfileConfig(Options):
    """Measure a saved path again, against the straight line between its ends.

    Attributes:
        out: the result to write, .h5, with the picture beside it; by default beside the path, with "_profile" in its
            name.
        split: the examples that are measured, such as train, test or train,test; all stands for every split. The
            curvature is that of the first.
        seed: of the random vectors of the curvature.
        plane_points: also measure the plane that the path lies in, with so many points along its longer side, and write
            it beside the result, with "_plane" in its name; 0 leaves it out.
    """

    out: Annotated[Path | None, suffix(".h5")] = None
    split: str = "all"
    seed: Seed = 0
    plane_points: PlanePoints = option(0, harmless=True)
    verdict: VerdictOptions
    map: MapOptions = group(harmless=True, trace_products=30)
    curvature: CurvatureOptions = group(harmless=True, words={"tolerance": "curvature_tolerance"}, tolerance=1e-2)
    saved: SavedPathOptions
    problem: ProblemOptions
    checkpoints: CheckpointOptions
    compute: ComputeOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        _require_recomputed(self.checkpoints)
        require_curvature(self)


@dataclass(frozen=True, kw_only=True, init=False)
class AlignConfig(Options):
    """Bring one network's hidden units in the order of another's, which leaves what it computes as it is.

    Attributes:
        a: the checkpoint whose order is taken.
        b: the checkpoint that is brought into it; only --explain goes without.
        out: the aligned checkpoint to write, .safetensors.
        method: what units are compared by: their weights.
        explain: say which units may change places, how that was proven, and what keeps its place and why.
        restarts: how often the matching begins, in other orders; the best is taken.
        seed: of orders, and of the permutations by which groups are proven.
    """

    a: Path
    b: Path | None = None
    out: Annotated[Path | None, suffix(".safetensors")] = None
    method: Literal["weights"] = "weights"
    explain: bool = option(False, harmless=True)
    restarts: Annotated[int, at_least(1)] = 1
    seed: Seed = 0
    problem: ProblemOptions
    checkpoints: CheckpointOptions
    compute: ComputeOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        if self.b is None and not self.explain:
            raise ConfigError("--b is missing: the checkpoint that is brought into the order of --a.")
        if self.out is None and not self.explain:
            raise ConfigError("--out is missing: the aligned checkpoint to write; --explain goes without.")
        if self.out is not None and self.b is None:
            raise ConfigError("--out is given, but no --b to align.")


@dataclass(frozen=True, kw_only=True, init=False)
class MergeConfig(Options):
    """Average two networks into an ordinary checkpoint, with batch-norm statistics recomputed, and measure it.

    Attributes:
        a: one checkpoint.
        b: the other.
        out: the checkpoint to write, .safetensors.
        t: the share of b, in [0, 1].
        align: bring b's hidden units in the order of a's before, by what they are compared by; see connect align.
        seed: of the alignment.
    """

    a: Path
    b: Path
    out: TensorFile
    t: Annotated[float, expected("a number in [0, 1]", lambda t: 0 <= t <= 1)] = 0.5
    align: Literal["weights"] | None = None
    seed: Seed = 0
    problem: ProblemOptions
    checkpoints: CheckpointOptions
    compute: ComputeOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        self.checkpoints.require_recomputed("but an average has statistics of its own")


@dataclass(frozen=True, kw_only=True, init=False)
class ExportConfig(Options):
    """Write a network on a path as an ordinary checkpoint, with batch-norm statistics recomputed there.

    Attributes:
        t: where on the path, in [0, 1].
        out: the checkpoint to write, .safetensors.
    """

    t: Annotated[float, expected("a number in [0, 1]", lambda t: 0 <= t <= 1)] = option(harmless=True)
    out: TensorFile
    saved: SavedPathOptions
    problem: ProblemOptions
    checkpoints: CheckpointOptions
    compute: ComputeOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        _require_recomputed(self.checkpoints)


@dataclass(frozen=True, kw_only=True, init=False)
class EnsembleConfig(Options):
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

    out: Annotated[Path | None, suffix(".h5")] = None
    members: Annotated[int, at_least(_ENDS)] = 5
    choose: Literal["even", "greedy"] = "even"
    candidates: int = 21
    split: Annotated[
        str, expected("a single split, such as test", lambda split: "," not in split and split != "all")
    ] = "test"
    saved: SavedPathOptions
    problem: ProblemOptions
    checkpoints: CheckpointOptions
    compute: ComputeOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        _require_recomputed(self.checkpoints)
        if self.choose == "greedy" and self.candidates < self.members:
            raise ConfigError(f"--candidates is {self.candidates}, expected at least --members {self.members}.")


@dataclass(frozen=True, kw_only=True, init=False)
class SimplexConfig(Options):
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
    connecting: Count = 2
    volume_weight: Annotated[float, _Weight] = 0.01
    samples: Count = 40
    seed: Seed = 0
    save_every: float = option(60.0, harmless=True)
    recipe: RecipeOptions = group(harmless=True)
    problem: ProblemOptions
    checkpoints: CheckpointOptions
    compute: ComputeOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        if not self.minima:
            raise ConfigError("no checkpoint is given; name one minimum or more.")


@dataclass(frozen=True, kw_only=True, init=False)
class GraphConfig(Options):
    """Map minima and the passes between them: which share a valley, at which height.

    Attributes:
        minima: checkpoints, or folders of them; with resume, more of them than before.
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

    minima: tuple[Path, ...] = option(word="checkpoints")
    out: Path
    strategy: Literal["nearest", "lowest", "all"] = option("nearest", harmless=True)
    budget: Annotated[int | None, at_least(0)] = option(None, harmless=True)
    tolerance: Annotated[
        float, expected("above 0, in units of the loss", lambda loss: 0 < loss < math.inf)
    ] = option(0.01, harmless=True)  # fmt: skip
    points: Annotated[int, at_least(_ENDS + 1, ": two ends and one between")] = 31
    sharpness: bool = False
    samples: CountOrNone = option(None, harmless=True)
    members: PlanePoints = option(3, harmless=True)
    seed: Seed = 0
    save_every: Seconds = option(60.0, harmless=True)
    curve: CurveOptions = group(harmless=True)
    band: BandOptions = group(harmless=True)
    recipe: RecipeOptions = group(harmless=True)
    problem: ProblemOptions
    checkpoints: CheckpointOptions
    compute: ComputeOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        _require_of_curve(self)
        self.checkpoints.require_recomputed("under which a pass would depend on all other minima")
        if self.samples is not None and not self.sharpness:
            raise ConfigError("--samples is for --sharpness; add it, or leave --samples out.")
