"""What pictures, logs and results say of batch norm: its policy for a network that has any, and nothing for others."""

import shutil
from pathlib import Path

import pytest
import torch

from landscape import load_result, save_tensors
from tests.commands import MEASURING, PROGRAMS, build_world

DRAWN = [key for key in MEASURING if key[1] not in {"train", "export", "align", "merge"}]
NAMING = [("landscape", "line"), ("landscape", "hessian"), ("connect", "profile")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return build_world(tmp_path_factory.mktemp("plain"), {"widths": [4]})


@pytest.fixture(scope="module")
def normalised(tmp_path_factory):
    return build_world(tmp_path_factory.mktemp("normalised"), {"widths": [4], "batch_norm": True})


@pytest.fixture
def drawn(call):
    """Run a command on a world; returns its pictures in words, its results, and all that it printed."""

    def run(world, key):
        code, printed, errors = call(*world.command(key, "--eval-batch-size", "512"), program=PROGRAMS[key[0]])
        assert code == 0, errors
        files = [Path(line.removeprefix("wrote ")) for line in printed.splitlines() if line.startswith("wrote ")]
        pictures = [file.read_text() for file in files if file.suffix == ".png"]
        results = [load_result(file) for file in files if file.suffix == ".h5"]
        shutil.rmtree(world.folder / "results")
        assert pictures
        assert results
        return pictures, results, printed + errors

    return run


@pytest.mark.parametrize("key", DRAWN, ids=" ".join)
def test_a_network_without_batch_norm_is_not_told_to_have_any(plain, drawn, key):
    pictures, results, printed = drawn(plain, key)
    assert "batch norm" not in "\n".join([*pictures, printed]).lower()
    assert all(result.provenance["batch_norm"] is None for result in results)


@pytest.mark.parametrize("key", NAMING, ids=" ".join)
def test_the_policy_of_a_network_with_batch_norm_is_named(normalised, drawn, key):
    pictures, results, _ = drawn(normalised, key)
    assert all(f"batch norm {result.provenance['batch_norm']}" in pictures[0] for result in results)


def test_buffers_that_move_with_the_network_are_named(call, tmp_path):
    """An input scaler, which two checkpoints hold otherwise, and no batch norm."""
    (tmp_path / "mine.py").write_text(
        "import torch\n\n\nclass Scaled(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.linear = torch.nn.Linear(3, 2)\n        self.register_buffer('scale', torch.ones(3))\n\n"
        "    def forward(self, x):\n        return self.linear(x * self.scale)\n\n\ndef data():\n"
        "    x = torch.linspace(-1, 1, 120).reshape(40, 3)\n    return {'train': (x, (x[:, 0] > 0).long())}\n"
    )
    files = []
    for seed in (1, 2):
        files.append(tmp_path / f"{seed}.safetensors")
        weights = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))
        save_tensors(
            files[-1], {"linear.weight": weights, "linear.bias": weights[:, 0], "scale": torch.ones(3) * seed}, {}
        )
    out = tmp_path / "line.h5"
    own = ["--model", tmp_path / "mine.py:Scaled", "--data", tmp_path / "mine.py:data", "--batch-norm", "interpolated"]
    code, _, errors = call("line", "--a", files[0], "--b", files[1], "--range", "0:1:3", "--out", out, *own)
    assert code == 0, errors
    words = out.with_suffix(".png").read_text()
    assert "buffers interpolated" in words
    assert "batch norm" not in words
    assert (load_result(out).provenance["buffers"], load_result(out).provenance["batch_norm"]) == ("interpolated", None)
