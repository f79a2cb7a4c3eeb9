"""The program `connect`."""

import sys

from connect.app.config import (
    AlignConfig,
    EnsembleConfig,
    ExportConfig,
    FitConfig,
    GraphConfig,
    MergeConfig,
    PlotConfig,
    ProfileConfig,
    SimplexConfig,
)
from landscape.app.commandline import Command, run

_COMMANDS = {
    "fit": Command(FitConfig, "connect.app.commands.fitting:fit", shared=True),
    "profile": Command(ProfileConfig, "connect.app.commands.profiling:profile_path", positional="path"),
    "ensemble": Command(EnsembleConfig, "connect.app.commands.ensembles:ensemble", positional="path"),
    "simplex": Command(SimplexConfig, "connect.app.commands.volumes:simplex", positional="minima"),
    "graph": Command(GraphConfig, "connect.app.commands.graphs:graph", positional="checkpoints"),
    "align": Command(AlignConfig, "connect.app.commands.aligning:align_checkpoint"),
    "merge": Command(MergeConfig, "connect.app.commands.merging:merge"),
    "export": Command(ExportConfig, "connect.app.commands.exporting:export", positional="path"),
    "plot": Command(PlotConfig, "connect.app.commands.pictures:plot", positional="result"),
}


def main() -> None:
    """Run the program and leave with its exit code."""
    sys.exit(run("connect", "Find the valleys that join trained networks.", _COMMANDS))
