"""The memory of commands against their formulas, in vectors of P numbers that are held at once."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import connect.app.cli as connect_cli
from landscape.app.memory import fit_need, graph_need, hessian_need, line_need, surface_need
from landscape.storage.checkpoints import save_tensors
from tests.allocations import most_allocated

_WIDTH, _DEPTH = 96, 40
_SLACK = 0.35  # in vectors of P: activations, one layer's own temporaries, whatever is small

_PROBLEM = """
import torch
from torch import nn

def network():
    layers = [layer for _ in range({depth}) for layer in (nn.Linear({width}, {width}), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear({width}, 2))

def data():
    generator = torch.Generator().manual_seed(0)
    return {{"train": (torch.randn(8, {width}, generator=generator), torch.arange(8) % 2)}}
"""


@pytest.fixture
def deep(tmp_path, monkeypatch):
    """Checkpoints of a deep network, the flags of its problem, and P; pieces are small beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("landscape.space.pieces.PIECE", 2**13)
    monkeypatch.setattr("landscape.space.directions._PART", 2**13)
    monkeypatch.setattr("connect.minima.embedding._HELD", 0)
    (tmp_path / "deep.py").write_text(_PROBLEM.format(width=_WIDTH, depth=_DEPTH))
    layers = [layer for _ in range(_DEPTH) for layer in (nn.Linear(_WIDTH, _WIDTH), nn.Tanh())]
    for seed, name in enumerate("abcd"):
        torch.manual_seed(seed)
        network = nn.Sequential(*layers, nn.Linear(_WIDTH, 2))
        for layer in network:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        save_tensors(f"{name}.safetensors", network.state_dict(), {})
    flags = ["--model", "deep.py:network", "--data", "deep.py:data", "--loss", "cross_entropy", "--device", "cpu"]
    return flags, sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture
def vectors(deep, call):
    """The most vectors of P that a command holds at once, beside the checkpoints, which are mapped."""
    flags, size = deep

    def measured(*arguments, **options):
        call(*arguments, *flags, "--overwrite", **options)  # what is loaded and found out once

        def action():
            code, printed, errors = call(*arguments, *flags, "--overwrite", **options)
            assert code == 0, (printed, errors)

        files = {file.stat().st_size for file in Path().glob("*.safetensors")}
        return most_allocated(action, mapped=files) / (4 * size)

    return measured


_ENDS = ["--a", "a.safetensors", "--b", "b.safetensors"]
_SURFACE = ["surface", "--checkpoint", "a.safetensors", "--points", "2", "--out", "s.h5"]


@pytest.mark.parametrize(
    "axes",
    [
        [],
        ["--axes", "difference", "--towards", "b.safetensors", "c.safetensors"],
        ["--axes", "pca", "--towards", "b.safetensors", "c.safetensors", "d.safetensors"],
        ["--through", "b.safetensors", "c.safetensors"],
        ["--project", "b.safetensors", "c.safetensors"],
    ],
    ids=["random", "difference", "pca", "through", "project"],
)
def test_a_surface(vectors, axes):
    assert vectors(*_SURFACE, *axes) <= surface_need().vectors + _SLACK


def test_a_surface_of_several_draws(vectors):
    assert vectors(*_SURFACE, "--draws", "3") <= surface_need(draws=3).vectors + _SLACK


@pytest.mark.parametrize("ends", [_ENDS, ["--a", "a.safetensors", "--directions", "2"]], ids=["between", "rays"])
def test_a_line(vectors, ends):
    assert vectors("line", *ends, "--range", "0:1:2", "--out", "l.h5") <= line_need().vectors + _SLACK


@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
def test_the_ends_of_a_spectrum(vectors, matrix):
    search = ["--tolerance", "1e-6", "--vectors", "8", "--matrix", matrix, "--out", "h.h5"]
    assert vectors("hessian", "--checkpoint", "a.safetensors", *search) <= hessian_need(8).vectors + _SLACK


_FIT = ["--epochs", "2", "--batch-size", "8", "--points", "3", "--lr", "1e-3"]


@pytest.mark.parametrize(("optimiser", "averages"), [("sgd", 1), ("adamw", 2)])
def test_a_fit(vectors, optimiser, averages):
    arguments = ["fit", *_ENDS, *_FIT, "--optimiser", optimiser, "--plane-points", "2", "--out", "f"]
    assert vectors(*arguments, program=connect_cli) <= fit_need(3, 1, averages).vectors + _SLACK


def test_a_graph_holds_two_of_its_minima(vectors):
    minima = [f"{name}.safetensors" for name in "abcd"]
    found = vectors("graph", *minima, *_FIT, "--tolerance", "1e-9", "--out", "g", program=connect_cli)
    assert found <= graph_need(fit_need(3, 1, 1)).vectors + _SLACK


_REFUSED = [
    (["surface", "--checkpoint", "a.safetensors", "--out", "s.h5"], "the surface needs about .* Fewer --draws"),
    (["line", *_ENDS, "--out", "l.h5"], "the line needs about .* --trainable"),
    (["hessian", "--checkpoint", "a.safetensors"], "the search for eigenvalues needs about .* --vectors"),
    (["fit", *_ENDS, "--out", "f"], "the path needs about .* Fewer --control-points"),
    (["graph", "a.safetensors", "b.safetensors", "--out", "g"], "the graph needs about .* Fewer --control-points"),
]


@pytest.mark.parametrize(("arguments", "message"), _REFUSED, ids=[arguments[0] for arguments, _ in _REFUSED])
def test_what_cannot_fit_is_refused_before_the_network_runs(deep, call, monkeypatch, arguments, message):
    flags, size = deep
    monkeypatch.setattr("landscape.app.memory.available_bytes", lambda device: 2.5 * 4 * size)
    monkeypatch.setattr("torch.nn.Linear.forward", lambda *_: pytest.fail("the network ran"))
    options = {"program": connect_cli} if arguments[0] in {"fit", "graph"} else {}
    code, _, errors = call(*arguments, *flags, **options)
    assert code == 2
    assert re.search(message, errors.replace("\n", " ")), errors


def test_what_fits_is_not_refused(deep, call, monkeypatch):
    flags, size = deep
    monkeypatch.setattr("landscape.app.memory.available_bytes", lambda device: 4 * 4 * size)
    assert call(*_SURFACE, *flags)[0] == 0
