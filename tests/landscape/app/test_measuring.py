"""The commands that measure lines, planes and trajectories, against the plain loss at the same weights."""

import h5py
import numpy as np
import pytest
import torch

from connect.app import cli as connect_cli
from landscape import (
    EmpiricalRisk,
    Frozen,
    ParameterSpace,
    ProblemSpecification,
    build_problem,
    load_checkpoint,
    load_result,
    save_tensors,
)
from landscape.app.cli import _COMMANDS
from landscape.app.commandline import run
from landscape.errors import BusyError
from landscape.space.direction_files import read_directions
from landscape.storage.locks import claimed
from landscape.storage.outputs import OutputFiles, writing
from tests.oracles import Signalling
from tests.points import measure_at

PROBLEM = ["--model", "mlp", "--model-args", '{"widths": [8], "batch_norm": true}', "--data", "digits"]


@pytest.fixture(scope="module")
def minima(tmp_path_factory):
    """Three checkpoints, and the snapshots of the first two."""
    folder = tmp_path_factory.mktemp("minima")
    for seed in (1, 2, 3):
        arguments = [
            "train",
            *PROBLEM,
            "--epochs",
            "3",
            "--seed",
            str(seed),
            "--out",
            str(folder / f"{seed}.safetensors"),
        ]
        arguments += ["--snapshots", str(folder / f"way{seed}")] if seed < 3 else []
        assert run("landscape", "", _COMMANDS, arguments) == 0
    return folder


class Terrain:
    """The plain loss at any weights of the network, with the statistics of a checkpoint."""

    def __init__(self, checkpoint):
        problem = build_problem(ProblemSpecification.from_mapping(checkpoint.metadata["problem"], "test"))
        self.space = ParameterSpace(problem.model)
        self.theta = self.space.load(checkpoint.state)
        self.risk = EmpiricalRisk(self.space, problem, statistics=Frozen(self.space.statistics), batch_size=500)

    def at(self, theta):
        return {f"{name}_loss": m.loss for name, m in measure_at(self.risk, theta).items()}


def thetas(terrain, folder):
    return [terrain.space.flatten(load_checkpoint(folder / f"{i}.safetensors").state) for i in (1, 2, 3)]


def test_a_line_between_two_checkpoints(ask, minima, tmp_path):
    out = tmp_path / "l.h5"
    a, b = minima / "1.safetensors", minima / "2.safetensors"
    given = ["line", "--a", a, "--b", b, "--range", "-0.5:1.5:9", "--batch-norm", "frozen", "--out", out, "--json"]
    code, summary, stderr = ask(*given)
    assert code == 0, stderr
    assert summary["points"] == 9
    assert summary["files"] == [str(out), str(out.with_suffix(".png"))]
    result = load_result(out)
    assert result.kind == "line"
    assert result.provenance["batch_norm"] == "frozen"
    assert set(result.sweep.values) == {"train_loss", "test_loss", "train_accuracy", "test_accuracy"}
    terrain = Terrain(load_checkpoint(a))
    first, second, _ = thetas(terrain, minima)
    for i, t in enumerate(result.t):
        expected = terrain.at((1 - t) * first + t * second)
        for name, loss in expected.items():
            assert result[name][i] == pytest.approx(loss, rel=1e-4)
    assert (summary["min_loss"], summary["max_loss"]) == (result.train_loss.min(), result.train_loss.max())


def test_the_ends_of_a_line_with_recomputed_or_interpolated_statistics(ask, minima, tmp_path):
    a, b = minima / "1.safetensors", minima / "2.safetensors"
    losses = {}
    for policy in ("recomputed", "interpolated"):
        out = tmp_path / f"{policy}.h5"
        given = ["--range", "0:1:3", "--out", out, "--batch-norm", policy]
        assert ask("line", "--a", a, "--b", b, *given)[0] == 0
        losses[policy] = load_result(out).train_loss
    own = [load_checkpoint(path).metadata["train_loss"] for path in (a, b)]
    assert losses["interpolated"][[0, 2]] == pytest.approx(own, rel=1e-4)
    assert losses["recomputed"][[0, 2]] == pytest.approx(own, rel=0.2)
    assert losses["recomputed"][0] != losses["interpolated"][0]
    assert load_result(tmp_path / "recomputed.h5").provenance["batch_norm"] == "recomputed"
    code, _, stderr = ask("line", "--a", a, "--out", tmp_path / "x.h5", "--batch-norm", "interpolated")
    assert code == 2
    assert "needs several checkpoints" in stderr


def test_lines_in_random_directions_meet_in_the_checkpoint_and_differ_elsewhere(ask, minima, tmp_path):
    out = tmp_path / "l.h5"
    given = ["line", "--a", minima / "1.safetensors", "--directions", 4, "--range", "-1:1:5", "--out", out, "--json"]
    code, summary, stderr = ask(*given, "--seed", 7)
    assert code == 0, stderr
    assert summary["points"] == 20
    result = load_result(out)
    assert result.sweep.dims == ("direction", "t")
    assert result.train_loss.shape == (4, 5)
    own = load_checkpoint(minima / "1.safetensors").metadata["train_loss"]
    assert result.train_loss[:, 2] == pytest.approx([own] * 4, rel=1e-5)
    assert len(set(result.train_loss[:, 0])) == 4
    assert result.provenance["normalise"] == "filter"
    fewer = tmp_path / "m.h5"
    assert ask("line", "--a", minima / "1.safetensors", "--range", "-1:1:5", "--out", fewer, "--seed", 7)[0] == 0
    assert np.array_equal(load_result(fewer).train_loss[0], result.train_loss[0])


def test_the_plane_through_three_checkpoints_holds_and_marks_them(ask, minima, tmp_path):
    out = tmp_path / "s.h5"
    named = [minima / f"{i}.safetensors" for i in (1, 2, 3)]
    given = ["surface", "--checkpoint", named[0], "--through", *named[1:], "--points", 6, "--out", out]
    code, _, stderr = ask(*given, "--split", "train,test", "--project", minima / "way1" / "epoch_0001.safetensors")
    assert code == 0, stderr
    result = load_result(out)
    assert list(result.marks) == ["1", "2", "3", "epoch_0001"]
    assert result.provenance["batch_norm"] == "recomputed"
    assert max(result.facts["distances"][name][0] for name in "123") < 1e-4
    assert result.facts["distances"]["epoch_0001"][0] > 0.1
    terrain = Terrain(load_checkpoint(named[0]))
    points = thetas(terrain, minima)
    for i, j in ((0, 1), (1, 2), (0, 2)):
        drawn = np.linalg.norm(result.marks["123"[i]] - result.marks["123"[j]])
        assert drawn == pytest.approx(float((points[i] - points[j]).norm()), rel=1e-4)
    corner = {name: (result.x.min() < m[0, 0] < result.x.max()) for name, m in result.marks.items()}
    assert all(corner.values())
    spacing = [np.diff(axis).mean() for axis in (result.x, result.y)]
    assert spacing[0] == pytest.approx(spacing[1], rel=0.3)
    assert {"train_loss", "test_loss"} <= set(result.sweep.values)
    assert ask("plot", out, "--quantity", "test_error", "--style", "heatmap,contour")[0] == 0
    assert (tmp_path / "s_heatmap.png").exists()


def test_difference_axes_reach_the_other_checkpoints(ask, minima, tmp_path):
    out = tmp_path / "s.h5"
    named = [minima / f"{i}.safetensors" for i in (1, 2, 3)]
    given = ["surface", "--checkpoint", named[0], "--axes", "difference", "--towards", *named[1:], "--out", out]
    code, _, stderr = ask(*given, "--x", "0:1:2", "--y", "0:1:2", "--batch-norm", "frozen")
    assert code == 0, stderr
    result = load_result(out)
    terrain = Terrain(load_checkpoint(named[0]))
    points = thetas(terrain, minima)
    corners = [result.train_loss[0, 0], result.train_loss[0, 1], result.train_loss[1, 0]]
    assert corners == pytest.approx([terrain.at(theta)["train_loss"] for theta in points], rel=1e-4)
    code, _, stderr = ask(
        "surface", "--checkpoint", named[0], "--axes", "difference", "--towards", named[1], "--out", tmp_path / "r.h5",
        "--points", 5,
    )  # fmt: skip
    assert code == 0, stderr
    assert load_result(tmp_path / "r.h5").marks["2"] == pytest.approx(np.array([[1.0, 0.0]]), abs=1e-5)


def test_a_trajectory_lies_on_its_plane_as_least_squares_say(ask, minima, tmp_path):
    out = tmp_path / "t.h5"
    code, summary, stderr = ask("trajectory", minima / "way1", minima / "way2", "--points", 5, "--out", out, "--json")
    assert code == 0, stderr
    assert summary["snapshots"] == {"way1": 4, "way2": 4}
    result = load_result(out)
    terrain = Terrain(load_checkpoint(minima / "1.safetensors"))
    files = [minima / way / f"epoch_000{i}.safetensors" for way in ("way1", "way2") for i in range(4)]
    found = torch.stack([terrain.space.flatten(load_checkpoint(file).state) for file in files]).double()
    offsets = (found - found[3]).numpy()
    _, singular, right = np.linalg.svd(np.delete(offsets, 3, axis=0), full_matrices=False)
    shares = singular**2 / (singular**2).sum()
    assert summary["explained"] == pytest.approx(shares[:2], rel=1e-4)
    coordinates = offsets @ right[:2].T
    drawn = np.concatenate([result.marks["way1"], result.marks["way2"]])
    assert np.abs(drawn) == pytest.approx(np.abs(coordinates), abs=1e-4)
    distances = np.linalg.norm(offsets - coordinates @ right[:2], axis=1)
    told = [*result.facts["distances"]["way1"], *result.facts["distances"]["way2"]]
    assert told == pytest.approx(distances, abs=1e-4)
    longest = np.linalg.norm(offsets, axis=1).max()
    assert summary["largest_distance"] == pytest.approx(distances.max() / longest, rel=1e-3)
    assert ask("trajectory", minima / "way1", "--points", 0, "--out", tmp_path / "u.h5")[0] == 0
    assert (tmp_path / "u.png").exists()


def test_draws_are_what_each_seed_gives(ask, minima, tmp_path):
    centre = ["surface", "--checkpoint", minima / "1.safetensors", "--points", 3]
    code, summary, stderr = ask(*centre, "--draws", 3, "--seed", 5, "--out", tmp_path / "d.h5", "--json")
    assert code == 0, stderr
    assert summary["points"] == 27
    assert ask(*centre, "--seed", 6, "--out", tmp_path / "s.h5")[0] == 0
    draws, single = load_result(tmp_path / "d.h5"), load_result(tmp_path / "s.h5")
    assert list(draws.sweeps) == ["seed 5", "seed 6", "seed 7"]
    assert np.array_equal(draws.sweeps["seed 6"].train_loss, single.train_loss)


def test_directions_travel_through_the_other_layout(ask, minima, tmp_path):
    centre = ["surface", "--checkpoint", minima / "1.safetensors", "--points", 3]
    axes = tmp_path / "axes.h5"
    assert ask(*centre, "--out", tmp_path / "a.h5", "--save-axes", axes)[0] == 0
    assert ask(*centre, "--out", tmp_path / "b.h5", "--axes", axes)[0] == 0
    first, second = (load_result(tmp_path / name) for name in ("a.h5", "b.h5"))
    assert np.array_equal(first.train_loss, second.train_loss)
    with h5py.File(axes) as file:
        model = build_problem(
            ProblemSpecification(model="mlp", data="digits", model_args={"widths": [8], "batch_norm": True})
        ).model
        shapes = [tuple(p.shape) for p in model.parameters()]
        assert [file["xdirection"][str(i)].shape for i in range(len(shapes))] == shapes
    code, _, stderr = ask(*centre, "--out", tmp_path / "c.h5", "--axes", tmp_path / "a.h5")
    assert code == 2
    assert "holds no xdirection" in stderr


def test_a_learned_path_is_projected_with_its_distance(ask, minima, tmp_path):
    named = [minima / f"{i}.safetensors" for i in (1, 2, 3)]
    fit = ["fit", "--a", named[0], "--b", named[1], "--out", tmp_path / "ab", "--epochs", 1, "--points", 2]
    assert ask(*fit, "--plane-points", 0, program=connect_cli)[0] == 0
    path = tmp_path / "ab" / "path.safetensors"
    given = ["surface", "--checkpoint", named[0], "--through", *named[1:], "--points", 3, "--project", path]
    code, _, stderr = ask(*given, "--out", tmp_path / "s.h5", "--split", "train")
    assert code == 0, stderr
    result = load_result(tmp_path / "s.h5")
    assert result.marks["path"].shape == (65, 2)
    assert result.marks["path"][[0, -1]] == pytest.approx(
        np.concatenate([result.marks["1"], result.marks["2"]]), abs=1e-4
    )
    distances = result.facts["distances"]["path"]
    assert max(distances[0], distances[-1]) < 1e-3 < max(distances)


def test_an_adaptive_surface_keeps_measured_and_interpolated_points_apart(ask, minima, tmp_path):
    centre = ["surface", "--checkpoint", minima / "1.safetensors", "--points", 41]
    code, summary, stderr = ask(*centre, "--adaptive", 0.02, "--out", tmp_path / "a.h5", "--json")
    assert code == 0, stderr
    assert summary["points"] < summary["grid"] == 41**2
    assert 0 < summary["error"] <= 0.02
    assert ask(*centre, "--out", tmp_path / "d.h5")[0] == 0
    adaptive, dense = load_result(tmp_path / "a.h5"), load_result(tmp_path / "d.h5")
    measured, whole = adaptive.sweep, adaptive.completed()
    assert measured.done.sum() == summary["points"]
    assert np.isnan(measured.train_loss[~measured.done]).all()
    assert np.array_equal(measured.train_loss[measured.done], dense.train_loss[measured.done])
    heights = np.log(dense.train_loss)
    assert np.abs(np.log(whole.train_loss) - heights).max() <= summary["error"] * np.ptp(heights)
    assert ((whole.train_accuracy >= 0) & (whole.train_accuracy <= 1)).all()


def test_a_resumed_adaptive_surface_is_the_same_to_the_bit(ask, minima, tmp_path, monkeypatch):
    def given(out):
        centre = ["surface", "--checkpoint", minima / "1.safetensors", "--points", 31, "--eval-batch-size", 256]
        return [*centre, "--adaptive", 0.02, "--out", out]

    assert ask(*given(tmp_path / "whole.h5"))[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(100))
        assert ask(*given(tmp_path / "cut.h5"))[0] == 75
    assert ask(*given(tmp_path / "cut.h5"), "--resume")[0] == 0
    whole, cut = load_result(tmp_path / "whole.h5"), load_result(tmp_path / "cut.h5")
    for name in ("", "interpolated"):
        assert np.array_equal(whole.sweeps[name].done, cut.sweeps[name].done)
        assert np.array_equal(whole.sweeps[name].train_loss, cut.sweeps[name].train_loss, equal_nan=True)
    assert whole.facts == cut.facts


def test_biases_move_only_when_asked(ask, minima, tmp_path):
    centre = ["surface", "--checkpoint", minima / "1.safetensors", "--points", 3]
    assert ask(*centre, "--out", tmp_path / "a.h5")[0] == 0
    assert ask(*centre, "--biases", "--out", tmp_path / "b.h5")[0] == 0
    without, including = (load_result(tmp_path / name).train_loss for name in ("a.h5", "b.h5"))
    assert without[1, 1] == including[1, 1]
    assert not np.isclose(without[0, 0], including[0, 0])


def test_a_second_process_on_one_output_is_refused(ask, minima, tmp_path):
    out = tmp_path / "s.h5"
    given = ["surface", "--checkpoint", minima / "1.safetensors", "--points", 3, "--out", out]
    with claimed(out):
        code, _, stderr = ask(*given)
        assert code == 2
        assert "is writing" in stderr
        assert not out.exists()
        with pytest.raises(BusyError, match=r"process \d+ is writing"), claimed(out):
            pass
    assert ask(*given)[0] == 0
    assert not list(tmp_path.glob(".*"))


def test_a_lock_leaves_no_folders_behind(tmp_path):
    with claimed(tmp_path / "a" / "b" / "s.h5"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()


def test_what_a_killed_process_left_is_tidied(tmp_path):
    stale = [tmp_path / ".s.h5.abc123.partial", tmp_path / ".s.h5.lock"]
    other = tmp_path / ".s2.h5.abc123.partial"
    for file in (*stale, other):
        file.write_text("12345")
    with writing(OutputFiles.beside(tmp_path / "s.h5")):
        assert not stale[0].exists()
    assert [file.name for file in tmp_path.iterdir()] == [other.name]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["surface", "--checkpoint", "@1", "--through", "@2"], "--through takes two checkpoints"),
        (["surface", "--checkpoint", "@1", "--through", "@2", "@2"], "hold the same network"),
        (["surface", "--checkpoint", "@1", "--axes", "pca"], "need --towards"),
        (["surface", "--checkpoint", "@1", "--towards", "@2"], "need --towards"),
        (["surface", "--checkpoint", "@1", "--axes", "pca", "--towards", "@2"], "at least two"),
        (["surface", "--checkpoint", "@1", "--axes", "pca", "--towards", "@2", "@2"], "span 1 of the 2"),
        (["surface", "--checkpoint", "@1", "--axes", "difference", "--towards", "@1", "@2"], "zero"),
        (["surface", "--checkpoint", "@1", "--axes", "difference", "--towards", "@2", "@2"], "parallel"),
        (["surface", "--checkpoint", "@1", "--axes", "nowhere.h5"], "no result nowhere.h5"),
        (["surface", "--checkpoint", "@1", "--draws", "0"], "--draws is 0"),
        (["surface", "--checkpoint", "@1", "--draws", "2", "--project", "@2"], "--draws repeats random axes only"),
        (["surface", "--checkpoint", "@1", "--adaptive", "0"], "--adaptive is 0"),
        (["surface", "--checkpoint", "@1", "--points", "1"], "--points is 1"),
        (["surface", "--checkpoint", "@1", "--split", "validation"], "no split 'validation'"),
        (["surface", "--checkpoint", "@1", "--batch-norm", "interpolated"], "needs several"),
        (["surface", "--checkpoint", "@1", "--project", "nothing.safetensors"], "no checkpoint nothing.safetensors"),
        (["line", "--a", "@1", "--b", "@1"], "no line leads from one to the other"),
        (["line", "--a", "@1", "--b", "@2", "--directions", "3"], "for random directions"),
        (["line", "--a", "@1", "--directions", "0"], "--directions is 0"),
        (["line", "--a", "@1", "--range", "1:2"], "--range is '1:2'"),
        (["trajectory", "@1", "@2"], "at least three"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_measured(ask, minima, tmp_path, flags, message):
    given = [minima / f"{flag[1]}.safetensors" if flag.startswith("@") else flag for flag in flags]
    code, _, stderr = ask(*given, "--out", tmp_path / "x.h5")
    assert code == 2
    assert message in stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_without_snapshots_is_named(ask, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, stderr = ask("trajectory", tmp_path / "empty", "--out", tmp_path / "x.h5")
    assert code == 2
    assert "empty holds no checkpoint" in stderr


def test_snapshots_are_ordered_by_their_numbers(ask, minima, tmp_path):
    folder = tmp_path / "way"
    for number, epoch in ((9, 0), (10, 1), (100, 3)):
        known = load_checkpoint(minima / "way1" / f"epoch_000{epoch}.safetensors")
        save_tensors(folder / f"model_{number}.safetensors", known.state, known.metadata)
    assert ask("trajectory", folder, "--points", 0, "--out", tmp_path / "t.h5")[0] == 0
    distances = load_result(tmp_path / "t.h5").marks["way"]
    assert np.linalg.norm(distances[-1]) == pytest.approx(0, abs=1e-5)


RESUMED = {
    "seed": (["--axes", "difference", "--towards", "@2", "--seed", "0"], ["--seed", "7"], "seed = 0"),
    "role": (["--axes", "difference", "--towards", "@2", "--project", "@3", "--x", "0:1:3", "--y", "0:1:3"],
             ["--axes", "difference", "--towards", "@2", "@3"], "begun with axes"),
    "normalise": ([], ["--normalise", "layer"], "normalise = 'filter'"),
    "biases": ([], ["--biases"], "biases = False"),
    "policy": ([], ["--batch-norm", "recomputed"], "batch_norm = 'frozen'"),
    "split": ([], ["--split", "test"], "split = 'train'"),
    "adaptive": (["--points", "21", "--adaptive", "0.02"], ["--adaptive", "0.01"], "adaptive = 0.02"),
    "trainable": ([], ["--trainable", "*weight"], "trainable = None"),
}  # fmt: skip


@pytest.mark.parametrize("name", RESUMED)
def test_a_resume_under_other_settings_is_refused(ask, minima, tmp_path, name, monkeypatch):
    begun, changed, message = RESUMED[name]

    def given(flags):
        return [minima / f"{flag[1]}.safetensors" if flag.startswith("@") else flag for flag in flags]

    centre = ["surface", "--checkpoint", minima / "1.safetensors", "--points", 3, "--out", tmp_path / "s.h5"]
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(2))
        assert ask(*centre, *given(begun))[0] == 75
    overridden = {flag for flag in changed if flag.startswith("--")}
    kept = begun if not overridden & {"--axes"} else begun[begun.index("--x") :]
    code, _, stderr = ask(*centre, *given(kept), *given(changed), "--resume")
    assert code == 2, stderr
    assert message in stderr


def test_a_resume_with_another_file_of_directions_is_refused(ask, minima, tmp_path, monkeypatch):
    centre = ["surface", "--checkpoint", minima / "1.safetensors", "--points", 3]
    axes = tmp_path / "axes.h5"
    assert ask(*centre, "--out", tmp_path / "a.h5", "--save-axes", axes)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(2))
        assert ask(*centre, "--axes", axes, "--out", tmp_path / "b.h5")[0] == 75
    assert ask(*centre, "--out", tmp_path / "a.h5", "--save-axes", axes, "--seed", 9, "--overwrite")[0] == 0
    code, _, stderr = ask(*centre, "--axes", axes, "--out", tmp_path / "b.h5", "--resume")
    assert code == 2
    assert "axes_fingerprint" in stderr


def test_trajectories_in_another_order_are_another_result(ask, minima, tmp_path, monkeypatch):
    given = ["--points", 3, "--x", "-5:5:3", "--y", "-5:5:3", "--out", tmp_path / "t.h5"]
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(2))
        assert ask("trajectory", minima / "way1", minima / "way2", *given)[0] == 75
    code, _, stderr = ask("trajectory", minima / "way2", minima / "way1", *given, "--resume")
    assert code == 2
    assert "begun with" in stderr


def test_axes_are_saved_once_and_over_nothing_else(ask, minima, tmp_path):
    centre = ["surface", "--checkpoint", minima / "1.safetensors", "--points", 3]
    assert ask(*centre, "--out", tmp_path / "a.h5")[0] == 0
    before = (tmp_path / "a.h5").read_bytes()
    code, _, stderr = ask(*centre, "--out", tmp_path / "b.h5", "--save-axes", tmp_path / "a.h5", "--resume")
    assert code == 2, stderr
    assert (tmp_path / "a.h5").read_bytes() == before
    code, _, stderr = ask(*centre, "--out", tmp_path / "c.h5", "--save-axes", tmp_path / "c.h5")
    assert code == 2
    assert "name two files" in stderr


def test_states_in_the_other_layout_give_their_parameters(minima, tmp_path):
    """A file of directions over the whole state, written here as that repository writes it."""
    terrain = Terrain(load_checkpoint(minima / "1.safetensors"))
    state = terrain.space.network.state_dict()
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for group, scale in (("xdirection", 1.0), ("ydirection", -2.0)):
            for index, tensor in enumerate(state.values()):
                file[f"{group}/{index}"] = np.full(tensor.shape, scale * (index + 1))
    x, y = read_directions(tmp_path / "d.h5", terrain.space)
    assert torch.equal(y, -2 * x)
    for segment in terrain.space.segments:
        assert (segment.view(x) == list(state).index(segment.name) + 1).all()


def test_an_overwriting_training_leaves_no_old_snapshots(ask, tmp_path):
    given = ["train", *PROBLEM, "--out", tmp_path / "a.safetensors", "--snapshots", tmp_path / "way"]
    assert ask(*given, "--epochs", 3)[0] == 0
    assert ask(*given, "--epochs", 1, "--overwrite")[0] == 0
    assert sorted(file.name for file in (tmp_path / "way").iterdir()) == [
        "epoch_0000.safetensors",
        "epoch_0001.safetensors",
    ]


def test_the_current_folder_can_be_an_output(ask, minima, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit = ["fit", "--a", minima / "1.safetensors", "--b", minima / "2.safetensors", "--out", ".", "--epochs", 1]
    code, _, stderr = ask(*fit, "--points", 2, "--plane-points", 0, program=connect_cli)
    assert code == 0, stderr
    assert (tmp_path / "path.safetensors").exists()


def test_a_checkpoint_that_lacks_a_tensor_is_named(ask, minima, tmp_path):
    state = dict(load_checkpoint(minima / "1.safetensors").state)
    del state["4.bias"]
    torch.save(state, tmp_path / "f.pt")
    given = ["line", "--a", tmp_path / "f.pt", "--b", minima / "2.safetensors", *PROBLEM, "--trainable", "*.weight"]
    code, _, stderr = ask(*given, "--out", tmp_path / "l.h5")
    assert code == 2
    assert "f.pt: the tensors do not fit" in stderr
    assert "missing: 4.bias" in stderr
