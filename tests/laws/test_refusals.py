"""What can be refused is refused before the network runs, and before data are read where files alone tell it.

The tables say which flags and files a refusal is about; a new command is covered by the flags that it has.
"""

import pytest
import torch
from torch import nn

from landscape.app.options import flags
from landscape.problems.registry import DATASETS
from tests.commands import ARGUMENTS, KINDS, MEASURING, OUTPUTS, PROGRAMS, build_world

DRAWING = {"plot", "compare", "convert"}  # they take results, and know no network
BY_FLAG = {
    "split": (["--split", "nowhere"], "no split 'nowhere'"),
    "parameters": (["--parameters", "nothing.*"], "no trainable parameter is among 'nothing.*'"),
    "samples": (["--samples", "100000"], "100000 samples are asked for"),
    "trainable": (["--trainable", "nothing.*"], "is trainable under 'nothing.*'"),
    "start": (["--start", "astray"], "has other ends"),
    "project": (["--project", "wide"], "wide.safetensors"),
}
CURVED = {"line": ["--curvature"], "surface": ["--curvature"], "profile": ["--curvature"], "graph": ["--sharpness"]}


def name(key):
    return " ".join(key)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return build_world(tmp_path_factory.mktemp("world"), {"widths": [4], "batch_norm": True})


@pytest.fixture
def refused(world, call, monkeypatch):
    """Run a command with a network that must not run; returns what it says."""

    def run(key, arguments, *, data=True):
        def fails(*_, **__):
            raise AssertionError("the network ran, or the data were read")

        monkeypatch.setattr(nn.Linear, "forward", fails)
        if not data:
            monkeypatch.setitem(DATASETS, "digits", fails)
        code, printed, errors = call(*arguments, program=PROGRAMS[key[0]])
        assert code == 2, errors
        assert printed == ""
        assert "the network ran" not in errors
        assert not (world.folder / "results").exists()
        return errors

    return run


def test_every_command_is_looked_at():
    assert {key for key in KINDS if key[1] not in DRAWING | {"study"}} == set(MEASURING) == set(ARGUMENTS)


def cases():
    for key in MEASURING:
        for word, (more, expected) in BY_FLAG.items():
            if word in flags(KINDS[key]) and not (key[1] == "simplex" and word == "samples"):
                curved = CURVED.get(key[1], []) if word in {"parameters", "samples"} else []
                yield pytest.param(key, [*more, *curved], expected, id=f"{name(key)} {word}")


@pytest.mark.parametrize(("key", "more", "expected"), list(cases()))
def test_what_a_flag_asks_for_and_is_not_there(world, refused, key, more, expected):
    more = [str(world.folder / f"{word}.safetensors") if word in {"astray", "wide"} else word for word in more]
    assert expected in refused(key, world.command(key, *more))


TAKING = [key for key in MEASURING if "a" in ARGUMENTS[key] or "path" in ARGUMENTS[key]]
JOINING = [key for key in TAKING if "b" in ARGUMENTS[key] and key[1] not in {"trajectory"}]


@pytest.mark.parametrize("key", TAKING, ids=name)
def test_a_file_of_another_network(world, refused, key):
    problem = ["--model-args", '{"widths": [4], "batch_norm": true}']
    places = {"path": str(world.folder / "wide.safetensors"), "b": str(world.folder / "wide.safetensors")}
    if "b" not in ARGUMENTS[key]:
        places["a"] = places["b"]
    assert "wide.safetensors" in refused(key, world.command(key, *problem, **places))


@pytest.mark.parametrize("key", JOINING, ids=name)
def test_the_same_network_twice_before_data_are_read(world, refused, key):
    again = str(world.folder / "again.safetensors")
    words = refused(key, world.command(key, b=again, c=again), data=False)
    assert "again.safetensors hold the same network" in words or "two different minima" in words


@pytest.mark.parametrize("key", JOINING, ids=name)
def test_the_same_parameters_twice(world, refused, key):
    twin = str(world.folder / "twin.safetensors")
    words = refused(key, world.command(key, b=twin, c=twin))
    assert any(
        told in words for told in ("same point", "same weights", "same network", "two different minima", "on one line")
    )


@pytest.mark.parametrize("key", TAKING, ids=name)
def test_a_file_that_is_missing_before_data_are_read(world, refused, key):
    missing = str(world.folder / "missing.safetensors")
    words = refused(key, world.command(key, a=missing, path=missing), data=False)
    assert "missing.safetensors" in words


@pytest.mark.parametrize("key", MEASURING, ids=name)
def test_an_output_that_is_there_before_data_are_read(world, call, monkeypatch, tmp_path, key):
    def fails(*_, **__):
        raise AssertionError("the data were read")

    monkeypatch.setitem(DATASETS, "digits", fails)
    out = tmp_path / OUTPUTS.get(key, "out.h5")
    inside = {"fit": "path.safetensors", "simplex": "simplex.h5", "graph": "graph.h5"}
    file = out / inside[key[1]] if key[1] in inside else out
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"precious")
    arguments = world.command(key)
    arguments[arguments.index("--out") + 1] = str(out)
    code, printed, errors = call(*arguments, program=PROGRAMS[key[0]])
    assert (code, printed) == (2, "")
    assert "is there already" in errors
    assert file.read_bytes() == b"precious"


def test_a_network_that_must_not_run_fails_where_it_does(monkeypatch):
    """What the laws above rest on."""
    monkeypatch.setattr(nn.Linear, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        nn.Linear(2, 2)(torch.ones(1, 2))
