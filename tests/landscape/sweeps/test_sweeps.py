"""Sweeps over grids and the files that keep them."""

import os
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from landscape import Interrupted, Plane, Potential, Result, ResultWriter, load_result, save_result, sweep
from landscape.errors import ConfigError, ProvenanceError, ResultError, StorageError
from landscape.storage.files import remove_partials

AXES = {"y": np.linspace(-1, 1, 4), "x": np.linspace(0, 3, 7)}


def field(theta):
    return 10 * theta[0] + theta[1]


def plane():
    return Plane(torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))


def expected():
    return np.array([[10 * x + y for x in AXES["x"]] for y in AXES["y"]])


def test_a_grid_that_is_not_square_comes_back_unscrambled():
    measured = sweep(Potential(field, 2, torch.float32), plane(), AXES)
    np.testing.assert_allclose(measured.values["potential_loss"], expected(), rtol=1e-6)
    assert measured.done.all()
    assert set(measured.values) == {"potential_loss"}


class Counting(Potential):
    calls = 0
    stop_at = -1

    @contextmanager
    def at(self, theta):
        self.calls += 1
        if self.calls == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        with super().at(theta) as here:
            yield here


@pytest.mark.parametrize("stop_at", [1, 5, 28])
def test_an_interrupted_sweep_goes_on_and_ends_the_same(tmp_path, stop_at):
    path = tmp_path / "s.h5"
    surface = Counting(field, 2, torch.float32)
    surface.stop_at = stop_at
    begun = Result("surface", {}, provenance={"seed": 1})
    with pytest.raises(Interrupted, match=rf"after {stop_at} of 28 points.*--resume"):
        sweep(surface, plane(), AXES, writer=ResultWriter(path, begun))
    assert load_result(path).sweep.done.sum() == stop_at
    again = Counting(field, 2, torch.float32)
    measured = sweep(again, plane(), AXES, writer=ResultWriter(path, begun, resume=True))
    assert again.calls == 28 - stop_at
    whole = sweep(Potential(field, 2, torch.float32), plane(), AXES)
    for got in (measured, load_result(path).sweep):
        assert np.array_equal(got.values["potential_loss"], whole.values["potential_loss"])


def test_nan_and_infinity_are_data_and_not_measured_again(tmp_path):
    def rugged(theta):
        return torch.where(theta[0] > 1.2, theta[0] / 0, torch.where(theta[1] > 0.5, theta[0] * float("nan"), theta[0]))

    path = tmp_path / "s.h5"
    begun = Result("surface", {})
    first = sweep(Potential(rugged, 2), plane(), AXES, writer=ResultWriter(path, begun))
    assert np.isnan(first.values["potential_loss"]).any()
    assert np.isinf(first.values["potential_loss"]).any()
    again = Counting(rugged, 2)
    second = sweep(again, plane(), AXES, writer=ResultWriter(path, begun, resume=True))
    assert again.calls == 0
    np.testing.assert_array_equal(first.values["potential_loss"], second.values["potential_loss"])


def test_a_store_returns_what_it_got(tmp_path):
    measured = sweep(Potential(field, 2), plane(), AXES)
    result = Result(
        "profile",
        {"path": measured, "straight": measured},
        {"a": np.zeros((1, 2))},
        {"seed": 1, "nested": {"lr": 0.1, "names": ["x", None]}},
        {"length": 2.5},
    )
    save_result(tmp_path / "r.h5", result)
    loaded = load_result(tmp_path / "r.h5")
    assert (loaded.kind, loaded.provenance, loaded.facts) == (result.kind, result.provenance, result.facts)
    assert list(loaded.sweeps) == ["path", "straight"]
    np.testing.assert_array_equal(loaded.marks["a"], result.marks["a"])
    for name in loaded.sweeps:
        assert list(loaded.sweeps[name].axes) == ["y", "x"]
        np.testing.assert_array_equal(loaded.sweeps[name].values["potential_loss"], measured.values["potential_loss"])
        assert loaded.sweeps[name].done.dtype == bool


def test_a_resume_under_other_settings_or_on_another_grid_is_refused(tmp_path):
    path = tmp_path / "s.h5"
    sweep(Potential(field, 2), plane(), AXES, writer=ResultWriter(path, Result("surface", {}, {}, {"seed": 1})))
    with pytest.raises(ProvenanceError, match="seed = 1, now it is 2"):
        ResultWriter(path, Result("surface", {}, {}, {"seed": 2}), resume=True)
    writer = ResultWriter(path, Result("surface", {}, {}, {"seed": 1}), resume=True)
    with pytest.raises(ProvenanceError, match="another grid"):
        sweep(Potential(field, 2), plane(), {"y": AXES["y"], "x": AXES["x"] + 1}, writer=writer)


def test_a_resume_keeps_to_the_axes_of_its_file_where_another_processor_rounds_them_otherwise(tmp_path):
    writer = ResultWriter(tmp_path / "s.h5", Result("surface", {}))
    half = sweep(Potential(field, 2), plane(), AXES, writer=writer)
    half.done[1:] = False
    writer.update("", half, flush=True)
    begun = {name: axis.copy() for name, axis in half.axes.items()}
    rounded = {name: axis * (1 + 1e-8) for name, axis in AXES.items()}
    again = ResultWriter(tmp_path / "s.h5", Result("surface", {}), resume=True)
    resumed = sweep(Potential(field, 2), plane(), rounded, writer=again)
    for name, axis in begun.items():
        np.testing.assert_array_equal(resumed.axes[name], axis)
    whole = sweep(Potential(field, 2), plane(), AXES)
    np.testing.assert_array_equal(resumed.values["potential_loss"], whole.values["potential_loss"])
    with pytest.raises(ProvenanceError, match="another grid"):
        sweep(Potential(field, 2), plane(), {name: axis * 1.001 for name, axis in AXES.items()}, writer=again)


def test_a_result_that_is_there_is_not_replaced(tmp_path):
    path = tmp_path / "s.h5"
    save_result(path, Result("surface", {}))
    with pytest.raises(ConfigError, match="--overwrite"):
        ResultWriter(path, Result("surface", {}))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_damaged_result_is_refused(tmp_path, content):
    path = tmp_path / "s.h5"
    path.write_bytes(content)
    with pytest.raises(ResultError, match=r"s\.h5 is damaged"):
        load_result(path)
    with pytest.raises(ResultError, match="no result nowhere"):
        load_result("nowhere.h5")


def test_damage_anywhere_in_a_result_is_noticed(tmp_path):
    path = tmp_path / "s.h5"
    result = Result("surface", {"": sweep(Potential(field, 2), plane(), AXES)}, {}, {"seed": 1})
    save_result(path, result)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for position in random.integers(0, len(content), 150):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            loaded = load_result(path)
        except ResultError:
            continue
        assert loaded.provenance == result.provenance
        for name, values in result.sweep.values.items():
            np.testing.assert_array_equal(loaded.sweep.values[name], values)


def test_a_disk_that_is_full_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "s.h5"
    save_result(path, Result("surface", {}, facts={"version": 1}))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        save_result(path, Result("surface", {}, facts={"version": 2}))
    assert load_result(path).facts == {"version": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["s.h5"]


def test_a_metrics_name_and_its_quantities_are_joined_by_an_underscore():
    def metric(place, theta_at, stop):
        return {"r2": float(sum(place))}

    measured = sweep(
        Potential(field, 2, torch.float32), plane(), AXES, metrics={"": metric, "own": metric, "2nd_": metric}
    )
    assert set(measured.values) == {"potential_loss", "r2", "own_r2", "2nd_r2"}
    assert np.array_equal(measured["own_r2"], np.add.outer(np.arange(4.0), np.arange(7.0)))


def test_a_metric_does_not_replace_what_is_measured():
    def metric(place, theta_at, stop):
        return {"loss": 0.0}

    with pytest.raises(ConfigError, match="the metric 'potential' gives potential_loss, which is measured already"):
        sweep(Potential(field, 2, torch.float32), plane(), AXES, metrics={"potential": metric})


@pytest.mark.parametrize("name", ["a*b.h5", "*.h5", "[1]?.h5", "{x}.h5", "**[!a]*.h5"])
def test_names_may_hold_what_stands_for_others_in_a_shell(tmp_path, name):
    """The file is written, and what a killed process left of it goes, while its namesakes stay."""
    file = tmp_path / name
    save_result(file, Result("line", {"": sweep(Potential(field, 2, torch.float32), plane(), AXES)}))
    assert load_result(file).kind == "line"
    left, others = tmp_path / f".{name}.k2_x.partial", tmp_path / ".a_b.h5.k2_x.partial"
    left.touch()
    others.touch()
    remove_partials(file)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, others.name])
