"""Curvature over grids: the walk from neighbour to neighbour, against dense matrices and cases built to fool it."""

import os
import signal
from contextlib import contextmanager
from itertools import pairwise
from itertools import product as pairs
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from connect.app import cli as connect_cli
from landscape import (
    CurvatureWalk,
    EmpiricalRisk,
    Interrupted,
    ParameterSpace,
    Plane,
    Potential,
    Problem,
    ProblemSpecification,
    Result,
    ResultWriter,
    Search,
    Sweep,
    build_problem,
    load_checkpoint,
    load_result,
    normalise,
    random_direction,
    save_result,
    sweep,
)
from landscape.app.cli import _COMMANDS
from landscape.app.commandline import run
from landscape.runtime.interrupts import Stop
from landscape.space.axes import Random
from landscape.space.direction_files import read_directions
from tests.oracles import Signalling
from tests.points import product_at, value_at

SIZE = 40
AXES = {"y": np.linspace(-1, 1, 3), "x": np.linspace(-1, 1, 5)}
ENDS = ("max_eig", "min_eig")


def rugged(seed=0):
    """A smooth random surface whose Hessian turns from point to point."""
    generator = torch.Generator().manual_seed(seed)
    waves = torch.randn(25, SIZE, generator=generator, dtype=torch.float64) / SIZE**0.5
    heights = torch.randn(25, generator=generator, dtype=torch.float64)
    return Potential(lambda theta: (heights * torch.cos(3 * waves @ theta)).sum() + 0.05 * theta.square().sum(), SIZE)


def plane(seed=1):
    axes = torch.randn(2, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) / SIZE**0.5
    return Plane(torch.zeros(SIZE, dtype=torch.float64), *axes)


def search(**settings):
    return Search(torch.ones(SIZE, dtype=torch.bool), **settings)


def on(where, axes=AXES):
    return lambda place: where(**{name: float(axes[name][i]) for name, i in zip(axes, place, strict=True)})


def dense(potential, theta):
    return torch.autograd.functional.hessian(potential._function, theta)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_the_ends_at_every_point_are_those_of_the_dense_hessian(tolerance):
    potential, where = rugged(), plane()
    walk = CurvatureWalk(potential, search(tolerance=tolerance, trace_products=2 * SIZE))
    found = sweep(potential, where, AXES, metrics={"": walk})
    for place in np.ndindex(3, 5):
        values = torch.linalg.eigvalsh(dense(potential, on(where)(place)))
        for name, exact in (("max_eig", values[-1]), ("min_eig", values[0])):
            assert found[name][place] == pytest.approx(float(exact), rel=1e-3)
            assert found[f"{name}_residual"][place] <= tolerance * abs(found[name][place])
            assert abs(found[name][place] - float(exact)) <= found[f"{name}_residual"][place] * (1 + 1e-9)
        assert found["ratio"][place] == abs(found["min_eig"][place] / found["max_eig"][place])
        assert abs(found["trace"][place] - float(values.sum())) <= 4 * found["trace_error"][place] + 1e-9
        assert found["signed_ratio"][place] == found["min_eig"][place] / found["max_eig"][place]


def test_a_start_from_the_neighbour_saves_products():
    potential, where = rugged(), plane()
    axes = {"y": AXES["y"], "x": np.linspace(-0.1, 0.1, 9)}
    steps = sweep(potential, where, axes, metrics={"": CurvatureWalk(potential, search(tolerance=1e-8))})["steps"]
    assert steps[:, 1:].mean() < 0.95 * steps[:, 0].mean()


MANY = 20_000


class Overtaken:
    """Where x grows, an eigenvalue comes out of the bulk and passes the end of the spectrum, its vector unseen so far.

    The eigenvectors are the unit vectors everywhere, so a start from known ones never leaves their span. There are
    outliers at both ends, as with networks.
    """

    def __init__(self, end, sign):
        self.end, self.sign = end, sign
        self.bulk = 0.2 * (torch.rand(MANY - 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5)
        self.bulk[1:10] = torch.tensor([10.0, 9.0, 6.0, 4.5, 3.0, 2.0, 1.0, -4.0, -5.0])

    def values(self, x):
        passing = 0.05 + (self.end - 0.05) * torch.sigmoid(30 * (x - 0.6))
        return torch.cat([(self.sign * passing).reshape(1), self.bulk[1:]])

    def __call__(self, theta):
        return (self.values(theta[0]) * theta[1:].square()).sum() / 2


def along_x(place):
    theta = torch.zeros(MANY, dtype=torch.float64)
    theta[0] = place[0] / 4
    return theta


def worst_error(surface, begin=0):
    """The largest error of either end along the row, over its size."""
    walk = CurvatureWalk(Potential(surface, MANY), Search(torch.ones(MANY, dtype=torch.bool)))
    worst = 0.0
    for place in range(begin, 5):
        found, values = walk((place,), along_x, Stop()), surface.values(along_x((place,))[0])
        exact = {"max_eig": float(values.max()), "min_eig": float(values.min())}
        worst = max(worst, *(abs(found[name] / end - 1) for name, end in exact.items()))
    return worst


OVERTAKING = [(20.0, 1), (10.5, 1), (8.0, -1), (5.3, -1)]


@pytest.mark.parametrize(("end", "sign"), OVERTAKING)
@pytest.mark.parametrize("resume_at", [0, 3])
def test_an_eigenvalue_that_overtakes_the_others_unseen_is_found(end, sign, resume_at):
    assert worst_error(Overtaken(end, sign), resume_at) < 1e-3


@pytest.mark.parametrize(("end", "sign"), OVERTAKING)
def test_it_is_missed_without_a_random_part_that_has_time_to_grow(end, sign, monkeypatch):
    monkeypatch.setattr("landscape.curvature.walk._RANDOM", 0.0)
    monkeypatch.setattr("landscape.curvature.walk._LEAST", 0)
    assert worst_error(Overtaken(end, sign)) > 1e-2


def test_every_sixteenth_point_begins_anew():
    potential, visited = rugged(), []

    def theta_at(place):
        visited.append(place)
        return torch.full((SIZE,), 0.01 * place[1], dtype=torch.float64)

    CurvatureWalk(potential, search())((3, 20), theta_at, Stop())
    assert visited == [(3, column) for column in range(16, 21)]


def test_values_do_not_depend_on_where_the_walk_begins():
    potential, where = rugged(), plane()
    straight = CurvatureWalk(potential, search())
    whole = {place: straight(place, on(where), Stop()) for place in np.ndindex(3, 5)}
    for place in [(2, 4), (0, 3), (1, 0), (1, 2), (1, 1)]:
        assert CurvatureWalk(potential, search())(place, on(where), Stop()) == whole[place]
    jumping = CurvatureWalk(potential, search())
    for place in [(2, 4), (0, 3), (0, 4), (1, 0), (1, 2), (1, 1)]:
        assert jumping(place, on(where), Stop()) == whole[place]


class Signalled(Potential):
    """Sends this process a signal inside a product."""

    products, stop_at = 0, -1

    @contextmanager
    def at(self, theta):
        with super().at(theta) as here:
            hessian_times = here.hessian()

            def product(vector):
                self.products += 1
                if self.products == self.stop_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                return hessian_times(vector)

            yield SimpleNamespace(measure=here.measure, hessian=lambda chosen: product)


@pytest.mark.parametrize("stop_at", [3, 100])
def test_a_signal_inside_a_point_keeps_the_points_before_it(tmp_path, stop_at):
    smooth, where, path = rugged(), plane(), tmp_path / "s.h5"
    cut = Signalled(smooth._function, SIZE)
    cut.stop_at = stop_at
    begun = Result("surface", {})
    with pytest.raises(Interrupted, match="stopped after"):
        sweep(cut, where, AXES, metrics={"": CurvatureWalk(cut, search())}, writer=ResultWriter(path, begun))
    assert path.exists() == (stop_at == 100)
    walk = CurvatureWalk(smooth, search())
    resumed = sweep(smooth, where, AXES, metrics={"": walk}, writer=ResultWriter(path, begun, resume=True))
    whole = sweep(smooth, where, AXES, metrics={"": CurvatureWalk(smooth, search())})
    for name in whole.values:
        np.testing.assert_array_equal(resumed[name], whole[name])
        np.testing.assert_array_equal(load_result(path).sweep[name], whole[name])


def test_a_point_without_a_finite_hessian_is_data_and_its_neighbour_is_right():
    def broken(theta):
        return (float("nan") if theta[0] > 0.4 else 1.0) * ((theta**4).sum() + theta[1] ** 2)

    potential = Potential(broken, SIZE)
    origin = torch.full((SIZE,), 0.1, dtype=torch.float64)
    unit = torch.zeros_like(origin)
    unit[0] = 1
    found = sweep(
        potential,
        lambda t: origin + t * unit,
        {"t": np.array([0.0, 0.5, 0.1])},
        metrics={"": CurvatureWalk(potential, search())},
    )
    assert np.isnan(found["max_eig"]).tolist() == [False, True, False]
    assert found.done.all()
    assert found["max_eig"][2] == pytest.approx(2 + 12 * 0.1**2, rel=1e-3)


def smooth_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    inputs, labels = torch.randn(30, 4).double(), torch.arange(30) % 3
    space = ParameterSpace(model, dtype=torch.float64)
    return space, EmpiricalRisk(space, Problem.of(model, {"train": (inputs, labels)}), batch_size=30)


def test_curvature_along_an_axis_is_the_second_difference_of_the_surface():
    space, risk = smooth_network()
    theta = space.theta.clone()
    direction = normalise(random_direction(space, 3), theta, space)
    h = 1e-4
    losses = [float(value_at(risk, theta + step * direction)) for step in (-h, 0.0, h)]
    second = (losses[0] - 2 * losses[1] + losses[2]) / h**2
    assert float(direction @ product_at(risk, theta, direction)) == pytest.approx(second, rel=1e-5)


def test_every_rayleigh_quotient_lies_between_the_ends():
    space, risk = smooth_network()
    theta = space.theta.clone()
    walk = CurvatureWalk(risk, Search(space.select("all"), 1e-6))
    found = walk((0,), lambda place: theta, Stop())
    quotients = []
    with risk.at(theta) as here:
        product = here.hessian()
        for seed, shift in pairs(range(10), (0.0, found["max_eig"])):
            vector = random_direction(space, seed)
            for _ in range(60):  # towards the largest, or the smallest
                vector = product(vector) - shift * vector
                vector /= vector.norm()
            quotients.append(float(vector @ product(vector)))
    assert found["min_eig"] - 1e-9 <= min(quotients) <= found["min_eig"] * 0.5
    assert found["max_eig"] * 0.99 <= max(quotients) <= found["max_eig"] + 1e-9


# ---------------------------------------------------------------------- the commands

NETWORK = ["--model", "mlp", "--model-args", '{"widths": [6], "batch_norm": true}', "--data", "digits"]


@pytest.fixture(scope="module")
def minima(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minima")
    files = [folder / "a.safetensors", folder / "b.safetensors"]
    for seed, file in enumerate(files):
        arguments = ["train", *NETWORK, "--seed", str(seed), "--epochs", "3", "--out", str(file)]
        assert run("landscape", "", _COMMANDS, arguments) == 0
    return files


def surface(minima, out, *flags):
    grid = ["--x", "-0.5:0.5:4", "--y", "-0.2:0.2:3", "--eval-batch-size", 128]
    return ["surface", "--checkpoint", minima[0], *grid, "--out", out, "--json", *flags]


def exact_risk(file, samples, part=0):
    """The same loss in float64, by a space of its own."""
    problem = build_problem(ProblemSpecification.from_mapping(load_checkpoint(file).metadata["problem"], "test"))
    space = ParameterSpace(problem.model, dtype=torch.float64)
    theta = space.load(load_checkpoint(file).state)
    data = {"train": tuple(t.double() if t.is_floating_point() else t for t in problem.data.splits["train"].tensors)}
    return EmpiricalRisk(space, Problem.of(problem.model, data), batch_size=samples).select(
        sample=samples, part=part
    ), theta


def exact_ends(risk, theta):
    weights = risk.space.select("weights")
    with risk.at(theta) as here:
        product = here.hessian()
        rows = torch.stack([product(unit) for unit in torch.eye(risk.dimension, dtype=theta.dtype)[weights]])
    values = torch.linalg.eigvalsh(rows[:, weights])
    return float(values[-1]), float(values[0])


def test_a_map_of_a_network_has_the_eigenvalues_of_dense_hessians(ask, minima, tmp_path):
    out = tmp_path / "s.h5"
    code, summary, stderr = ask(
        *surface(minima, out, "--curvature", "--samples", 60, "--second-sample", "--tolerance", 1e-3)
    )
    assert code == 0, stderr
    found = load_result(out)
    assert summary["products"] == found.steps.sum() + found.second_steps.sum()
    assert summary["max_eig"] == found.max_eig.max()
    assert summary["min_eig"] == found.min_eig.min()
    assert summary["unconverged"] == 0
    one, other = found.max_eig.ravel(), found.second_max_eig.ravel()
    assert summary["sampling_error"][0] == pytest.approx(np.median(np.abs(one - other) / (one + other) * 2))
    assert [file.rsplit("/", 1)[1] for file in summary["files"]] == [
        "s.h5",
        "s_filled.png",
        "s_3d.png",
        "s_curvature.png",
    ]
    for prefix, part in (("", 0), ("second_", 1)):
        risk, theta = exact_risk(minima[0], 60, part)
        where = Plane(theta, *(axis.double() for axis in random_axes(minima[0])))
        for place in [(0, 0), (1, 2), (2, 3)]:
            x, y = found.x[place[1]], found.y[place[0]]
            ends = exact_ends(risk, where(x=x, y=y))
            assert [found[prefix + name][place] for name in ENDS] == pytest.approx(ends, rel=1e-4)


def random_axes(file):
    problem = build_problem(ProblemSpecification.from_mapping(load_checkpoint(file).metadata["problem"], "test"))
    space = ParameterSpace(problem.model)
    return Random(0).view(space.load(load_checkpoint(file).state)[None], space).plane.axes


def test_an_interrupted_map_goes_on_and_ends_the_same(ask, minima, tmp_path, monkeypatch):
    flags = ["--curvature", "--samples", 60, "--second-sample", "--trace-products", 6]
    assert ask(*surface(minima, tmp_path / "whole.h5", *flags))[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(6))
        code, _, stderr = ask(*surface(minima, tmp_path / "cut.h5", *flags))
    assert code == 75
    assert "6 of 12" in stderr
    for others in ([], [*flags, "--parameters", "all"], [*flags, "--tolerance", 0.1], [*flags, "--samples", 61]):
        code, _, stderr = ask(*surface(minima, tmp_path / "cut.h5", *others, "--resume"))
        assert code == 2
        assert "begun with curvature" in stderr
    assert ask(*surface(minima, tmp_path / "cut.h5", *flags, "--resume"))[0] == 0
    whole, resumed = load_result(tmp_path / "whole.h5"), load_result(tmp_path / "cut.h5")
    for name in whole.sweep.values:
        np.testing.assert_array_equal(whole[name], resumed[name])


@pytest.fixture(scope="module")
def mapped(minima, tmp_path_factory):
    """The file of a map."""
    out = tmp_path_factory.mktemp("mapped") / "s.h5"
    flags = surface(minima, out, "--curvature", "--samples", 30, "--tolerance", 0.1)
    assert run("landscape", "", _COMMANDS, [str(flag) for flag in flags]) == 0
    return out


@pytest.mark.parametrize("quantity", ["ratio", "signed_ratio", "max_eig", "min_eig", "steps", "train_error"])
def test_every_quantity_of_a_map_is_drawn(ask, call, mapped, rendered, tmp_path, quantity):
    flags = ["--quantity", quantity, "--style", "heatmap", "--out", tmp_path]
    code, summary, stderr = ask("plot", mapped, *flags, "--json")
    assert code == 0, stderr
    assert summary["files"] == [str(tmp_path / "s_heatmap.png")]
    code, _, stderr = call("compare", mapped, mapped, "--quantity", quantity, "--out", tmp_path / "both.png")
    assert code == 0, stderr


def test_a_map_travels_through_the_other_layout(ask, call, mapped, tmp_path):
    code, _, stderr = call("convert", mapped, "--out", tmp_path / "foreign.h5")
    assert code == 0, stderr
    np.testing.assert_array_equal(load_result(tmp_path / "foreign.h5").min_eig, load_result(mapped).min_eig)
    code, summary, stderr = ask("plot", tmp_path / "foreign.h5", "--json")
    assert code == 0, stderr
    assert str(tmp_path / "foreign_curvature.png") in summary["files"]


@pytest.mark.parametrize(("axes", "ends"), [("eigenvectors", (0, 1)), ("top-eigenvectors", (0, None))])
def test_axes_along_eigenvectors_bend_as_their_eigenvalues_say(ask, minima, tmp_path, axes, ends):
    out = tmp_path / "s.h5"
    given = ["surface", "--checkpoint", minima[0], "--axes", axes, "--tolerance", 1e-3, "--split", "train"]
    code, _, stderr = ask(*given, "--x=-1:1:3", "--y=-1:1:3", "--out", out, "--save-axes", tmp_path / "axes.h5")
    assert code == 0, stderr
    problem = build_problem(ProblemSpecification.from_mapping(load_checkpoint(minima[0]).metadata["problem"], "test"))
    examples = len(problem.data.splits["train"])
    risk, theta = exact_risk(minima[0], examples)
    exact = exact_ends(risk, theta)
    code, _, stderr = ask(*given, "--x=-1:1:3", "--y=-1:1:3", "--out", out, "--samples", 50, "--resume")
    assert code == 2
    assert "axes_fingerprint" in stderr, "a resume on other eigenvectors would mix two planes"
    told = load_result(out).facts["eigenvalues"]
    assert told[0] == pytest.approx(exact[0], rel=1e-3)
    if ends[1]:
        assert told[1] == pytest.approx(exact[1], rel=1e-3)
    for direction, value in zip(
        read_directions(tmp_path / "axes.h5", ParameterSpace(problem.model)), told, strict=True
    ):
        assert float(direction.norm()) == pytest.approx(1, rel=1e-5)
        quotient = float(direction.double() @ product_at(risk, theta, direction.double()))
        assert quotient == pytest.approx(value, rel=1e-3)


def test_curvature_along_a_line_and_along_a_path(ask, minima, tmp_path):
    flags = ["--curvature", "--samples", 60, "--eval-batch-size", 60, "--json"]
    line = ["line", "--a", minima[0], "--b", minima[1], "--range", "0:1:3", "--out", tmp_path / "l.h5"]
    code, summary, stderr = ask(*line, *flags)
    assert code == 0, stderr
    assert {"products", "max_eig", "min_eig"} <= set(summary)
    found = load_result(tmp_path / "l.h5")
    assert found.provenance["batch_norm"] == "recomputed"
    assert np.isfinite(found.trace).all()
    assert (found.trace_error > 0).all()
    fit = ["fit", "--a", minima[0], "--b", minima[1], "--out", tmp_path / "ab", "--epochs", 1, "--points", 3]
    assert ask(*fit, "--plane-points", 0, program=connect_cli)[0] == 0
    measure = ["profile", tmp_path / "ab/path.safetensors", "--points", 3, "--trace-products", 6]
    code, summary, stderr = ask(*measure, *flags, program=connect_cli)
    assert code == 0, stderr
    assert summary["files"][0].endswith("path_profile.h5")
    assert summary["products"] > 0
    profile = load_result(tmp_path / "ab/path_profile.h5")
    assert {name.partition(" ")[0] for name in profile.sweeps} == {"path", "straight"}
    np.testing.assert_allclose(profile.sweeps["straight"]["max_eig"], found.max_eig, rtol=1e-3)
    np.testing.assert_allclose(profile.sweeps["path"]["max_eig"][[0, -1]], found.max_eig[[0, -1]], rtol=1e-3)
    code, _, stderr = ask(*measure, *flags, program=connect_cli)
    assert code == 2
    assert "--overwrite" in stderr
    assert ask(*measure, *flags, "--resume", program=connect_cli)[0] == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--samples", 10], "--samples is for --curvature"),
        (["--vectors", 10], "--vectors is for --curvature"),
        (["--curvature", "--vectors", 3], "--vectors is 3"),
        (["--curvature", "--second-sample"], "needs --samples"),
        (["--samples", 10, "--second-sample"], "is for --curvature"),
        (["--parameters", "all"], "--parameters is for --curvature"),
        (["--trace-products", 30], "--trace-products is for --curvature"),
        (["--curvature", "--adaptive", 0.1], "interpolates the loss alone"),
        (["--curvature", "--samples", 800, "--second-sample"], "1600 samples are asked for"),
        (["--curvature", "--parameters", "nothing"], "is among 'nothing'"),
        (["--curvature", "--tolerance", 0], "--tolerance is 0"),
        (["--curvature", "--trace-products", 2], "--trace-products is 2"),
        (["--axes", "eigenvectors", "--normalise", "filter"], "leave out --normalise"),
    ],
)
def test_what_cannot_be_measured_is_refused(ask, minima, tmp_path, flags, message):
    code, _, stderr = ask(*surface(minima, tmp_path / "s.h5", *flags))
    assert code == 2
    assert message in stderr
    assert not (tmp_path / "s.h5").exists()


@pytest.fixture(scope="module")
def path(minima, tmp_path_factory):
    """The file of a path between the minima that nothing was fitted of."""
    out = tmp_path_factory.mktemp("fitted")
    ends = ["--a", str(minima[0]), "--b", str(minima[1])]
    flags = ["--epochs", "0", "--points", "2", "--plane-points", "0", "--out", str(out)]
    assert run("connect", "", connect_cli._COMMANDS, ["fit", *ends, *flags]) == 0
    return out / "path.safetensors"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-norm", "frozen"], "holds no running statistics"),
        (["--points", 1], "--points is 1"),
        (["--out", "p.txt"], "ends in .h5"),
        (["--split", "nothing"], "no split 'nothing'"),
        (["--base", "nowhere.pt"], "nowhere.pt"),
    ],
)
def test_a_path_that_cannot_be_measured_so_is_refused(ask, path, flags, message):
    code, _, stderr = ask("profile", path, *flags, program=connect_cli)
    assert code == 2
    assert message in stderr


def test_a_checkpoint_is_not_measured_as_a_path(ask, minima):
    code, _, stderr = ask("profile", minima[0], program=connect_cli)
    assert code == 2
    assert "holds no path" in stderr


def test_figures_of_another_split_are_called_by_its_name(call, path, tmp_path):
    flags = ["--split", "test", "--points", 2, "--out", tmp_path / "p.h5"]
    code, printed, stderr = call("profile", path, *flags, program=connect_cli)
    assert code == 0, stderr
    assert "max test loss" in printed
    assert "train" not in printed.split("wrote")[0]


BUFFERED = """
import torch


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(64, 10)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 64))

    def forward(self, x):
        return self.linear(x.flatten(1) * self.scale)
"""


def test_a_path_of_a_network_with_buffers_needs_a_checkpoint_for_them(ask, tmp_path):
    (tmp_path / "mine.py").write_text(BUFFERED)
    problem = ["--model", f"{tmp_path}/mine.py:Scaled", "--data", "digits"]
    for name in "ab":
        given = [*problem, "--epochs", 0, "--seed", ord(name), "--out", tmp_path / f"{name}.safetensors"]
        assert ask("train", *given)[0] == 0
    ends = ["--a", tmp_path / "a.safetensors", "--b", tmp_path / "b.safetensors", *problem]
    code, _, stderr = ask("fit", *ends, "--out", tmp_path / "ab", "--epochs", 0, "--points", 2, program=connect_cli)
    measure = ["profile", tmp_path / "ab/path.safetensors", *problem, "--points", 2, "--json"]
    code, _, stderr = ask(*measure, program=connect_cli)
    assert code == 2
    assert "does not hold scale" in stderr
    code, _, stderr = ask(*measure, "--base", tmp_path / "a.safetensors", program=connect_cli)
    assert code == 0, stderr
    before, now = load_result(tmp_path / "ab/profile.h5"), load_result(tmp_path / "ab/path_profile.h5")
    np.testing.assert_allclose(now.sweeps["path"]["train_loss"], before.sweeps["path"]["train_loss"], rtol=1e-6)


@pytest.mark.parametrize("quantity", ["ratio", "signed_ratio", "max_eig", "min_eig"])
@pytest.mark.parametrize("limits", [["--low", 0.6], ["--high", 0], ["--high", -5], ["--low", -1, "--high", 2]])
def test_any_limits_of_the_colours_can_be_drawn(ask, rendered, tmp_path, quantity, limits):
    values = {"train_loss": [[1.0, 2], [3, 4]], "max_eig": [[1.0, 2], [30, 4]], "min_eig": [[-1.0, -2], [0, -4]]}
    found = Sweep(
        {"y": np.arange(2.0), "x": np.arange(2.0)},
        {name: np.array(rows) for name, rows in values.items()},
        np.ones((2, 2), dtype=bool),
    )
    save_result(tmp_path / "s.h5", Result("surface", {"": found}))
    flags = [part for name, value in pairwise(limits) if str(name).startswith("--") for part in (f"{name}={value}",)]
    code, _, stderr = ask("plot", tmp_path / "s.h5", "--quantity", quantity, *flags)
    assert code == 0, stderr
    code, _, stderr = ask("plot", tmp_path / "s.h5", "--quantity", quantity, "--style", "contour")
    assert code == 2
    assert "heatmap" in stderr
