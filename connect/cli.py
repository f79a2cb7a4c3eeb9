"""The program `connect`."""

import sys

from connect.config import (
    EnsembleConfig,
    ExportConfig,
    FitConfig,
    GraphConfig,
    PlotConfig,
    ProfileConfig,
    SimplexConfig,
)
from landscape import Command, run

_COMMANDS = {
    "fit": Command(FitConfig, "connect.commands.fitting:fit", shared=True),
    "profile": Command(ProfileConfig, "connect.commands.profiling:profile_path", positional="path"),
    "ensemble": Command(EnsembleConfig, "connect.commands.ensembles:ensemble", positional="path"),
    "simplex": Command(SimplexConfig, "connect.commands.volumes:simplex", positional="minima"),
    "graph": Command(GraphConfig, "connect.commands.graphs:graph", positional="checkpoints"),
    "export": Command(ExportConfig, "connect.commands.exporting:export", positional="path"),
    "plot": Command(PlotConfig, "connect.commands.pictures:plot", positional="result"),
}


def main() -> None:
    """Run the program and leave with its exit code."""
    sys.exit(run("connect", "Find the valleys that join trained networks.", _COMMANDS))
