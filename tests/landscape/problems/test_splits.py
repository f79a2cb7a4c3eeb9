"""Examples that lie in a file, and the bytes by which they are known."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from landscape import Combination, EmpiricalRisk, ParameterSpace, Problem, Recipe, SinglePoint, descend
from landscape.problems.splits import TensorSplit, TypedSplit

ROWS, WIDTH = 100_000, 1024


def anonymous():
    """Megabytes of this process that lie in no file."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("RssAnon:"))
    return int(line.split()[1]) / 1024


@pytest.fixture(params=["r", "c", "torch"])
def mapped(request, tmp_path):
    """400 MB in a file without blocks."""
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(ROWS * WIDTH * 4)
    if request.param == "torch":
        return torch.from_file(str(file), shared=False, size=ROWS * WIDTH).view(ROWS, WIDTH)
    return np.memmap(file, np.float32, mode=request.param, shape=(ROWS, WIDTH))


def test_a_mapped_array_is_never_held(mapped):
    measured_and_trained(np.zeros((10, WIDTH), np.float32))  # what is imported then is imported
    before = anonymous()
    assert measured_and_trained(mapped) - before < 100


def measured_and_trained(inputs):
    """The most memory while a risk over some inputs is measured, differentiated, trained and known again."""
    peak = anonymous()

    def loss(model, batch):
        nonlocal peak
        peak = max(peak, anonymous())
        return model(batch[0])[:, 0].square()

    problem = Problem.of(nn.Linear(WIDTH, 1), {"train": (inputs, np.zeros(len(inputs)))}, loss)
    risk = EmpiricalRisk(ParameterSpace(problem.model), problem, batch_size=500)
    theta = risk.space.theta.clone()
    with risk.at(theta) as here:
        assert here.measure()["train"].loss == pytest.approx(float(theta[-1]) ** 2)
        here.gradient()
    recipe = Recipe(epochs=1, batch_size=5000, lr=1e-3)
    descend(risk, theta.clone()[None], Combination(SinglePoint()), recipe)
    assert problem.data.fingerprints() == problem.to("cpu").data.of_type(torch.float32).fingerprints()
    return max(peak, anonymous())


def test_what_may_only_be_read_is_given_out_as_copies(tmp_path):
    np.arange(12, dtype=np.float32).tofile(tmp_path / "x")
    split = TensorSplit((np.memmap(tmp_path / "x", np.float32, mode="r", shape=(6, 2)),))
    for part in (split, split.to(torch.device("cpu")), TypedSplit(split, torch.float64)):
        for _ in range(2):
            ((x,),) = part.batches([slice(1, 3)])
            assert x.tolist() == [[2, 3], [4, 5]]
            x.zero_()


@pytest.mark.parametrize("at_once", [1, 8, 100, 2**24])
def test_a_fingerprint_does_not_depend_on_where_the_bytes_lie(monkeypatch, at_once):
    monkeypatch.setattr("landscape.problems.splits._BYTES_AT_ONCE", at_once)
    x, y = torch.arange(24.0).view(6, 4), torch.arange(6)
    content = b"torch.float32(6, 4)torch.int64(6,)" + x.numpy().tobytes() + y.numpy().tobytes()
    expected = hashlib.sha256(content).hexdigest()
    assert TensorSplit((x, y)).fingerprint() == expected
    assert TensorSplit((x.T.contiguous().T, torch.stack([y, y], dim=1)[:, 0])).fingerprint() == expected
    assert TensorSplit({"x": np.asfortranarray(x.numpy()), "y": y}).fingerprint() == expected
    assert TensorSplit((x[:, :0], y)).fingerprint() != expected
