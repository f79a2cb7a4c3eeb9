"""The command `connect align`: what it writes and says, and what it refuses."""

import json

import pytest
import torch

from connect.app import cli as connect_cli
from connect.symmetry.symmetries import find_symmetries
from landscape import load_checkpoint, save_tensors
from landscape.problems.models import MODELS

ARGUMENTS = {"input_shape": [1, 8, 8], "classes": 10, "widths": [9, 6], "batch_norm": True}
PROBLEM = {"model": "mlp", "model_args": ARGUMENTS, "data": "digits", "loss": "cross_entropy"}
KEYS = {
    "groups", "verified", "deviation", "pinned", "unknown", "free_share", "objective_before", "objective",
    "distance_before", "distance", "files", "explain",
}  # fmt: skip
CODE = """
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.third(torch.relu(self.second(torch.relu(self.first(x)).CHANGE)))


def data():
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    return (x[:30], (x[:30, 0] > 0).long()), (x[30:], (x[30:, 0] > 0).long())
"""


def network(seed):
    torch.manual_seed(seed)
    return MODELS["mlp"](**ARGUMENTS).eval()


@pytest.fixture
def files(tmp_path):
    """Two networks in files."""
    saved = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for seed, file in enumerate(saved):
        save_tensors(file, network(seed).state_dict(), {"problem": PROBLEM, "test_loss": 0.5})
    return saved


def test_a_permuted_copy_comes_back_exactly(ask, files, tmp_path):
    a = network(0)
    symmetries = find_symmetries(a, torch.randn(2, 1, 8, 8))
    moved = symmetries.permute(a.state_dict(), symmetries.random(5))
    save_tensors(files[1], moved, {"problem": PROBLEM})
    out = tmp_path / "aligned.safetensors"
    code, summary, errors = ask("align", "--a", files[0], "--b", files[1], "--out", out, "--json", program=connect_cli)
    assert code == 0, errors
    assert set(summary) == KEYS
    assert [(group["components"], group["inner"]) for group in summary["groups"]] == [(9, []), (6, [])]
    assert summary["verified"] == 2
    assert summary["free_share"] == pytest.approx(720 / 730)
    assert summary["distance"] == 0 < summary["distance_before"]
    found = load_checkpoint(out).state
    for name, tensor in a.state_dict().items():
        assert torch.equal(found[name], tensor), name


def test_the_aligned_network_computes_what_it_did_and_is_nearer(ask, files, tmp_path):
    out = tmp_path / "aligned.safetensors"
    arguments = ["align", "--a", files[0], "--b", files[1], "--out", out, "--restarts", 2, "--json"]
    code, summary, errors = ask(*arguments, program=connect_cli)
    assert code == 0, errors
    assert summary["distance"] < summary["distance_before"]
    assert summary["files"] == [str(out)]
    found = load_checkpoint(out)
    assert found.metadata["test_loss"] == 0.5
    inputs, aligned, b = torch.randn(5, 1, 8, 8), network(2), network(1)
    aligned.load_state_dict(found.state)
    torch.testing.assert_close(aligned(inputs), b(inputs))
    assert ask(*arguments, program=connect_cli)[0] == 2  # the output is there
    line = ["--a", files[0], "--b", out, "--out", tmp_path / "path", "--epochs", 1, "--points", 3, "--plane-points", 0]
    code, _, errors = ask("fit", *line, "--json", program=connect_cli)
    assert code == 0, errors


def test_a_merged_network_is_the_average_with_statistics_of_its_own(ask, call, files, tmp_path):
    out = tmp_path / "m.safetensors"
    given = ["merge", "--a", files[0], "--b", files[1], "--t", 0.25, "--out", out, "--json"]
    code, summary, errors = ask(*given, program=connect_cli)
    assert code == 0, errors
    a, b, found = network(0).state_dict(), network(1).state_dict(), load_checkpoint(out)
    for name, tensor in found.state.items():
        if "running" not in name and "num" not in name:
            torch.testing.assert_close(tensor, 0.75 * a[name] + 0.25 * b[name])
    assert not any(torch.equal(t, a[name]) for name, t in found.state.items() if "running_var" in name)
    assert found.metadata["test_loss"] == summary["merged"]["test_loss"]
    moved = tmp_path / "moved.safetensors"
    assert call("align", "--a", files[0], "--b", files[1], "--out", moved, program=connect_cli)[0] == 0
    code, aligned, errors = ask(*given[:-3], "--out", tmp_path / "n.safetensors", "--align", "weights", "--json",
                                program=connect_cli)  # fmt: skip
    assert code == 0, errors
    assert aligned["distance"] < summary["distance"]
    assert aligned["b"] == pytest.approx(summary["b"], rel=1e-4)
    there = load_checkpoint(moved).state
    for name, tensor in load_checkpoint(tmp_path / "n.safetensors").state.items():
        if "running" not in name and "num" not in name:
            torch.testing.assert_close(tensor, 0.75 * a[name] + 0.25 * there[name])
    code, printed, errors = call(*given[:-1], "--overwrite", program=connect_cli)
    assert code == 0, errors
    assert "merged at t = 0.25" in printed


def test_groups_are_explained_without_a_second_network(call, files):
    code, printed, errors = call("align", "--a", files[0], "--explain", program=connect_cli)
    assert code == 0, errors
    assert "2 groups of units may change places, 2 proven" in printed
    assert "9 units" in printed
    assert "wrote" not in printed


def mine(tmp_path, change):
    (tmp_path / "mine.py").write_text(CODE.replace(".CHANGE", change))
    namespace = {}
    exec((tmp_path / "mine.py").read_text(), namespace)
    torch.manual_seed(0)
    save_tensors(tmp_path / "m.safetensors", namespace["Network"]().state_dict(), {})
    return ["align", "--a", tmp_path / "m.safetensors", "--model", tmp_path / "mine.py:Network",
            "--data", tmp_path / "mine.py:data", "--explain", "--json"]  # fmt: skip


def test_what_no_rule_is_known_for_pins_its_units_and_is_said(call, tmp_path):
    code, printed, errors = call(*mine(tmp_path, ".cumsum(1)"), program=connect_cli)
    assert code == 0, errors
    summary = json.loads(printed)
    assert summary["unknown"] == {"cumsum": 1}
    assert [group["name"] for group in summary["groups"]] == ["second.weight[0]"]


def test_a_rule_that_were_wrong_would_be_found_out(call, tmp_path, monkeypatch):
    """Cumulative sums are taken for an elementwise function: the proof pins what they are of."""
    from connect.symmetry import rules

    monkeypatch.setitem(rules.RULES, "cumsum", rules.RULES["relu"])
    code, printed, errors = call(*mine(tmp_path, ".cumsum(1)"), program=connect_cli)
    assert code == 0, errors
    summary = json.loads(printed)
    assert [group["name"] for group in summary["groups"]] == ["second.weight[0]"]
    assert [pinned["name"] for pinned in summary["pinned"]] == ["first.weight[0]"]
    assert "changed the outputs" in summary["pinned"][0]["reason"]


def test_a_network_that_draws_numbers_is_refused(call, tmp_path):
    code, printed, errors = call(*mine(tmp_path, ".mul(torch.rand(8))"), program=connect_cli)
    assert (code, printed) == (2, "")
    assert "random numbers" in errors


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--b", "{b}"], "--out is missing"),
        (["--out", "x.safetensors"], "--b is missing"),
        (["--b", "{a}", "--out", "x.safetensors"], "hold the same network"),
        (["--b", "{b}", "--out", "x.pt"], ".safetensors"),
        (["--b", "{b}", "--out", "x.safetensors", "--restarts", 0], "--restarts is 0"),
        (["--b", "nowhere.safetensors", "--out", "x.safetensors"], "nowhere.safetensors"),
    ],
)
def test_what_cannot_be_aligned_is_said(call, files, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    known = {"{a}": files[0], "{b}": files[1]}
    arguments = [known.get(flag, flag) for flag in flags]
    code, printed, errors = call("align", "--a", files[0], *arguments, program=connect_cli)
    assert (code, printed) == (2, "")
    assert words in errors
