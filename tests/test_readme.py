"""The README's commands, as they stand there: each is one that the programs take, and no two write the same file."""

import re
import shlex
from pathlib import Path, PurePosixPath

import pytest

from connect.app import cli as connect_cli
from landscape.app import cli as landscape_cli
from landscape.app.options import flags

README = (Path(__file__).parent.parent / "README.md").read_text()
PROGRAMS = {"landscape": landscape_cli._COMMANDS, "connect": connect_cli._COMMANDS}
DEFAULT_OUTPUTS = {"profile": "_profile.h5", "ensemble": "_ensemble.h5"}
COMMANDS = [
    shlex.split(found[0], comments=True)
    for found in re.finditer(r"(?<![\w/.])(landscape|connect) (?:[a-z]+) [^`\n]*--?[^`\n]*", README)
]


def test_there_are_commands_to_look_at():
    assert len(COMMANDS) > 25
    assert {command[0] for command in COMMANDS} == set(PROGRAMS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_and_flag_is_known(command):
    program, name, *arguments = command
    assert name in PROGRAMS[program]
    known = flags(PROGRAMS[program][name].config)
    for flag in [argument for argument in arguments if argument.startswith("--")]:
        assert flag.removeprefix("--").replace("-", "_").partition("=")[0] in known, flag


def test_no_two_commands_write_the_same_file():
    outputs = []
    for _, name, *arguments in COMMANDS:
        if "--out" in arguments:
            outputs.append(arguments[arguments.index("--out") + 1])
        elif name in DEFAULT_OUTPUTS:
            path = PurePosixPath(arguments[0])
            outputs.append(str(path.with_name(path.stem + DEFAULT_OUTPUTS[name])))
    assert len(outputs) > 20
    assert sorted(outputs) == sorted(set(outputs))


def test_what_is_asked_of_a_surface_is_in_one():
    """A surface holds the training examples alone unless more splits are asked for."""
    (plotted,) = [command for command in COMMANDS if "--quantity" in command and "plot" in command]
    assert plotted[plotted.index("--quantity") + 1].startswith("train_")
