"""What draws each kind of result, and which choices it has."""

import ast
import importlib
import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

import landscape
from connect.app import cli as connect_cli
from connect.plots.registry import FIGURES as CONNECTED
from landscape import Result, Sweep, save_result
from landscape.app import cli as landscape_cli
from landscape.errors import ConfigError, ResultError
from landscape.plots.figures import shares_unit
from landscape.plots.registry import FIGURES, choose_styles, figures_of

LINE = Sweep({"t": np.linspace(0, 1, 3)}, {"train_loss": np.array([0.1, 0.5, 0.2])}, np.ones(3, dtype=bool))
LENGTHS = {"path_length": 1.0, "straight_length": 1.0}


def test_landscape_knows_no_kind_of_connects():
    assert not FIGURES.keys() & CONNECTED.keys()
    root = Path(landscape.__file__).parent
    for path in [*(root / "plots").rglob("*.py"), *(root / "app" / "commands").rglob("*.py")]:
        texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not texts & CONNECTED.keys(), path


@pytest.mark.parametrize("kind", [*FIGURES, *CONNECTED])
def test_every_entry_leads_to_a_function_of_a_result(kind):
    entry = figures_of(kind)
    module, _, name = entry.function.partition(":")
    function = getattr(importlib.import_module(module), name)
    assert function.__annotations__["result"] is Result
    assert ("drawing" in function.__annotations__) == bool(entry.choices)


@pytest.mark.parametrize("program", [landscape_cli, connect_cli])
@pytest.mark.parametrize(("kind", "sweep"), [("line", ""), ("profile", "straight")])
def test_both_programs_draw_the_results_of_both(ask, tmp_path, program, kind, sweep):
    save_result(tmp_path / "r.h5", Result(kind, {sweep: LINE}, facts=LENGTHS))
    code, summary, errors = ask("plot", tmp_path / "r.h5", "--low", "0.1", "--json", program=program)
    assert code == 0, errors
    assert summary["files"] == [str(tmp_path / "r.png")]


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        ("profile", ["--style", "3d"], "holds a profile, which has no choice of --style"),
        ("line", ["--colour", "seed"], "holds a line, which has no choice of --colour"),
        ("poem", [], "no installed package draws a result of the kind 'poem'"),
    ],
)
def test_a_choice_that_a_result_does_not_have_is_refused(call, tmp_path, kind, flags, message):
    save_result(tmp_path / "r.h5", Result(kind, {"": LINE}))
    code, _, errors = call("plot", tmp_path / "r.h5", *flags)
    assert code == 2
    assert message in errors


def test_a_result_that_is_not_complete_is_not_drawn_where_all_of_it_is_needed():
    half = Result("profile", {"path": Sweep(LINE.axes, LINE.values, np.array([True, True, False]))})
    for result in (half, Result("profile", {})):
        with pytest.raises(ResultError, match="the profile is not complete; go on with --resume"):
            figures_of("profile").draw(result, None)


def test_another_package_adds_kinds_by_an_entry_point(monkeypatch):
    class Point:
        def load(self):
            return {"poem": "entry"}

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Point()] * (group == "landscape.figures"))
    assert figures_of("poem") == "entry"


def test_styles_are_those_of_the_result_in_its_order():
    available = ["filled", "heatmap", "3d"]
    assert choose_styles(None, available, ["3d"]) == ["3d"]
    assert choose_styles("3d, filled", available, []) == ["filled", "3d"]
    assert choose_styles("all", available, []) == available
    with pytest.raises(ConfigError, match="unknown style 'oil'; this result has filled, heatmap, 3d"):
        choose_styles("filled,oil", available, [])


def test_what_the_axes_of_a_plane_are_is_known_by_its_kind():
    assert [kind for kind in (*FIGURES, *CONNECTED) if shares_unit(Result(kind, {}))] == ["trajectory", "plane"]
