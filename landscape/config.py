"""What each command can be told: one frozen dataclass a command, whose fields are the command's flags.

Nothing here imports torch, so that `--help` answers at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from landscape.errors import ConfigError

_SEEDS = 2**63


def require_seed(seed: int) -> None:
    """Check that generators take a seed.

    Raises:
        ConfigError: they do not.
    """
    if not 0 <= seed < _SEEDS:
        raise ConfigError(f"--seed is {seed}, expected 0 to 2^63 - 1.")


@dataclass(frozen=True, kw_only=True)
class ProblemOptions:
    """What is studied. A checkpoint of `landscape train` brings its problem along; these change or replace it.

    Attributes:
        problem: a YAML file with model, model_args, data, data_args and loss.
        model: registry name, package.module:factory or path/file.py:factory.
        model_args: the factory's arguments, as JSON or YAML.
        data: registry name, package.module:factory or path/file.py:factory.
        data_args: the factory's arguments, as JSON or YAML.
        data_root: folder with the data's files; short for the argument "root".
        download: fetch the data's files if they are missing.
        loss: registry name, package.module:function or path/file.py:function.
        trainable: pattern of the parameters that move, such as "*.lora_*"; by default all that require a gradient.
    """

    problem: Path | None = None
    model: str | None = None
    model_args: dict[str, Any] | None = None
    data: str | None = None
    data_args: dict[str, Any] | None = None
    data_root: Path | None = None
    download: bool = False
    loss: str | None = None
    trainable: str | None = None


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Where and how losses are evaluated.

    Attributes:
        device: "auto" takes a GPU if there is one.
        precision: bf16 evaluates losses under autocast.
        eval_batch_size: examples a batch in evaluation; by default the fastest of a few, measured.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    eval_batch_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """How checkpoints are read, and what batch norm holds away from them.

    Attributes:
        trust_pickle: run code that a pickled checkpoint brings along.
        statistics_batch_size: examples a batch where batch-norm statistics are recomputed.
    """

    trust_pickle: bool = False
    statistics_batch_size: int = 256

    def __post_init__(self) -> None:
        if self.statistics_batch_size < 2:
            raise ConfigError(f"--statistics-batch-size is {self.statistics_batch_size}, expected at least 2.")


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What happens to files that are there already.

    Attributes:
        resume: go on with an interrupted run.
        overwrite: replace what is there.
    """

    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """Stochastic gradient descent; what is not given comes from the problem's file, then from the defaults.

    Attributes:
        epochs: passes over the training examples (40 unless the problem's file says otherwise).
        lr: peak learning rate (0.1).
        batch_size: examples a step (128).
        momentum: in [0, 1) (0.9).
        nesterov: Nesterov's form of momentum (true).
        weight_decay: strength (5e-4).
        schedule: the rate's course ("onecycle" for a minimum; "linear" for a path, flat to half and then down to 1 %).
    """

    epochs: int | None = None
    lr: float | None = None
    batch_size: int | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    weight_decay: float | None = None
    schedule: Literal["constant", "step", "onecycle", "linear"] | None = None

    def recipe_values(self) -> dict[str, Any]:
        """The recipe's values by name; None where nothing was given."""
        return {name: getattr(self, name) for name in RecipeOptions.__dataclass_fields__}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RecipeOptions, ProblemOptions, ComputeOptions, OutputOptions):
    """Train a minimum: a network from random weights to a checkpoint that carries its problem.

    Attributes:
        out: the checkpoint to write, .safetensors.
        seed: of the initial weights, the order of examples and dropout.
        snapshots: folder for one checkpoint an epoch.
    """

    out: Path
    seed: int = 0
    snapshots: Path | None = None

    def __post_init__(self) -> None:
        require_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class SurfaceConfig(ProblemOptions, CheckpointOptions, ComputeOptions, OutputOptions):
    """Measure the loss on a random plane around one checkpoint, and draw it.

    Attributes:
        checkpoint: the centre.
        out: the result to write, .h5; pictures are put beside it.
        x: range of the first axis, start:stop:count; 1 is as long as the weights themselves.
        y: range of the second axis.
        normalise: scale the random directions filter by filter, tensor by tensor, or not.
        batch_norm: running statistics of the centre, or gathered anew at every point.
        seed: of the two directions.
        split: the examples that are measured.
    """

    checkpoint: Path
    out: Path
    x: str = "-1:1:51"
    y: str = "-1:1:51"
    normalise: Literal["filter", "layer", "none"] = "filter"
    batch_norm: Literal["frozen", "recomputed"] = "frozen"
    seed: int = 0
    split: str = "train"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class PlotConfig:
    """Draw a result again, from its file alone.

    Attributes:
        result: the result's file, .h5.
        out: folder for the pictures; by default the result's own.
        format: of the pictures.
    """

    result: Path
    out: Path | None = None
    format: Literal["png", "pdf", "svg"] = "png"
