"""The program `landscape`."""

import sys

from landscape.commandline import Command, run
from landscape.config import (
    CompareConfig,
    ConvertConfig,
    HessianConfig,
    LineConfig,
    PlotConfig,
    StudyConfig,
    SurfaceConfig,
    TrainConfig,
    TrajectoryConfig,
)

_COMMANDS = {
    "train": Command(TrainConfig, "landscape.commands.training:train"),
    "line": Command(LineConfig, "landscape.commands.lines:line"),
    "surface": Command(SurfaceConfig, "landscape.commands.surfaces:surface"),
    "hessian": Command(HessianConfig, "landscape.commands.spectra:hessian"),
    "trajectory": Command(TrajectoryConfig, "landscape.commands.trajectories:trajectory", positional="snapshots"),
    "plot": Command(PlotConfig, "landscape.commands.pictures:plot", positional="result"),
    "compare": Command(CompareConfig, "landscape.commands.pictures:compare", positional="results"),
    "study": Command(StudyConfig, "landscape.commands.studies:run_study", positional="study"),
    "convert": Command(ConvertConfig, "landscape.commands.conversion:convert", positional="result"),
}


def main() -> None:
    """Run the program and leave with its exit code."""
    sys.exit(run("landscape", "Show the terrain of a network's loss.", _COMMANDS))
