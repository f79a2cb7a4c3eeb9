"""Declared quantities, and the names of arrays in files."""

import numpy as np
import pytest

from landscape.storage.quantities import QUANTITIES, SECOND_SAMPLE, Variable, name_of, variable
from landscape.storage.results import Sweep


@pytest.mark.parametrize("of", ["", "train", SECOND_SAMPLE, "a", "my_own split"])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_name_is_taken_apart_as_it_was_put_together(quantity, of):
    assert variable(name_of(quantity, of)) == Variable(QUANTITIES[quantity], of)


@pytest.mark.parametrize(
    ("name", "quantity", "of", "label"),
    [
        ("train_loss", "loss", "train", "train loss"),
        ("test_error", "error", "test", "test error (%)"),
        ("test_calibration_error", "calibration_error", "test", "test calibration error (%)"),
        ("trace_error", "trace_error", "", "standard error of the trace"),
        ("second_max_eig", "max_eig", "second", "largest eigenvalue, second sample"),
        ("kl_b", "kl", "b", "b Kullback-Leibler divergence (nats)"),
        ("own_r2", "own_r2", "", "own r2"),
    ],
)
def test_names_of_files_have_one_meaning(name, quantity, of, label):
    meaning = variable(name)
    assert (meaning.quantity.name, meaning.of, meaning.label) == (quantity, of, label)


def test_what_follows_from_what_was_measured_is_there_under_its_own_name():
    values = {"train_loss": np.ones(2), "dev_accuracy": np.array([0.25, 1.0]), "second_min_eig": np.array([-1.0, 2.0])}
    values |= {"second_max_eig": np.array([4.0, 0.0]), "max_eig": np.ones(2)}
    sweep = Sweep({"t": np.arange(2.0)}, values, np.ones(2, dtype=bool))
    derived = [each.name for each in sweep.variables][len(values) :]
    assert derived == ["dev_error", "second_ratio", "second_signed_ratio"]
    assert sweep["error", "dev"].tolist() == [0.75, 0.0]
    assert sweep["second_signed_ratio"].tolist() == [-0.25, np.inf]
    assert sweep["ratio", SECOND_SAMPLE].tolist() == [0.25, np.inf]
    assert sweep.splits == ("train",)
    assert sweep.parts("max_eig") == (SECOND_SAMPLE,)
    assert ("ratio", "") not in sweep
    with pytest.raises(KeyError, match="no 'dev_loss'; there are t, train_loss"):
        sweep["loss", "dev"]
