"""The program `landscape`."""

import sys

from landscape.commandline import Command, run
from landscape.config import PlotConfig, SurfaceConfig, TrainConfig

_COMMANDS = {
    "train": Command(TrainConfig, "landscape.commands:train"),
    "surface": Command(SurfaceConfig, "landscape.commands:surface"),
    "plot": Command(PlotConfig, "landscape.commands:plot", positional="result"),
}


def main() -> None:
    """Run the program and leave with its exit code."""
    sys.exit(run("landscape", "Show the terrain of a network's loss.", _COMMANDS))
