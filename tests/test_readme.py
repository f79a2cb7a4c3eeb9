"""The commands in the README and the docs, as they stand there: the programs take them, and no two write one file."""

import re
import shlex
from pathlib import Path, PurePosixPath

import pytest

from connect.app import cli as connect_cli
from landscape.app import cli as landscape_cli
from landscape.app.options import flags

ROOT = Path(__file__).parent.parent
PROGRAMS = {"landscape": landscape_cli._COMMANDS, "connect": connect_cli._COMMANDS}
DEFAULT_OUTPUTS = {"profile": "_profile.h5", "ensemble": "_ensemble.h5"}


def commands(page):
    found = re.finditer(r"(?<![\w/.])(landscape|connect) (?:[a-z]+) [^`\n]*--?[^`\n]*", page.read_text())
    return [shlex.split(command[0], comments=True) for command in found]


PAGES = {page.name: commands(page) for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
COMMANDS = [command for page in PAGES.values() for command in page]


def test_there_are_commands_to_look_at():
    assert len(PAGES["README.md"]) > 25
    assert {command[0] for command in COMMANDS} == set(PROGRAMS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_and_flag_is_known(command):
    program, name, *arguments = command
    assert name in PROGRAMS[program]
    known = flags(PROGRAMS[program][name].config)
    for flag in [argument for argument in arguments if argument.startswith("--")]:
        assert flag.removeprefix("--").replace("-", "_").partition("=")[0] in known, flag


@pytest.mark.parametrize("page", PAGES)
def test_no_two_commands_of_a_page_write_the_same_file(page):
    outputs = []
    for _, name, *arguments in PAGES[page]:
        if "--out" in arguments:
            outputs.append(arguments[arguments.index("--out") + 1])
        elif name in DEFAULT_OUTPUTS:
            path = PurePosixPath(arguments[0])
            outputs.append(str(path.with_name(path.stem + DEFAULT_OUTPUTS[name])))
    assert len(outputs) > 5
    assert sorted(outputs) == sorted(set(outputs))


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_of_a_page_is_there(page):
    folder = ROOT if page == "README.md" else ROOT / "docs"
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (folder / page).read_text())
    assert pictures
    assert not [picture for picture in pictures if not (folder / picture).exists()]


def test_what_is_asked_of_a_surface_is_in_one():
    """A surface holds the training examples alone unless more splits are asked for."""
    (plotted,) = [command for command in COMMANDS if "--quantity" in command and "plot" in command]
    assert plotted[plotted.index("--quantity") + 1].startswith("train_")
