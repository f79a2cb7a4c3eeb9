"""What each command can be told: one frozen dataclass a command, made of groups of options that check themselves.

Its own fields and those of its groups are the command's flags. Nothing here imports torch, so that `--help` answers at
once.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from landscape.app.options import Options, at_least, expected, flags, group, option, suffix, values
from landscape.errors import ConfigError
from landscape.plots.registry import FLAT_STYLES, choose_styles
from landscape.sweeps.grid import MOST_POINTS, parse_axis

EIGENVECTOR_AXES = {"eigenvectors": 1, "top-eigenvectors": 2}  # of the largest eigenvalues
PICTURE_SUFFIXES = (".png", ".pdf", ".svg")

Seed = Annotated[int, expected("0 to 2^63 - 1", lambda seed: 0 <= seed < 2**63)]
Count = Annotated[int, at_least(1)]
CountOrNone = Annotated[int | None, at_least(1)]
Range = Annotated[str | None, parse_axis]
Grid = Annotated[int, expected(f"2 to {MOST_POINTS}", lambda points: 2 <= points <= MOST_POINTS)]

ResultFile = Annotated[Path, suffix(".h5")]
TensorFile = Annotated[Path, suffix(".safetensors")]
TraceProducts = Annotated[int, expected("0 or at least 6", lambda products: products == 0 or products >= 6)]


@dataclass(frozen=True, kw_only=True)
class ProblemOptions(Options):
    """What is studied. A checkpoint of `landscape train` brings its problem along; these change or replace it.

    What is not built in is named again here, since a file runs no code; its arguments come from the checkpoint. Results
    state the problem that these lead to.

    Attributes:
        problem: a YAML file with model, model_args, data, data_args, loss and outputs.
        model: registry name, hf:FOLDER, timm:NAME, torchvision:NAME, package.module:factory or path/file.py:factory; by
            default what a checkpoint that is a folder of save_pretrained describes.
        model_args: the factory's arguments, as JSON or YAML.
        data: registry name, text:FILE, package.module:factory or path/file.py:factory.
        data_args: the factory's arguments, as JSON or YAML.
        data_root: folder with the data's files; short for the argument "root".
        download: fetch the data's files if they are missing.
        loss: registry name, package.module:function or path/file.py:function.
        outputs: where scores lie in what the network returns: classes_first for (B, C, ...), classes_last for
            (B, ..., C), or package.module:function or path/file.py:function that gives the latter; by default last in
            what has logits and where the network says so, else first.
        trainable: pattern of the parameters that move, such as "*.lora_*"; by default all that require a gradient.
    """

    problem: Path | None = None
    model: str | None = option(None, harmless=True)
    model_args: dict[str, Any] | None = option(None, harmless=True)
    data: str | None = option(None, harmless=True)
    data_args: dict[str, Any] | None = option(None, harmless=True)
    data_root: Path | None = None
    download: bool = option(False, harmless=True)
    loss: str | None = option(None, harmless=True)
    outputs: str | None = option(None, harmless=True)
    trainable: str | None = None


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(Options):
    """Where and how losses are evaluated. Results state the device, type and batch size that these lead to.

    Attributes:
        device: "auto" takes a GPU if there is one.
        precision: bf16 evaluates losses and trains under autocast; parameters, control points and curvature stay in
            float32.
        dtype: of parameters and data; auto takes float64 where network or checkpoint is all in that, else float32.
        eval_batch_size: examples a batch in evaluation; by default the fastest of a few, measured.
    """

    device: Literal["auto", "cpu", "cuda"] = option("auto", harmless=True)
    precision: Literal["fp32", "bf16"] = "fp32"
    dtype: Literal["auto", "float32", "float64"] = option("auto", harmless=True)
    eval_batch_size: int | None = option(None, harmless=True)


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions(Options):
    """How checkpoints are read, and what batch norm holds away from them.

    Attributes:
        trust_pickle: run code that a pickled checkpoint brings along.
        trust_code: run code of your own that a file's metadata name: its model, data or loss, package.module:factory or
            path/file.py:factory. Without it a file names only what is built in, and these flags name the rest.
        state_key: where the weights lie in a pickled checkpoint, such as ema or trainer.model, if they are not found.
        strip_prefix: take the tensors of a foreign checkpoint whose names begin with this, and take it off their names.
        batch_norm: running statistics away from the checkpoints; frozen as they are in the first (the default around a
            single one), moved linearly between several, or gathered anew at every point from the training examples
            (the default wherever several take part).
        statistics_batch_size: examples a batch where batch-norm statistics are recomputed.
    """

    trust_pickle: bool = option(False, harmless=True)
    trust_code: bool = option(False, harmless=True)
    state_key: str | None = option(None, harmless=True)
    strip_prefix: str | None = option(None, harmless=True)
    batch_norm: Literal["frozen", "interpolated", "recomputed"] | None = None
    statistics_batch_size: Annotated[int, at_least(2)] = 256

    def require_recomputed(self, reason: str) -> None:
        """Check that statistics are recomputed.

        Raises:
            ConfigError: they are not; `reason` says why they have to be.
        """
        if self.batch_norm not in {None, "recomputed"}:
            raise ConfigError(f"--batch-norm is {self.batch_norm}, {reason}; leave it at recomputed.")


@dataclass(frozen=True, kw_only=True)
class OutputOptions(Options):
    """What happens to files that are there already.

    Attributes:
        resume: go on with an interrupted run.
        overwrite: replace what is there.
    """

    resume: bool = option(False, harmless=True)
    overwrite: bool = option(False, harmless=True)

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise ConfigError("--resume goes on with what is there and --overwrite replaces it; leave one of them out.")


@dataclass(frozen=True, kw_only=True)
class RecipeOptions(Options):
    """Stochastic descent; what is not given comes from the problem's file, then from the defaults.

    Attributes:
        epochs: passes over the training examples (40 unless the problem's file says otherwise).
        optimiser: SGD with momentum, or AdamW (that by which the checkpoints were trained; else adamw for a network
            with attention, and sgd).
        lr: peak learning rate (0.1; 0.001 by adamw).
        batch_size: examples a step (128).
        momentum: of sgd, in [0, 1) (0.9).
        nesterov: Nesterov's form of momentum, of sgd (true).
        betas: of adamw, what the means of gradients and of their squares keep at a step (0.9 0.999).
        weight_decay: strength (5e-4; 0.01 by adamw, which takes it off the weights beside the gradient).
        schedule: the rate's course ("onecycle" for a minimum, "cosine" by adamw; "linear" for a path, flat to half and
            then down to 1 %).
        warmup: share of all steps over which the rate rises, but by "onecycle", which has its own (0; 0.05 by adamw).
        clip: largest norm of a batch's gradient; 0 leaves it as it is (0; 1 by adamw).
        augment: random changes of training images, crop,flip or one of them (none).
        accumulate: run each batch in so many parts, to take less memory; batch norm sees a part at a time (1).
    """

    epochs: int | None = None
    optimiser: Literal["sgd", "adamw"] | None = None
    lr: float | None = None
    batch_size: int | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    betas: tuple[float, ...] | None = None
    weight_decay: float | None = None
    schedule: Literal["constant", "step", "onecycle", "linear", "cosine"] | None = None
    warmup: float | None = None
    clip: float | None = None
    augment: str | None = None
    accumulate: int | None = None


@dataclass(frozen=True, kw_only=True, init=False)
class TrainConfig(Options):
    """Train a minimum: a network from random weights to a checkpoint that carries its problem.

    Attributes:
        out: the checkpoint to write, .safetensors.
        seed: of the initial weights, the order of examples and dropout.
        snapshots: folder for one checkpoint an epoch.
    """

    out: TensorFile
    seed: Seed = 0
    snapshots: Path | None = None
    recipe: RecipeOptions = group(harmless=True)
    problem: ProblemOptions
    compute: ComputeOptions
    output: OutputOptions


@dataclass(frozen=True, kw_only=True)
class DirectionOptions(Options):
    """Directions through weight space.

    Attributes:
        normalise: scale directions filter by filter or tensor by tensor to the length of the weights, or not; filter by
            default for random directions, not at all for others.
        biases: let directions also move biases and the parameters of normalisation layers.
        seed: of random directions.
    """

    normalise: Literal["filter", "layer", "none"] | None = None
    biases: bool = False
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class CurvatureOptions(Options):
    """How the Hessian is looked at.

    Attributes:
        tolerance: largest residual of an eigenvalue, over its own size; it bounds the eigenvalue's error, which is far
            smaller as a rule.
        parameters: of which parameters: weights (tensors of more than one dimension), all, or a pattern of names.
        samples: take the Hessian over a fixed random sample of so many examples; by default over all.
        vectors: keep at most so many vectors of the parameters' size, and restart the search from the best of them; by
            default one for each product. About ten more are needed beside them.
    """

    tolerance: Annotated[float, expected("a number in (0, 1), such as 0.001", lambda share: 0 < share < 1)] = 1e-3
    parameters: str = "weights"
    samples: CountOrNone = None
    vectors: int | None = None

    def __post_init__(self) -> None:
        self.require_vectors(1)

    def require_vectors(self, top: int) -> None:
        """Check that the vectors suffice to search for so many eigenvalues at either end.

        Raises:
            ConfigError: they do not.
        """
        least = self._least(top)
        if self.vectors is not None and self.vectors < least:
            raise ConfigError(f"--vectors is {self.vectors}, expected at least {least} for {top} at either end.")

    def held(self, top: int = 1) -> int:
        """The vectors that a search holds at once; where no number is named, at least."""
        return self._least(top) if self.vectors is None else self.vectors

    @staticmethod
    def _least(top: int) -> int:
        return 4 * top + 4


@dataclass(frozen=True, kw_only=True)
class MapOptions(Options):
    """Both ends of the Hessian's spectrum at every point of a grid.

    Attributes:
        curvature: find them.
        second_sample: find them also over a second sample, which shares no example with the first, to tell how much of
            them is the sample.
        trace_products: also estimate the trace, with so many products a point; 0 leaves it out.
    """

    curvature: bool = False
    second_sample: bool = False
    trace_products: TraceProducts = 0


def require_curvature(config: Options, *, for_axes: bool = False) -> None:
    """Check that what is for curvature over a grid comes with it.

    Args:
        config: of a command with the groups `map` and `curvature`.
        for_axes: the axes take the Hessian, too.

    Raises:
        ConfigError: it is missing.
    """
    given, known = values(config), flags(type(config))
    of_groups = {"map"} if for_axes else {"map", "curvature"}
    for word, value in () if given["curvature"] else given.items():
        if known[word].group in of_groups and value != known[word].default:
            name = known[word].name
            raise ConfigError(f"{name} is for --curvature; add it, or leave {name} out.")
    if given["second_sample"] and given["samples"] is None:
        raise ConfigError("--second-sample needs --samples, the size of both.")


@dataclass(frozen=True, kw_only=True, init=False)
class LineConfig(Options):
    """Measure the loss along a line: between two checkpoints, or away from one in random directions.

    Attributes:
        a: checkpoint at 0.
        b: checkpoint at 1; without it, lines lead from a in random directions, in which 1 is as long as the weights.
        out: the result to write, .h5; pictures are put beside it.
        range: values along the line, start:stop:count (-0.5:1.5:401 between two, -1:1:51 around one).
        directions: number of random directions, which are drawn as a band.
        split: the examples that are measured, such as train, test or train,test; all stands for every split. The
            curvature is that of the first.
    """

    a: Path
    b: Path | None = None
    out: ResultFile
    range: Range = None
    directions: Count = 1
    split: str = "all"
    direction: DirectionOptions
    map: MapOptions = group(harmless=True, trace_products=30)
    curvature: CurvatureOptions = group(harmless=True, tolerance=1e-2)
    problem: ProblemOptions
    checkpoints: CheckpointOptions
    compute: ComputeOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        require_curvature(self)
        if self.a == self.b:
            raise ConfigError(f"--a and --b are both {self.a}; no line leads from one to the other.")
        random = self.directions != 1 or self.direction.normalise is not None or self.direction.biases
        if self.b is not None and random:
            raise ConfigError(
                "--directions, --normalise and --biases are for random directions; leave them or --b out."
            )


@dataclass(frozen=True, kw_only=True, init=False)
class SurfaceConfig(Options):
    """Measure the loss on a plane around one checkpoint or through three, and draw it.

    Attributes:
        checkpoint: the centre.
        out: the result to write, .h5; pictures are put beside it.
        x: range of the first axis, start:stop:count (-1:1:51 on random axes, where 1 is as long as the weights
            themselves; else around whatever is marked).
        y: range of the second axis.
        points: points along the longer side, where a range is not given.
        axes: "random"; "difference", towards one or two checkpoints; "pca", the principal components of --towards
            around the centre; "eigenvectors" of the Hessian's largest and smallest eigenvalue, or "top-eigenvectors" of
            its two largest, of length 1; or a file of directions in the layout of the loss-landscape repository.
        towards: checkpoints for the axes "difference" and "pca".
        through: two further checkpoints; the plane goes through all three, with distances in weight space on its axes.
        project: checkpoints and paths to mark on the plane, with their distance from it.
        split: the examples that are measured, such as train, test or train,test; all stands for every split. The
            curvature is that of the first.
        draws: repeat with the seeds seed, seed + 1, and so on, and draw small multiples.
        adaptive: measure only as many points as the loss needs to be known to this share of its logarithmic range,
            such as 0.01.
        save_axes: write the two directions in the layout of the loss-landscape repository, .h5.
    """

    checkpoint: Path
    out: ResultFile
    x: Range = None
    y: Range = None
    points: Grid = 51
    axes: str = "random"
    towards: tuple[Path, ...] = ()
    through: tuple[Path, ...] = ()
    project: tuple[Path, ...] = ()
    split: str = "train"
    draws: Count = 1
    adaptive: Annotated[
        float | None, expected("a share of the range in (0, 1), such as 0.01", lambda share: 0 < share < 1)
    ] = None
    save_axes: Annotated[Path | None, suffix(".h5")] = None
    direction: DirectionOptions
    map: MapOptions = group(harmless=True)
    curvature: CurvatureOptions = group(harmless=True, tolerance=1e-2)
    problem: ProblemOptions
    checkpoints: CheckpointOptions
    compute: ComputeOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        require_curvature(self, for_axes=self.axes in EIGENVECTOR_AXES)
        scaled = self.direction.normalise, self.direction.biases
        if self.through and (len(self.through) != 2 or self.towards or self.axes != "random"):
            raise ConfigError("--through takes two checkpoints, which with --checkpoint fix the plane and its axes.")
        if (self.through or self.axes not in {"random", "difference", "pca"}) and any(scaled):
            raise ConfigError(
                "axes --through checkpoints, along eigenvectors or from a file have a length of their own; "
                "leave out --normalise and --biases."
            )
        if self.axes in {"difference", "pca"} and scaled in {(None, True), ("none", True)}:
            raise ConfigError(f"--axes {self.axes} moves biases as it is; --biases is for --normalise filter or layer.")
        if (self.axes in ("pca", "difference")) != bool(self.towards):
            raise ConfigError("--axes pca and --axes difference need --towards CHECKPOINT…, and no other axes take it.")
        if self.axes == "difference" and len(self.towards) > 2:
            raise ConfigError(f"--axes difference takes one or two checkpoints --towards, got {len(self.towards)}.")
        if self.axes == "pca" and len(self.towards) < 2:
            raise ConfigError("--axes pca needs at least two checkpoints --towards.")
        if self.draws > 1 and (self.through or self.axes != "random" or self.project or self.save_axes):
            raise ConfigError("--draws repeats random axes only, and without --project and --save-axes.")
        if self.adaptive is not None and self.map.curvature:
            raise ConfigError("--adaptive interpolates the loss alone; leave out --adaptive or --curvature.")
        if self.save_axes is not None and self.save_axes.absolute() == self.out.absolute():
            raise ConfigError(f"--save-axes and --out are both {self.out}; name two files.")


@dataclass(frozen=True, kw_only=True, init=False)
class TrajectoryConfig(Options):
    """Project the snapshots of trainings on their two principal components, over the loss.

    Attributes:
        snapshots: checkpoints in their order, or folders of them; each folder is a trajectory of its own.
        out: the result to write, .h5; pictures are put beside it.
        x: range of the first component, start:stop:count; by default around all trajectories.
        y: range of the second component.
        points: points along the longer side, where a range is not given; 0 draws the trajectories alone.
        split: the examples that are measured, such as train, test or train,test; all stands for every split.
    """

    snapshots: tuple[Path, ...]
    out: ResultFile
    x: Range = None
    y: Range = None
    points: Annotated[
        int, expected(f"0, or 2 to {MOST_POINTS}", lambda points: 0 <= points <= MOST_POINTS and points != 1)
    ] = 31
    split: str = "train"
    problem: ProblemOptions
    checkpoints: CheckpointOptions
    compute: ComputeOptions
    output: OutputOptions


@dataclass(frozen=True, kw_only=True)
class DrawingOptions(Options):
    """How pictures look.

    Attributes:
        style: pictures to draw, such as filled,3d; all stands for every kind that the result has, and html and vts are
            for looking around on a screen. By default what suits the result.
        quantity: what to draw, such as test_loss, train_error or ratio; by default the loss of the first split.
        scale: of the colours; by default logarithmic where the values span a factor of ten.
        low: where the colours begin; what lies below is shown in their first.
        high: where the colours end; what lies above is shown in a colour of its own.
        colour_map: one that eyes without red and green can read.
    """

    style: str | None = None
    quantity: str | None = None
    scale: Literal["auto", "linear", "log"] = "auto"
    low: Annotated[float | None, expected("a number", math.isfinite)] = None
    high: Annotated[float | None, expected("a number", math.isfinite)] = None
    colour_map: Literal["viridis", "cividis", "magma", "gray"] = "viridis"

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ConfigError(f"--low is {self.low} and --high is {self.high}; the colours need low < high.")
        if self.scale == "log" and any(v is not None and v <= 0 for v in (self.low, self.high)):
            raise ConfigError("--scale log needs --low and --high above 0.")


@dataclass(frozen=True, kw_only=True, init=False)
class PlotConfig(Options):
    """Draw a result again, from its file alone.

    Attributes:
        result: the result's file, .h5; the layout of the loss-landscape repository is read too.
        out: folder for the pictures; by default the result's own.
        format: of the pictures.
        colour: the attribute that the minima of a graph are coloured by: seed, batch_size, test_accuracy, or any other.
    """

    result: Path
    out: Path | None = None
    format: Literal["png", "pdf", "svg"] = "png"
    colour: str | None = None
    drawing: DrawingOptions


@dataclass(frozen=True, kw_only=True, init=False)
class CompareConfig(Options):
    """Draw several surfaces or lines side by side on one common scale, with the test error under each.

    Attributes:
        results: the results' files, .h5.
        out: the picture to write, .png, .pdf or .svg.
        labels: a title for each; by default the files' names.
        columns: panels in a row; by default what makes the figure about as wide as high.
        overwrite: replace the picture.
    """

    results: tuple[Path, ...]
    out: Annotated[Path, suffix(*PICTURE_SUFFIXES)]
    labels: tuple[str, ...] = ()
    columns: CountOrNone = None
    overwrite: bool = False
    drawing: DrawingOptions

    def __post_init__(self) -> None:
        if self.labels and len(self.labels) != len(self.results):
            raise ConfigError(f"there are {len(self.results)} results, but {len(self.labels)} --labels.")
        if len(choose_styles(self.drawing.style, FLAT_STYLES, ["filled"])) != 1:
            raise ConfigError(f"one figure has one --style; choose one of {', '.join(FLAT_STYLES)}.")


@dataclass(frozen=True, kw_only=True, init=False)
class ConvertConfig(Options):
    """Write a line or a surface in the layout of the loss-landscape repository, or one of that layout in ours.

    Attributes:
        result: the result's file, .h5.
        out: the file to write, .h5.
        overwrite: replace the file.
    """

    result: Path
    out: ResultFile
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True, init=False)
class StudyConfig(Options):
    """Run a study: train its networks, measure them, and draw them side by side.

    Attributes:
        study: a YAML file that names networks and what to do with them.
        out: folder for checkpoints, results and pictures.
        data_root: folder with the data's files.
        download: fetch the data's files if they are missing.
        quick: take the values under `quick` in the file over the others: fewer examples, epochs or points.
    """

    study: Path
    out: Path
    data_root: Path | None = None
    download: bool = False
    quick: bool = False
    compute: ComputeOptions
    output: OutputOptions


@dataclass(frozen=True, kw_only=True, init=False)
class HessianConfig(Options):
    """Find the ends of the Hessian's spectrum at a checkpoint, its density and its trace.

    Attributes:
        checkpoint: where.
        out: the result to write, .h5; the eigenvectors and pictures are put beside it. Without it the spectrum is
            printed, and nothing is written.
        matrix: the Hessian, or the Gauss-Newton matrix, its part that is as convex as the loss in the outputs.
        top: how many of the largest and of the smallest eigenvalues.
        density: estimate how all eigenvalues are distributed.
        trace: estimate their sum.
        layers: also each tensor's own largest eigenvalue and trace.
        probes: random vectors for the density.
        steps: products for each of them.
        trace_products: products for the trace.
        seed: of random vectors.
        split: the examples.
    """

    checkpoint: Path
    out: Annotated[Path | None, suffix(".h5")] = None
    matrix: Literal["hessian", "gauss_newton"] = "hessian"
    top: Count = 1
    density: bool = option(False, harmless=True)
    trace: bool = option(False, harmless=True)
    layers: bool = option(False, harmless=True)
    probes: Count = 8
    steps: Annotated[int, at_least(2)] = 60
    trace_products: Annotated[int, at_least(6)] = 60
    seed: Seed = 0
    split: str = "train"
    curvature: CurvatureOptions
    problem: ProblemOptions
    checkpoints: CheckpointOptions
    compute: ComputeOptions
    output: OutputOptions

    def __post_init__(self) -> None:
        if self.out is None and (self.output.resume or self.output.overwrite):
            flag = "--resume" if self.output.resume else "--overwrite"
            raise ConfigError(f"{flag} is for a file, and none is named; give --out FILE.h5 as well.")
        self.curvature.require_vectors(self.top)
