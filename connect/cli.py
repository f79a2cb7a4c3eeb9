"""The program `connect`."""

import sys

from connect.config import FitConfig, PlotConfig
from landscape import Command, run

_COMMANDS = {
    "fit": Command(FitConfig, "connect.commands:fit"),
    "plot": Command(PlotConfig, "connect.commands:plot", positional="result"),
}


def main() -> None:
    """Run the program and leave with its exit code."""
    sys.exit(run("connect", "Find the valleys that join trained networks.", _COMMANDS))
