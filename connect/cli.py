"""The program `connect`."""

import sys

from connect.config import FitConfig, PlotConfig, ProfileConfig
from landscape import Command, run

_COMMANDS = {
    "fit": Command(FitConfig, "connect.commands:fit"),
    "profile": Command(ProfileConfig, "connect.commands:profile_path", positional="path"),
    "plot": Command(PlotConfig, "connect.commands:plot", positional="result"),
}


def main() -> None:
    """Run the program and leave with its exit code."""
    sys.exit(run("connect", "Find the valleys that join trained networks.", _COMMANDS))
