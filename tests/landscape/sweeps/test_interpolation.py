"""Planes on a finer grid, through all that was measured on them."""

import numpy as np
import pytest

from landscape import Sweep
from landscape.sweeps.interpolation import finer


def valley(x, y):
    """A narrow valley along a parabola, with a loss of about 0.01 on its floor."""
    return 0.01 + (y - 0.5 + 0.4 * x**2) ** 2


def measured(rows=7, columns=11, change=None):
    x, y = np.linspace(-1, 1, columns), np.linspace(-0.5, 1, rows)
    loss = valley(x, y[:, None])
    if change:
        change(loss)
    values = {"train_loss": loss, "train_accuracy": 1 / (1 + loss)}
    return Sweep({"y": y, "x": x}, values, np.ones(loss.shape, dtype=bool))


def floor(count=40):
    """Points on the valley's floor, and what was measured there."""
    x = np.linspace(-0.9, 0.9, count)
    y = 0.5 - 0.4 * x**2
    return np.column_stack([x, y]), {"train_loss": valley(x, y), "train_right": x}


def test_its_own_points_are_kept_to_the_bit_and_the_others_are_met():
    coarse = measured()
    fine = finer(coarse, 8, *floor())
    assert fine.shape == (49, 81)
    assert np.array_equal(fine.x[::8], coarse.x)
    assert np.array_equal(fine.train_loss[::8, ::8], coarse.train_loss)
    assert fine.done.sum() == coarse.done.size
    assert fine.done[::8, ::8].all()
    assert set(fine.values) == set(coarse.values)
    assert ((fine.train_accuracy > 0) & (fine.train_accuracy < 1)).all()

    def on_floor(sweep):
        from landscape.storage.results import heights_at

        return heights_at(sweep, np.log(sweep.train_loss), floor()[0])

    spread = np.ptp(np.log(coarse.train_loss))
    assert np.abs(on_floor(fine) - np.log(0.01)).max() < 0.05 * spread
    assert np.abs(on_floor(finer(coarse, 8, np.empty((0, 2)), {})) - np.log(0.01)).max() > 0.1 * spread


def test_nothing_is_shown_beyond_what_was_measured_nor_twice_at_one_place():
    points, values = floor()
    twice = {name: np.concatenate([v, v + 5]) for name, v in values.items()}
    coarse = measured()
    fine = finer(coarse, 4, np.concatenate([points, points + 1e-9]), twice)
    assert np.array_equal(fine.train_loss, finer(coarse, 4, points, values).train_loss)
    assert fine.train_loss.min() >= 0.01
    assert fine.train_loss.max() <= coarse.train_loss.max()


def test_cells_around_what_is_not_finite_stay_empty():
    def broken(loss):
        loss[2, 3] = np.inf

    fine = finer(measured(change=broken), 4, *floor())
    missing = np.argwhere(~np.isfinite(fine.train_loss))
    assert fine.train_loss[8, 12] == np.inf
    assert missing.min(axis=0).tolist() == [5, 9]
    assert missing.max(axis=0).tolist() == [11, 15]
    assert len(missing) == 49


@pytest.mark.parametrize("value", [0.0, -2.0, 2.0, np.nan])
def test_any_values_have_a_finer_grid(value):
    fine = finer(measured(change=lambda loss: loss.fill(value)), 3, np.empty((0, 2)), {})
    np.testing.assert_allclose(fine.train_loss, value, atol=1e-9)
