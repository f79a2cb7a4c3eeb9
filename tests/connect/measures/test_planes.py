"""The picture of a path's plane: its colours are what was measured, its frame fits, and it can be made again."""

import json
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from connect import Bezier, FitConfig, fit
from connect.app import cli as connect_cli
from connect.measures.planes import frame
from connect.measures.summaries import measured_path
from connect.plots.figures import plane_figure, profile_figure
from landscape import Result, Sweep, TrainConfig, load_result, save_result, train
from tests.oracles import Signalling

NETWORK = """
import torch

def model(width=16, depth=1, kink=False):
    layers, inputs = [], 3
    for _ in range(depth):
        layers += [torch.nn.Linear(inputs, width), torch.nn.ReLU() if kink else torch.nn.Tanh()]
        inputs = width
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))

def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(250, 3, generator=generator)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:]
    return (x[:200], y[:200]), (x[200:], y[200:])
"""
OWN = {"model": "@/network.py:model", "data": "@/network.py:data", "loss": "mse"}
NETWORKS = {
    "regression": (OWN, {"epochs": 300, "lr": 0.05, "batch_size": 50}),
    "regression in two layers with kinks": (
        {**OWN, "model_args": {"depth": 2, "kink": True}},
        {"epochs": 200, "lr": 0.05, "batch_size": 50},
    ),
    "perceptron": ({"model": "mlp", "model_args": {"widths": [32]}, "data": "digits"}, {"epochs": 12, "lr": 0.1}),
    "convolutions with batch norm": (
        {"model": "cnn", "model_args": {"channels": [4, 4]}, "data": "digits", "data_args": {"examples": 500}},
        {"epochs": 24, "lr": 0.1, "batch_size": 64},
    ),
}
RECORDED = Path(__file__).parents[2] / "recorded"
FIT = {"epochs": 6, "lr": 0.02, "points": 31, "eval_batch_size": 512}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Gives, by the network's name, a folder with two minima, their problem, and a path between them in `ab`."""
    known = {}

    def of(name):
        if name not in known:
            folder = known[name] = tmp_path_factory.mktemp("fitted")
            (folder / "network.py").write_text(NETWORK)
            problem, recipe = NETWORKS[name]
            (folder / "problem.yaml").write_text(json.dumps(problem).replace("@", str(folder)))
            for seed in (1, 2):
                out = folder / f"{seed}.safetensors"
                train(TrainConfig(problem=folder / "problem.yaml", **recipe, seed=seed, out=out))
            fit(FitConfig(**ends(folder), **FIT, out=folder / "ab"))
        return known[name]

    return of


def ends(folder):
    """The options that name two minima and their problem."""
    return {"a": folder / "1.safetensors", "b": folder / "2.safetensors", "problem": folder / "problem.yaml"}


def again(ask, folder, out, *flags):
    """Measure a path again with its plane, by the command."""
    given = ["profile", folder / "ab" / "path.safetensors", "--problem", folder / "problem.yaml", "--points", 31]
    code, summary, stderr = ask(*given, "--out", out, "--split", "train", *flags, "--json", program=connect_cli)
    assert code == 0, stderr
    return summary


def read(result, places):
    """The losses that the colours of a plane's picture stand for at places (x, y), and the range of its colours."""
    figure = plane_figure(result)
    axes, bar = figure.axes
    for artist in [*axes.lines, *axes.texts, *(c for c in axes.collections if not getattr(c, "filled", True))]:
        artist.set_visible(False)
    figure.set_dpi(300)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
    columns, rows = np.round(axes.transData.transform(places)).astype(int).T
    colours = picture[len(picture) - 1 - rows, columns]
    ramp = 255 * matplotlib.colormaps["viridis"](np.linspace(0, 1, 256))[:, :3]
    shares = np.linalg.norm(colours[:, None] - ramp, axis=-1).argmin(axis=1) / 255
    low, high = np.log(bar.get_ylim())
    return np.exp(low + shares * (high - low)), high - low


def on_plane(result, way, t):
    """Where the straight line, or a Bézier curve of three control points, is on the plane at t."""
    curve = ("a", "control points", "b") if way == "path" else ("a", "b")
    controls = np.concatenate([result.marks[name] for name in curve])
    return Bezier(len(controls)).coefficients(torch.as_tensor(t)).numpy() @ controls


def largest_disagreement(plane, profile, way):
    """Of the colours along a way with what was measured there, as a share of the range of the colours."""
    known = measured_path(profile, way)
    shown, spread = read(plane, on_plane(plane, way, known["t"]))
    off = np.abs(np.log(shown) - np.log(known["train_loss"])) / spread
    assert spread > np.log(10)
    return off.max()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_colours_along_both_ways_are_what_was_measured(ask, fitted, tmp_path, name):
    out = fitted(name) / "ab"
    coarse = ["--plane-points", 7]
    summary = again(ask, fitted(name), tmp_path / "again.h5", *coarse)
    assert [file.rsplit("/", 1)[1] for file in summary["files"]] == [
        "again.h5", "again_plane.h5", "again.png", "again_plane.png",
    ]  # fmt: skip
    for plane, profile, points in (
        (out / "plane.h5", out / "profile.h5", 21),
        (tmp_path / "again_plane.h5", tmp_path / "again.h5", 7),
    ):
        result = load_result(plane)
        assert max(result.sweep.shape) == points
        for way in ("path", "straight"):
            assert largest_disagreement(result, load_result(profile), way) < 0.05


@pytest.mark.parametrize("said", [False, True])
def test_batch_norm_is_named_where_there_is_some_and_no_seed_that_is_not_the_minimas(fitted, said):
    out = RECORDED / "bezier" if said else fitted("perceptron") / "ab"
    for file, draw in (("plane.h5", plane_figure), ("profile.h5", profile_figure)):
        result = load_result(out / file)
        assert result.provenance["batch_norm"] == ("recomputed" if said else None)
        words = draw(result).axes[0].get_title()
        assert ("batch norm" in words) == said
        assert "seed" not in words


def test_without_the_ways_the_colours_would_be_off(fitted):
    out = fitted("regression") / "ab"
    plane, profile = load_result(out / "plane.h5"), load_result(out / "profile.h5")
    bare = replace(plane, sweeps={"": plane.sweep})
    assert largest_disagreement(bare, profile, "path") > 0.1


def test_a_path_that_leaves_its_plane_says_so_and_shows_the_planes_own_heights(fitted, tmp_path):
    folder = fitted("perceptron")
    chain = {"curve": "chain", "control_points": 6, "plane_points": 11}
    fit(FitConfig(**ends(folder), **FIT | chain, out=tmp_path / "ab"))
    plane, profile = load_result(tmp_path / "ab" / "plane.h5"), load_result(tmp_path / "ab" / "profile.h5")
    assert largest_disagreement(plane, profile, "straight") < 0.05
    off = plane.facts["path_distance_from_plane"]
    apart = float(np.linalg.norm(plane.marks["b"] - plane.marks["a"]))
    assert 0.01 * apart < off < apart
    title = plane_figure(plane).axes[0].get_title()
    assert f"the path up to {off:.2g} off it" in title
    assert "not the path's" in title
    under = plane.sweeps["path"]
    assert under.shape == (11,)
    trace = plane.marks["path"][np.round(200 * under["t"]).astype(int)]
    shown, spread = read(plane, trace)
    assert np.abs(np.log(shown) - np.log(under["train_loss"])).max() < 0.05 * spread


def test_a_plane_that_is_cut_short_is_resumed_to_the_same_numbers(ask, fitted, tmp_path, monkeypatch):
    folder = fitted("perceptron")
    flags = ["--plane-points", 9, "--tolerance", 0, "--eval-batch-size", 512]
    again(ask, folder, tmp_path / "whole.h5", *flags)
    given = ["profile", folder / "ab" / "path.safetensors", "--problem", folder / "problem.yaml", "--points", 31]
    given += ["--out", tmp_path / "cut.h5", "--split", "train", *flags]
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(80))
        assert ask(*given, program=connect_cli)[0] == 75
    assert 0 < load_result(tmp_path / "cut_plane.h5").done.sum() < load_result(tmp_path / "whole_plane.h5").done.size
    assert ask(*given, program=connect_cli)[0] == 2  # it is there
    assert ask(*given, "--resume", program=connect_cli)[0] == 0
    whole, cut = load_result(tmp_path / "whole_plane.h5"), load_result(tmp_path / "cut_plane.h5")
    for name, sweep in whole.sweeps.items():
        assert np.array_equal(sweep.train_loss, cut.sweeps[name].train_loss)


def test_a_plane_that_was_written_before_is_drawn(ask, rendered, tmp_path):
    x, y = np.linspace(-1, 5, 21), np.linspace(-1, 2, 11)
    loss = 0.1 + (y[:, None] - np.sin(x)) ** 2
    marks = {name: np.array(points) for name, points in {
        "a": [[0.0, 0.0]], "b": [[4.0, 0.0]], "control points": [[2.0, 1.0]],
        "path": [[0.0, 0.0], [2.0, 0.5], [4.0, 0.0]], "straight": [[0.0, 0.0], [4.0, 0.0]],
    }.items()}  # fmt: skip
    facts = {"largest_distance_from_plane": 0.0, "polylines": ["path", "straight"]}
    swept = Sweep({"y": y, "x": x}, {"train_loss": loss}, np.ones(loss.shape, dtype=bool))
    save_result(tmp_path / "plane.h5", Result("plane", {"": swept}, marks, {}, facts))
    assert ask("plot", tmp_path / "plane.h5", program=connect_cli)[0] == 0
    assert ask("plot", tmp_path / "plane.h5")[0] == 0


@pytest.mark.parametrize("count", [2, 7, 21, 60])
@pytest.mark.parametrize("height", [0.0, 5.0, 60.0, 900.0])
def test_the_frame_follows_the_path(count, height):
    points = np.array([[0.0, 0.0], [90.0, height], [180.0, 0.0]])
    axes = frame(points, count)
    x, y = axes["x"], axes["y"]
    own, longest = np.ptp(points, axis=0), np.ptp(points, axis=0).max()
    for values, low, high in ((x, 0.0, 180.0), (y, 0.0, height)):
        margin = max(0.2 * (high - low), 0.12 * longest)
        assert values[0] == pytest.approx(low - margin)
        assert values[-1] == pytest.approx(high + margin)
    assert max(len(x), len(y)) == max(count, 2)
    assert min(len(x), len(y)) >= max(2, count // 2)
    assert (len(x) >= len(y)) == (own[0] >= own[1]) or len(x) == len(y)
