"""What takes minutes: an adaptive surface of a trained network against the dense one."""

import json
import time

import numpy as np
import pytest

from landscape import load_result
from landscape.app.cli import _COMMANDS
from landscape.app.commandline import run


@pytest.mark.gallery
@pytest.mark.parametrize("seed", [0, 1])
def test_an_adaptive_surface_of_a_trained_network_is_the_dense_one_to_a_hundredth(tmp_path, capsys, seed):
    checkpoint = tmp_path / "a.safetensors"
    assert (
        run("landscape", "", _COMMANDS, ["train", "--model", "resnet8", "--data", "digits", "--out", str(checkpoint)])
        == 0
    )
    seconds, results = {}, {}
    for name, flags in (("dense", []), ("adaptive", ["--adaptive", "0.01"])):
        out = tmp_path / f"{name}.h5"
        began = time.perf_counter()
        given = ["surface", "--checkpoint", str(checkpoint), "--seed", str(seed), "--eval-batch-size", "64", "--json"]
        capsys.readouterr()
        assert run("landscape", "", _COMMANDS, [*given, "--out", str(out), *flags]) == 0
        results[name], summary = load_result(out), json.loads(capsys.readouterr().out)
        seconds[name] = time.perf_counter() - began
    heights = np.log(results["dense"].train_loss)
    error = np.abs(np.log(results["adaptive"].completed().train_loss) - heights).max() / np.ptp(heights)
    with capsys.disabled():
        print(f"\n{summary['points']} of 2601 points; error {error:.2%}, estimated {summary['error']:.2%}; {seconds}")  # noqa: T201
    assert summary["points"] <= 2601 / 8
    assert error <= min(0.01, summary["error"])
