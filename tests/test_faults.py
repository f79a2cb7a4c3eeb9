"""Kills, full disks and signals, over and over, against a run that nothing disturbed."""

import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from landscape import load_result

PROBLEM = ["--model", "mlp", "--model-args", '{"widths": [32], "batch_norm": true}', "--data", "digits"]
PROGRAM = [sys.executable, "-c", "from landscape.app.cli import main; main()"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, start):
    out = tmp_path_factory.mktemp("minimum") / "a.safetensors"
    start.finish("landscape", "train", *PROBLEM, "--epochs", 2, "--out", out)
    return out


def surface(checkpoint, out, *flags):
    given = ["surface", "--checkpoint", checkpoint, "--out", out, "--eval-batch-size", 1024, "--json", *flags]
    return [str(argument) for argument in given]


@pytest.mark.fault
@pytest.mark.parametrize(
    ("count", "flags"),
    [
        (60, ["--points", 41]),
        (30, ["--points", 121, "--adaptive", 0.0005]),
        (15, ["--points", 9, "--curvature", "--samples", 100]),
    ],
    ids=["dense", "adaptive", "curvature"],
)
def test_kills_at_any_time_lose_nothing(checkpoint, tmp_path, start, count, flags):
    began = time.monotonic()
    start.finish("landscape", *surface(checkpoint, tmp_path / "whole.h5", *flags))
    length = time.monotonic() - began
    expected = load_result(tmp_path / "whole.h5")
    out, random = tmp_path / "s.h5", np.random.default_rng(0)
    kills = 0
    known = None
    while kills < count:
        program = start("landscape", *surface(checkpoint, out, "--resume", *flags))
        program.wait(random.uniform(0, 0.7 * length))
        kills += program.kill()
        if out.exists():
            now = load_result(out)
            require_part_of(now, expected)
            assert known is None or (now.sweep.done >= known.sweep.done).all(), "an acknowledged point was lost"
            known = now
        if program.process.exitcode == 0:
            require_same(load_result(out), expected)
            out.unlink()
            known = None
    start.finish("landscape", *surface(checkpoint, out, "--resume", *flags))
    require_same(load_result(out), expected)
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".s.h5")]


def require_part_of(result, expected):
    done = result.sweep.done
    assert np.array_equal(result.train_loss[done], expected.train_loss[done])


def require_same(result, expected):
    assert list(result.sweeps) == list(expected.sweeps)
    assert result.facts == expected.facts
    for name, sweep in expected.sweeps.items():
        assert np.array_equal(result.sweeps[name].done, sweep.done)
        for quantity, values in sweep.values.items():
            assert np.array_equal(result.sweeps[name].values[quantity], values, equal_nan=True)


def limited(size):
    """What a child process does first: no file may grow beyond a size."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.fault
@pytest.mark.parametrize("size", [100, 4096])
def test_a_full_disk_is_a_clear_error_and_the_old_file_is_whole(checkpoint, tmp_path, start, size):
    out = tmp_path / "s.h5"
    start.finish("landscape", *surface(checkpoint, out, "--points", 5))
    before = out.read_bytes()
    given = surface(checkpoint, out, "--points", 31, "--overwrite")
    full = subprocess.run([*PROGRAM, *given], preexec_fn=limited(size), capture_output=True, text=True, check=False)
    assert full.returncode == 2
    assert full.stdout == ""
    assert "cannot write" in full.stderr
    assert "File too large" in full.stderr
    assert out.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.h5", "s_3d.png", "s_filled.png"]
    start.finish("landscape", *given)
    assert load_result(out).train_loss.shape == (31, 31)


@pytest.mark.fault
def test_a_folder_that_cannot_be_written_to_is_a_clear_error(checkpoint):
    refused = subprocess.run(
        [*PROGRAM, *surface(checkpoint, "/proc/nowhere/s.h5")], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "cannot write /proc/nowhere/s.h5" in refused.stderr


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_flushes_and_ends_within_ten_seconds(checkpoint, tmp_path, number):
    out = tmp_path / "s.h5"
    process = subprocess.Popen(
        [*PROGRAM, *surface(checkpoint, out, "--points", 401)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not out.exists():
        time.sleep(0.05)
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == 75
    assert stdout == ""
    assert "--resume" in stderr
    told = int(stderr.split("stopped after ")[1].split()[0])
    assert load_result(out).sweep.done.sum() == told


@pytest.mark.fault
def test_two_processes_on_one_output(checkpoint, tmp_path, start):
    out = tmp_path / "s.h5"
    given = surface(checkpoint, out, "--points", 401)
    first = start("landscape", *given)
    while not out.exists():
        time.sleep(0.05)
    code, _, errors = start("landscape", *given, "--resume").finish()
    assert code == 2
    assert f"process {first.process.pid} is writing" in errors
    first.kill()
    done = load_result(out).sweep.done.sum()
    third = start("landscape", *given, "--resume")
    while load_result(out).sweep.done.sum() <= done:
        assert third.alive
        time.sleep(0.05)
    third.process.terminate()
    assert third.finish(timeout=10)[0] == 75


@pytest.mark.fault
def test_a_bundle_of_lines_survives_kills_too(checkpoint, tmp_path, start):
    given = ["landscape", "line", "--a", checkpoint, "--directions", 40, "--range", "-1:1:61",
             "--eval-batch-size", 1024, "--out"]  # fmt: skip
    start.finish(*given, tmp_path / "whole.h5")
    random, out = np.random.default_rng(1), tmp_path / "l.h5"
    for _ in range(10):
        program = start(*given, out, "--resume")
        program.wait(random.uniform(0.1, 1.0))
        program.kill()
    start.finish(*given, out, "--resume")
    require_same(load_result(out), load_result(tmp_path / "whole.h5"))
