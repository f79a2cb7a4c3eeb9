"""Pictures of results that are known, and files of other layouts."""

import io
import json
import xml.etree.ElementTree as ET
from base64 import b64decode

import h5py
import numpy as np
import pytest

from landscape import Plane, Potential, Result, Sweep, load_result, save_result, sweep
from landscape.errors import ConfigError, ResultError
from landscape.plots.captions import describe
from landscape.plots.lines import draw_line
from landscape.plots.rendering import Look, new_figure
from landscape.plots.surface import draw_contours, draw_surface
from landscape.storage.foreign import save_foreign_result
from landscape.storage.results import quartiles

pytestmark = pytest.mark.usefixtures("rendered")


def bowl(rows=15, columns=21, change=None):
    """A surface of one split with an accuracy."""
    x, y = np.linspace(-1, 1, columns), np.linspace(-1, 1, rows)
    loss = 0.01 + x**2 + 3 * y[:, None] ** 2
    if change:
        change(loss)
    values = {"train_loss": loss, "train_accuracy": 1 / (1 + loss)}
    return Sweep({"y": y, "x": x}, values, np.ones((rows, columns), dtype=bool))


def stored(path, sweep, kind="surface", **parts):
    save_result(path, Result(kind, {"": sweep}, **parts))
    return path


def test_every_style_is_drawn_and_named(call, tmp_path):
    file = stored(tmp_path / "s.h5", bowl())
    code, stdout, stderr = call("plot", file, "--style", "all", "--json", "--out", tmp_path / "p")
    assert code == 0, stderr
    names = [name.rsplit("/", 1)[1] for name in json.loads(stdout)["files"]]
    assert names == ["s_contour.png", "s_filled.png", "s_heatmap.png", "s_3d.png", "s.html", "s.vts"]
    assert all((tmp_path / "p" / name).stat().st_size > 1000 for name in names)
    for form in ("pdf", "svg"):
        assert call("plot", file, "--style", "filled", "--format", form)[0] == 0
        assert (tmp_path / f"s_filled.{form}").exists()
    first = (tmp_path / "s_filled.svg").read_bytes()
    assert call("plot", file, "--style", "filled", "--format", "svg")[0] == 0
    assert (tmp_path / "s_filled.svg").read_bytes() == first


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--style", "oil"], "unknown style 'oil'; this result has contour, filled"),
        (["--quantity", "test_loss"], "'test_loss' is not in the result; it has train_loss"),
        (["--low", "2", "--high", "1"], "the colours need low < high"),
        (["--scale", "log", "--low", "-1"], "above 0"),
        (["--high", ".inf"], "expected a number"),
    ],
)
def test_looks_that_cannot_be_are_said(call, tmp_path, flags, message):
    code, _, stderr = call("plot", stored(tmp_path / "s.h5", bowl()), *flags)
    assert code == 2
    assert message in stderr


def rgb(axes, place):
    """The colour that a figure shows at data coordinates."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    column, row = axes.transData.transform(place)
    picture = np.asarray(canvas.buffer_rgba())
    return tuple(int(value) for value in picture[picture.shape[0] - 1 - round(row), round(column), :3])


@pytest.mark.parametrize("style", ["filled", "heatmap"])
def test_a_grid_is_drawn_the_right_way_round_and_what_is_clipped_or_missing_shows(style):
    def broken(loss):
        loss[:3, :4] = np.nan
        loss[-3:, -4:] = np.inf
        loss[:3, -4:] = 1e6

    figure = new_figure(5, 5)
    axes = figure.add_subplot()
    draw_contours(axes, bowl(change=broken), "train_loss", style=style, look=Look(high=4.0))
    assert rgb(axes, (0.95, -0.95)) == (255, 255, 255)
    for place in ((-0.95, -0.95), (0.93, 0.93)):
        grey = rgb(axes, place)
        assert max(grey) - min(grey) < 3
        assert max(grey) < 250
    centre, side, top = rgb(axes, (0.03, 0.03)), rgb(axes, (0.8, 0.03)), rgb(axes, (0.03, 0.97))
    assert sum(centre) < sum(side) < sum(top)  # viridis grows lighter; y is three times as steep as x


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
@pytest.mark.parametrize("style", ["contour", "filled", "heatmap"])
def test_flat_surfaces_are_drawn(value, style):
    figure = new_figure(5, 5)
    flat = bowl(change=lambda loss: loss.fill(value))
    draw_contours(figure.add_subplot(), flat, "train_loss", style=style)
    solid = new_figure(5, 5)
    draw_surface(solid.add_subplot(projection="3d"), flat, "train_loss")
    for drawn in (figure, solid):
        content = io.BytesIO()
        drawn.savefig(content, format="png")
        assert content.getbuffer().nbytes > 1000


@pytest.mark.parametrize(
    ("look", "values", "expected"),
    [
        (Look(), [0.1, 0.5], (0.1, 0.5, False)),
        (Look(), [0.1, 5.0], (0.1, 5.0, True)),
        (Look(), [0.0, 5.0], (0.0, 5.0, False)),
        (Look(scale="log"), [0.0, 0.2, 0.3], (0.2, 0.3, True)),
        (Look(scale="linear"), [0.1, 5.0], (0.1, 5.0, False)),
        (Look(high=2.0), [0.1, np.inf, np.nan, 5.0], (0.1, 2.0, True)),
        (Look(low=0.1, high=0.4), [0.0, 9.0], (0.1, 0.4, False)),
        (Look(), [-3.0, 9.0], (-3.0, 9.0, False)),
        (Look(), [2.0, 2.0], (1.5, 2.5, False)),
        (Look(scale="log", low=5.0), [1.0, 2.0], (5.0, 50.0, True)),
        (Look(high=-5.0), [1.0, 2.0], (-6.0, -5.0, False)),
        (Look(scale="log", high=0.5), [1.0, 2.0], (0.05, 0.5, True)),
        (Look(), [np.nan], (0.0, 1.0, False)),
    ],
)
def test_scales(look, values, expected):
    scale = look.scale_of(np.array(values))
    assert (scale.low, scale.high, scale.logarithmic) == pytest.approx(expected)


def test_quartiles_are_numpys_and_nan_counts_as_infinite():
    values = np.random.default_rng(0).normal(size=(9, 5))
    for ours, theirs in zip(quartiles(values), np.percentile(values, [25, 50, 75], axis=0), strict=True):
        np.testing.assert_allclose(ours, theirs)
    low, middle, high = quartiles(np.array([[1.0], [2.0], [np.nan], [np.inf]]))
    assert (low, middle, high) == (1.75, np.inf, np.inf)
    assert [float(part[0]) for part in quartiles(np.array([[7.0]]))] == [7.0] * 3


def test_lines_show_each_draw_and_the_band():
    t = np.linspace(-1, 1, 11)
    losses = np.abs(t) * np.array([[1.0], [2.0], [3.0], [4.0]]) + 0.1
    bundle = Sweep({"direction": np.arange(4.0), "t": t}, {"train_loss": losses}, np.ones((4, 11), dtype=bool))
    axes = new_figure(5, 4).add_subplot()
    (median,) = draw_line(axes, bundle)
    np.testing.assert_allclose(median.get_ydata(), np.abs(t) * 2.5 + 0.1)
    assert len(axes.lines) == 5
    assert len(axes.collections) == 1


def test_results_open_with_named_arrays(tmp_path):
    result = load_result(stored(tmp_path / "s.h5", bowl()))
    assert np.array_equal(result.x, np.linspace(-1, 1, 21))
    assert np.array_equal(result["train_loss"], result.sweep.train_loss)
    assert (result.sweep.dims, result.sweep.shape) == (("y", "x"), (15, 21))
    assert result.sweep.coords["y"] is result.sweep["y"]
    np.testing.assert_allclose(result["train_error"], 1 - result.train_accuracy)
    assert not hasattr(result, "test_loss")
    with pytest.raises(KeyError, match="there are y, x, train_loss"):
        result["test_loss"]
    several = Result("profile", {"path": bowl(), "straight": bowl()})
    with pytest.raises(ResultError, match="path, straight"):
        several.sweep.x  # noqa: B018


def test_compare_draws_on_one_scale_and_says_the_test_error(call, tmp_path, monkeypatch):
    facts = {"at_a": {"train": {"loss": 0.1, "accuracy": 0.99}, "test": {"loss": 0.2, "accuracy": 0.9375}}}
    changes = {"a": None, "b": lambda loss: np.multiply(loss, 9, out=loss), "c": lambda loss: np.add(loss, 5, out=loss)}
    files = [stored(tmp_path / f"{name}.h5", bowl(change=change), facts=facts) for name, change in changes.items()]
    drawn = {}
    monkeypatch.setattr("landscape.plots.rendering.save_figures", lambda figures, *rest: drawn.update(figures) or ["x"])
    code, _, stderr = call("compare", *files, "--out", tmp_path / "c.png", "--labels", "one", "two", "three")
    assert code == 0, stderr
    panels = [axes for axes in drawn[""].axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["one", "two", "three"]
    assert {axes.get_xlabel() for axes in panels} == {"test error 6.25 %"}
    filled = [contours for axes in panels for contours in axes.collections if getattr(contours, "filled", False)]
    limits = {contours.get_clim() for contours in filled}
    (limit,) = limits
    assert limit == pytest.approx(np.log10((0.01, 36.09)))  # colours are laid out in the logarithm


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["a.h5", "line.h5", "--out", "c.png"], "lines and surfaces"),
        (["a.h5", "b.h5", "--out", "c.gif"], "ends in .png"),
        (["a.h5", "b.h5", "--out", "c.png", "--labels", "x"], "2 results, but 1 --labels"),
        (["a.h5", "b.h5", "--out", "c.png", "--columns", "0"], "--columns is 0"),
        (["a.h5", "b.h5", "--out", "c.png", "--style", "3d"], "unknown style '3d'"),
        (["a.h5", "b.h5", "--out", "c.png", "--style", "all"], "one --style"),
        (["line.h5", "line.h5", "--out", "c.png", "--quantity", "train_loss"], "leave out --quantity"),
        (["a.h5", "no.h5", "--out", "c.png"], "no result no.h5"),
    ],
)
def test_what_cannot_be_compared_is_said(call, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        stored(tmp_path / f"{name}.h5", bowl())
    t = np.linspace(0, 1, 5)
    stored(tmp_path / "line.h5", Sweep({"t": t}, {"train_loss": t + 1}, np.ones(5, dtype=bool)), "line")
    code, _, stderr = call("compare", *flags)
    assert code == 2
    assert message in stderr


def test_the_settings_are_on_every_figure():
    problem = {"model": "resnet56", "data": "cifar10", "model_args": {"width": 32, "classes": 10}}
    told = describe(
        {"problem": problem, "normalise": "filter", "batch_norm": "frozen", "seed": 3, "axes": "random"}, "test_loss"
    )
    for words in ("resnet56 (width 32) on cifar10", "test", "normalised by filter", "batch norm frozen", "seed 3"):
        assert words in told.replace("\n", " ")


def test_a_seed_is_that_of_what_is_drawn_or_not_named():
    """The seed of a fit, of random vectors or of a training is not that of the minima that are shown."""
    assert "seed" not in describe({"curve": "bezier", "seed": 0, "batch_norm": "recomputed"})
    assert "seed" not in describe({"axes": "through", "seed": 0})
    assert "seed" not in describe({"directions": 10, "seed": 0, "checkpoints": {"a": "1", "b": "2"}})
    assert "axes random, seed 4" in describe({"axes": "random", "seed": 4, "normalise": "filter"})
    assert "seed 4" in describe({"directions": 10, "seed": 4, "checkpoints": {"a": "1"}})


def sides(axes):
    """How long a unit of x and a unit of y are on paper."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(axes.figure).draw()
    corner, right, up = axes.transData.transform([(0, 0), (1, 0), (0, 1)])
    return right[0] - corner[0], up[1] - corner[1]


def wide(height=0.6):
    x, y = np.linspace(-3, 3, 13), np.linspace(-height, height, 7)
    loss = 0.1 + x**2 + y[:, None] ** 2
    return Sweep({"y": y, "x": x}, {"train_loss": loss}, np.ones(loss.shape, dtype=bool))


@pytest.mark.parametrize("style", ["filled", "heatmap", "contour"])
@pytest.mark.parametrize("height", [0.6, 3.0, 9.0])
@pytest.mark.parametrize(
    ("kind", "provenance", "facts"),
    [
        ("surface", {"axes": "through"}, {}),
        ("surface", {"axes": "pca", "normalise": "none"}, {}),
        ("surface", {"axes": "random", "normalise": "filter"}, {}),
        ("surface", {"axes": "random", "normalise": "filter", "problem": {"model": "a" * 300, "data": "b" * 300}}, {}),
        ("surface", {"axes": "eigenvectors"}, {"eigenvalues": [3.0, -1.0]}),
        ("trajectory", {"axes": "pca"}, {"explained": [0.7, 0.2], "distances": {"way": [1.0, 0.0]}, "longest": 2.0}),
    ],
)
def test_axes_of_one_unit_are_drawn_in_their_proportions(kind, provenance, facts, height, style):
    from landscape.plots.figures import plane_figure

    figure = plane_figure(Result(kind, {"": wide(height)}, {}, provenance, facts), "train_loss", style)
    across, up = sides(figure.axes[0])
    assert across == pytest.approx(up, rel=0.01)
    assert across * 6 > 100  # and not too small to see
    assert up * 2 * height > 25


def test_axes_of_several_units_make_a_square_whatever_stands_above_it():
    from landscape.plots.figures import plane_figure

    for model in ("mlp", "m" * 300):
        provenance = {"axes": "difference", "normalise": "none", "problem": {"model": model, "data": "d"}}
        marks = {name: np.zeros((1, 2)) for name in "abc"}
        figure = plane_figure(Result("surface", {"": wide()}, marks, provenance, {}), "train_loss")
        across, up = sides(figure.axes[0])
        assert across * 6 == pytest.approx(up * 1.2, rel=0.01)


def test_compared_planes_keep_their_proportions(call, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("landscape.plots.rendering.save_figures", lambda figures, *rest: drawn.update(figures) or ["x"])
    for axes, true in (("through", True), ("difference", False)):
        file = stored(tmp_path / f"{axes}.h5", wide(), provenance={"axes": axes, "normalise": "none"})
        assert call("compare", file, file, "--out", tmp_path / "c.png", "--overwrite")[0] == 0
        across, up = sides(drawn[""].axes[0])
        assert (across == pytest.approx(up, rel=0.01)) == true
        assert (across * 6 == pytest.approx(up * 1.2, rel=0.01)) != true


def test_between_two_points_colours_and_lines_follow_the_logarithm():
    x = np.array([0.0, 1.0])
    cliff = Sweep({"y": x, "x": x}, {"train_loss": np.array([[1e-4, 1.0]] * 2)}, np.ones((2, 2), dtype=bool))
    axes = new_figure(5, 5).add_subplot()
    draw_contours(axes, cliff, "train_loss", bar=False)
    lines = {level: path.vertices[:, 0].mean() for contours in axes.collections if not contours.filled
             for level, path in zip(contours.levels, contours.get_paths(), strict=True)}  # fmt: skip
    assert lines[-2.0] == pytest.approx(0.5)
    assert {text.get_text() for text in axes.texts} <= {"0.0003", "0.001", "0.003", "0.01", "0.03", "0.1", "0.3"}
    assert sorted(lines) == pytest.approx(np.log10([3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3]))


# ---------------------------------------------------------------------- other layouts


def test_the_other_layout_goes_round(tmp_path):
    known = bowl()
    known.done[2, 3] = False
    for values in known.values.values():
        values[2, 3] = np.nan
    save_foreign_result(tmp_path / "f.h5", Result("surface", {"": known}))
    with h5py.File(tmp_path / "f.h5") as file:
        assert set(file) == {"xcoordinates", "ycoordinates", "train_loss", "train_acc"}
        assert file["train_loss"][2, 3] == -1
        assert file["train_acc"][0, 0] == pytest.approx(100 * known.train_accuracy[0, 0])
    back = load_result(tmp_path / "f.h5")
    assert back.kind == "surface"
    assert np.array_equal(back.sweep.done, known.done)
    np.testing.assert_allclose(back.train_loss[known.done], known.train_loss[known.done])
    np.testing.assert_allclose(back.sweep.train_accuracy[known.done], known.train_accuracy[known.done])


def test_a_grid_that_the_repository_stored_in_the_other_shape_is_read_right(tmp_path):
    """It fills an array of shape [ix, iy] in the flat order of a mesh of shape [iy, ix]."""
    x, y = np.linspace(-1, 1, 4), np.linspace(0, 2, 3)
    across, up = np.meshgrid(x, y)
    losses, accuracies = -np.ones((4, 3)), -np.ones((4, 3))
    for index in range(12):
        losses.ravel()[index] = 10 + across.ravel()[index] + 5 * up.ravel()[index]
        accuracies.ravel()[index] = 50
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["xcoordinates"], file["ycoordinates"] = x, y
        file["train_loss"], file["train_acc"], file["dir_file"] = losses, accuracies, "directions.h5"
    result = load_result(tmp_path / "f.h5")
    np.testing.assert_allclose(result.train_loss, 10 + x + 5 * y[:, None])
    assert (result.train_accuracy == 0.5).all()


def test_a_line_of_the_other_layout(call, tmp_path):
    with h5py.File(tmp_path / "l.h5", "w") as file:
        file["xcoordinates"], file["test_loss"] = np.linspace(-1, 1, 5), np.arange(5.0)
        file["train_loss"], file["train_acc"] = np.arange(5.0) + 1, np.full(5, 90.0)
    assert load_result(tmp_path / "l.h5").sweep.splits == ("train", "test")
    assert call("plot", tmp_path / "l.h5")[0] == 0
    assert call("convert", tmp_path / "l.h5", "--out", tmp_path / "ours.h5")[0] == 0
    assert call("convert", tmp_path / "ours.h5", "--out", tmp_path / "again.h5")[0] == 0
    np.testing.assert_allclose(load_result(tmp_path / "ours.h5").train_loss, np.arange(5.0) + 1)


def test_other_layouts_that_are_none_are_said(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["xcoordinates"] = np.arange(3.0)
    with pytest.raises(ResultError, match="no losses"):
        load_result(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "a") as file:
        file["train_loss"] = np.arange(4.0)
    with pytest.raises(ResultError, match="train_loss holds 4 values"):
        load_result(tmp_path / "f.h5")
    negative = Sweep({"t": np.arange(2.0)}, {"train_loss": np.array([-1.0, 2.0])}, np.ones(2, dtype=bool))
    with pytest.raises(ResultError, match="exactly -1"):
        save_foreign_result(tmp_path / "g.h5", Result("line", {"": negative}))


def test_paraview_reads_every_quantity_at_its_place(call, tmp_path):
    file = stored(tmp_path / "s.h5", bowl(rows=3, columns=5))
    assert call("plot", file, "--style", "vts")[0] == 0
    root = ET.parse(tmp_path / "s.vts").getroot()
    assert root.attrib["type"] == "StructuredGrid"
    assert root.find("StructuredGrid").attrib["WholeExtent"] == "0 4 0 2 0 0"
    arrays = {}
    for node in root.iter("DataArray"):
        content = b64decode(node.text.strip())
        assert int(np.frombuffer(content[:8], "<u8")[0]) == len(content) - 8
        kind = {"Float64": "<f8", "UInt8": "u1"}[node.attrib["type"]]
        arrays[node.attrib["Name"]] = np.frombuffer(content[8:], kind)
    known = bowl(rows=3, columns=5)
    np.testing.assert_array_equal(arrays["train_loss"], known.train_loss.ravel())
    points = arrays["points"].reshape(-1, 3)
    np.testing.assert_array_equal(points[:, 0], np.tile(known.x, 3))
    np.testing.assert_array_equal(points[:, 1], np.repeat(known.y, 5))
    assert np.argmin(points[:, 2]) == np.argmin(known.train_loss)
    assert np.ptp(points[:, 2]) == pytest.approx(2.0)


def test_the_page_needs_nothing_else(call, tmp_path):
    path = np.stack([np.linspace(-0.5, 0.5, 9), np.zeros(9)], axis=1)
    file = stored(tmp_path / "s.h5", bowl(), marks={"learned path": path})
    assert call("plot", file, "--style", "html")[0] == 0
    page = (tmp_path / "s.html").read_text()
    assert "learned path" in page
    assert '<script src="http' not in page
    assert "<link" not in page


def test_a_missing_plotly_is_named(monkeypatch, tmp_path):
    import sys

    from landscape.plots.interactive import surface_page

    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ConfigError, match=r"pip install plotly"):
        surface_page(Result("surface", {"": bowl()}), "train_loss")


@pytest.mark.parametrize("axes", [("1:-1", "x"), ("-1:1", "y")])
def test_descending_axes_are_drawn_as_they_are(call, tmp_path, axes):
    import torch

    values = np.linspace(*map(float, axes[0].split(":")), 5)
    ranges = {"y": np.linspace(0, 1, 3), "x": np.linspace(0, 1, 4)} | {axes[1]: values}
    plane = Plane(torch.zeros(2, dtype=torch.float64), *torch.eye(2, dtype=torch.float64))
    measured = sweep(Potential(lambda theta: theta.square().sum() + theta[0], 2), plane, ranges)
    expected = [[x**2 + y**2 + x for x in ranges["x"]] for y in ranges["y"]]
    np.testing.assert_allclose(measured.potential_loss, expected)
    file = stored(tmp_path / "s.h5", measured)
    assert call("plot", file, "--style", "all")[0] == 0


def test_an_adaptive_surface_is_converted_whole(call, tmp_path):
    whole = bowl()
    done = np.zeros_like(whole.done)
    done[::3, ::3] = True
    measured = Sweep(whole.axes, {name: np.where(done, v, np.nan) for name, v in whole.values.items()}, done)
    completed = Sweep(whole.axes, whole.values, done)
    save_result(tmp_path / "a.h5", Result("surface", {"": measured, "interpolated": completed}))
    assert call("convert", tmp_path / "a.h5", "--out", tmp_path / "f.h5")[0] == 0
    assert np.array_equal(load_result(tmp_path / "f.h5").train_loss, whole.train_loss)


def test_unknown_accuracies_of_the_other_layout_are_unknown(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["xcoordinates"], file["train_loss"] = np.arange(4.0), np.arange(4.0) + 1
        file["train_acc"], file["test_loss"] = np.array([-1.0, -1, -1, -1]), np.array([3.0, 2, -1, -1])
    result = load_result(tmp_path / "f.h5")
    assert result.done.all()
    assert np.isnan(result.train_accuracy).all()
    np.testing.assert_array_equal(result.test_loss, [3.0, 2.0, np.nan, np.nan])


@pytest.mark.parametrize("coordinates", [[[0.0, 1.0]], [0.0, np.nan], [0.0, 2.0, 1.0], []])
def test_coordinates_of_the_other_layout_that_are_none_are_said(tmp_path, coordinates):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["xcoordinates"], file["train_loss"] = np.array(coordinates), np.zeros(np.shape(coordinates))
    with pytest.raises(ResultError, match="ascending or descending"):
        load_result(tmp_path / "f.h5")


NAMES = ["x_{$ b$", "_hidden", "a$b", "a$b$", "a_$x", r"\$\frac{$"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_drawn_and_is_drawn_as_it_is(call, tmp_path, name):
    marks = {name: np.array([[0.1, 0.2]]), "b": np.array([[-0.1, 0.2]])}
    problem = {"model": f"{name}.py:{name}", "data": name}
    file = stored(tmp_path / "s.h5", bowl(), marks=marks, provenance={"problem": problem, "axes": "random"})
    code, _, stderr = call("plot", file, "--format", "svg")
    assert code == 0, stderr
    assert call("compare", file, file, "--labels", name, "b", "--out", tmp_path / "c.png")[0] == 0
    t = np.linspace(0, 1, 5)
    line = Sweep({"t": t}, {f"{name}_loss": t + 1}, np.ones(5, dtype=bool))
    facts = {"names": {"a": name, "b": "b"}}
    assert call("plot", stored(tmp_path / "l.h5", line, "line", facts=facts))[0] == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_shows_names_as_they_are_and_powers_as_powers(name):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    figure = new_figure(5, 4)
    axes = figure.add_subplot()
    axes.plot([1, 2, 3], [1e-3, 1.0, 1e3], label=f" {name}")
    axes.set(yscale="log", title=name, xlabel=name)
    axes.set_xticks([1, 2, 3], [name, "b", "c"])
    figure.legend(loc="outside lower center")
    figure.suptitle(name)
    FigureCanvasAgg(figure).draw()
    shown = [text for text in figure.findobj(Text) if text.get_text().strip() == name]
    assert len(shown) >= 4
    assert not any(text.get_parse_math() for text in shown)
    powers = [text for text in axes.get_yticklabels() if "$" in text.get_text()]
    assert powers
    assert all(text.get_parse_math() for text in powers)


def test_a_bundle_that_is_not_whole_shows_its_whole_lines():
    t = np.linspace(-1, 1, 5)
    losses = np.abs(t) * np.array([[1.0], [2.0], [3.0], [np.nan]]) + 0.1
    done = np.isfinite(losses)
    axes = new_figure(5, 4).add_subplot()
    (median,) = draw_line(axes, Sweep({"direction": np.arange(4.0), "t": t}, {"train_loss": losses}, done))
    np.testing.assert_allclose(median.get_ydata(), np.abs(t) * 2 + 0.1)


def test_compared_lines_show_every_split(call, tmp_path, monkeypatch):
    t = np.linspace(0, 1, 5)
    values = {"train_loss": t + 0.5, "test_loss": 4 * t + 3}
    file = stored(tmp_path / "l.h5", Sweep({"t": t}, values, np.ones(5, dtype=bool)), "line")
    drawn = {}
    monkeypatch.setattr("landscape.plots.rendering.save_figures", lambda figures, *rest: drawn.update(figures) or ["x"])
    assert call("compare", file, file, "--out", tmp_path / "c.png")[0] == 0
    low, high = drawn[""].axes[0].get_ylim()
    assert low < 0.5
    assert high > 7


def test_planes_of_one_row_are_drawn_as_lines_each(call, tmp_path):
    sweeps = {f"seed {seed}": bowl(rows=1) for seed in (1, 2)}
    save_result(tmp_path / "d.h5", Result("surface", sweeps))
    assert call("plot", tmp_path / "d.h5")[0] == 0
    assert (tmp_path / "d_line.png").exists()
    file = stored(tmp_path / "s.h5", bowl(rows=1))
    assert call("compare", file, file, "--out", tmp_path / "c.png")[0] == 0


def test_all_styles_are_those_that_can_be_made(call, tmp_path, monkeypatch):
    monkeypatch.setattr("landscape.plots.interactive.has_plotly", lambda: False)
    code, stdout, stderr = call("plot", stored(tmp_path / "s.h5", bowl()), "--style", "all", "--json")
    assert code == 0, stderr
    assert not any(name.endswith("html") for name in json.loads(stdout)["files"])


@pytest.mark.parametrize("flags", [["--style", "3d"], ["--quantity", "test_loss"]])
def test_a_line_leaves_no_choice(call, tmp_path, flags):
    t = np.linspace(0, 1, 5)
    file = stored(tmp_path / "l.h5", Sweep({"t": t}, {"train_loss": t + 1}, np.ones(5, dtype=bool)), "line")
    code, _, stderr = call("plot", file, *flags)
    assert code == 2
    assert "leave out style and quantity" in stderr
