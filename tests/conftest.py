"""Settings for all tests, and the programs as functions."""

import json

import pytest
from hypothesis import settings

from landscape.app import cli as landscape_cli
from landscape.app.commandline import run

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture
def call(capsys):
    """Run a program; returns the exit code and what it printed on both streams."""

    def run_program(*arguments, program=landscape_cli):
        name = program.__name__.split(".")[0]
        code = run(name, "test", program._COMMANDS, [str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_program


@pytest.fixture
def ask(call):
    """Run a program with --json; returns the exit code, the summary or None, and what went to standard error."""

    def run_program(*arguments, program=landscape_cli):
        code, printed, errors = call(*arguments, program=program)
        return code, json.loads(printed) if printed.startswith("{") else None, errors

    return run_program
