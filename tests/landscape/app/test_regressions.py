"""Planes of networks that regress, whose minima are sharp and far apart."""

import numpy as np
import pytest

from landscape import load_result

NETWORK = """
import torch

def model(width=16):
    return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))

def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(250, 3, generator=generator)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:]
    return (x[:200], y[:200]), (x[200:], y[200:])
"""


@pytest.fixture(scope="module")
def regressions(tmp_path_factory):
    """The folder with three minima, 0 to 2."""
    from landscape import TrainConfig, train

    folder = tmp_path_factory.mktemp("regressions")
    (folder / "network.py").write_text(NETWORK)
    named = {"model": f"{folder}/network.py:model", "data": f"{folder}/network.py:data", "loss": "mse"}
    for seed in range(3):
        train(TrainConfig(**named, seed=seed, epochs=300, lr=0.05, batch_size=50, out=folder / f"{seed}.safetensors"))
    return folder


def test_an_adaptive_plane_through_three_minima_holds_its_stated_error(ask, regressions, tmp_path):
    named = [regressions / f"{seed}.safetensors" for seed in range(3)]
    problem = ["--model", f"{regressions}/network.py:model", "--data", f"{regressions}/network.py:data"]
    given = ["surface", "--checkpoint", named[0], "--through", *named[1:], *problem, "--loss", "mse"]
    assert ask(*given, "--out", tmp_path / "d.h5")[0] == 0
    code, summary, stderr = ask(*given, "--adaptive", 0.01, "--out", tmp_path / "a.h5", "--json")
    assert code == 0, stderr
    dense, adaptive = load_result(tmp_path / "d.h5"), load_result(tmp_path / "a.h5").completed()
    heights = np.log(dense.train_loss)
    assert np.ptp(heights) > 3  # the minima are sharp
    assert 0 < summary["error"] <= 0.01
    assert summary["points"] < 0.6 * summary["grid"]
    assert np.abs(np.log(adaptive.train_loss) - heights).max() <= summary["error"] * np.ptp(heights)
