"""Settings for all tests, and the programs as functions."""

import json
from functools import cache

import pytest
from hypothesis import settings
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from landscape.app import cli as landscape_cli
from landscape.app.commandline import run
from tests.processes import Starter

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
_RENDERED = Figure.savefig


def sketch(figure, file, **settings):
    """Write what a figure shows in words: titles, labels and limits, lines with their points, fields with their values.

    Three quarters of the time of a command on the digits is the turning of its figures into pixels.
    """
    words = [settings["format"], figure.get_suptitle()]
    for axes in figure.axes:
        words += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), axes.get_xlim(), axes.get_ylim()]
        words += [(line.get_label(), line.get_xydata().tolist()) for line in axes.lines]
        words += [text.get_text() for text in axes.texts]
        fields = [field.get_array() for field in (*axes.collections, *axes.images)]
        words += [field.tolist() for field in fields if field is not None]
    file.write("\n".join(map(str, words)).encode())


@pytest.fixture(scope="session", autouse=True)
def quick():
    """The digits are read once, and figures are sketched instead of rendered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.datasets.load_digits", cache(load_digits))
        patch.setattr(Figure, "savefig", sketch)
        yield


@pytest.fixture
def rendered(monkeypatch):
    """Figures are rendered, for tests of the pixels."""
    monkeypatch.setattr(Figure, "savefig", _RENDERED)


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Starts programs in processes of their own."""
    return Starter(tmp_path_factory.mktemp("printed"))


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
