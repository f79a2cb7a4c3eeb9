"""The programs in processes of their own that start with everything imported: a kill meets work, not an import."""

import multiprocessing
import os
from itertools import count
from pathlib import Path

from connect.app import cli as connect_cli
from landscape.app import cli as landscape_cli
from landscape.app.commandline import run

_PROGRAMS = {"landscape": landscape_cli, "connect": connect_cli}
_IMPORTED = [
    "torch", "sklearn.datasets", "connect.app.commands.fitting", "connect.app.commands.graphs",
    "connect.plots.registry", "landscape.app.commands.surfaces", "landscape.plots.figures", "tests.processes",
]  # fmt: skip


class Starter:
    """Starts programs; what they print goes to files of a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.numbers = count()
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(_IMPORTED)

    def __call__(self, program, *arguments):
        """Start a program on one core."""
        files = [self.folder / f"{next(self.numbers)}.{stream}" for stream in ("out", "err")]
        given = (program, [str(argument) for argument in arguments], *map(str, files))
        return Started(self.context.Process(target=_work, args=given), files)

    def finish(self, program, *arguments):
        """Run a program to its end; returns what it printed on standard output."""
        code, printed, errors = self(program, *arguments).finish()
        assert code == 0, errors
        return printed


class Started:
    """A program that runs."""

    def __init__(self, process, files):
        self.process, self.files = process, files
        process.start()

    @property
    def alive(self):
        return self.process.is_alive()

    def wait(self, seconds):
        """Wait for its end, but not for longer."""
        self.process.join(seconds)

    def kill(self):
        """Kill it; returns whether it was still at work."""
        was_alive = self.alive
        self.process.kill()
        self.process.join()
        return was_alive

    def finish(self, timeout=300):
        """Wait for its end; returns the exit code and what it printed on both streams."""
        self.wait(timeout)
        assert not self.alive
        return self.process.exitcode, *(file.read_text() for file in self.files)


def _work(program, arguments, printed, errors):
    """Be the program, in a process of its own."""
    import torch

    for number, file in ((1, printed), (2, errors)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    torch.set_num_threads(1)
    raise SystemExit(run(program, "", _PROGRAMS[program]._COMMANDS, arguments))
