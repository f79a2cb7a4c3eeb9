"""The program `landscape`."""

import sys

from landscape.app.commandline import Command, run
from landscape.app.config import (
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
    "train": Command(TrainConfig, "landscape.app.commands.training:train"),
    "line": Command(LineConfig, "landscape.app.commands.lines:line"),
    "surface": Command(SurfaceConfig, "landscape.app.commands.surfaces:surface"),
    "hessian": Command(HessianConfig, "landscape.app.commands.spectra:hessian"),
    "trajectory": Command(TrajectoryConfig, "landscape.app.commands.trajectories:trajectory", positional="snapshots"),
    "plot": Command(PlotConfig, "landscape.app.commands.pictures:plot", positional="result"),
    "compare": Command(CompareConfig, "landscape.app.commands.pictures:compare", positional="results"),
    "study": Command(StudyConfig, "landscape.app.commands.studies:run_study", positional="study"),
    "convert": Command(ConvertConfig, "landscape.app.commands.conversion:convert", positional="result"),
}


def main() -> None:
    """Run the program and leave with its exit code."""
    sys.exit(run("landscape", "Show the terrain of a network's loss.", _COMMANDS))
