"""Files that an earlier version wrote load, draw and resume.

`recorded/commands.txt` holds the commands that wrote them; those under `recorded/stopped` were stopped by a signal.
"""

import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from connect.app import cli as connect_cli
from connect.app.config import EnsembleConfig, FitConfig, GraphConfig, ProfileConfig, SimplexConfig
from landscape import HessianConfig, LineConfig, SurfaceConfig, TrajectoryConfig, load_checkpoint, load_result
from landscape.app import cli as landscape_cli
from landscape.app.options import stated
from landscape.storage.checkpoints import read_metadata
from landscape.storage.store import _FORMERLY

RECORDED = Path(__file__).parent / "recorded"
PROGRAMS = {"landscape": landscape_cli, "connect": connect_cli}
COMMANDS = [line.split() for line in (RECORDED / "commands.txt").read_text().splitlines()]
NEW_EACH_TIME = {"convert"}  # has no --resume
ROUNDED = 1e-5  # what is computed anew from a finished result follows from how a processor rounds
STOPPED = [c for c in COMMANDS if (RECORDED / "stopped" / c[-1]).exists()]
ALIKE = {"stopped", "study", "passes", "chain", "grown", "axes.h5"}  # drawn as others are, or directions
RESULTS = sorted(str(file.relative_to(RECORDED)) for file in RECORDED.rglob("*.h5") if not ALIKE & {*file.parts})


def name(command):
    return f"{command[0]} {command[1]} {command[-1]}"


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A copy of the folder, which is the current one, on a machine as that which wrote it."""
    shutil.copytree(RECORDED, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    wrote = read_metadata(tmp_path / "bezier" / "path.safetensors")["provenance"]
    monkeypatch.setattr(platform, "python_version", lambda: wrote["python"])
    monkeypatch.setattr(torch, "__version__", wrote["versions"]["torch"])
    return tmp_path


def contents(place):
    """What the files of an output hold, by name."""
    if place.is_file() and place.suffix == ".safetensors":
        return {place.name: load_checkpoint(place).state}
    files = [place] if place.is_file() else sorted(place.rglob("*.h5"))
    return {file.name: load_result(file) for file in files}


def require_same(before, after, tolerance):
    assert before.keys() == after.keys()
    for file, was in before.items():
        if isinstance(was, dict):
            assert was.keys() == after[file].keys()
            for tensor, values in was.items():
                torch.testing.assert_close(values, after[file][tensor], rtol=tolerance, atol=tolerance)
            continue
        assert was.kind == after[file].kind
        assert list(was.sweeps) == list(after[file].sweeps)
        for sweep, known in was.sweeps.items():
            for quantity, values in known.values.items():
                found = after[file].sweeps[sweep].values[quantity]
                np.testing.assert_allclose(values, found, rtol=tolerance, atol=tolerance, err_msg=f"{file} {quantity}")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[1] not in NEW_EACH_TIME], ids=name)
def test_a_finished_output_resumes_as_it_is(command, recorded, call):
    program, *arguments = command
    if "eigenvectors" in command:  # they are found anew, and another processor rounds them otherwise
        assert call(*arguments, "--overwrite", program=PROGRAMS[program])[0] == 0
    before = contents(recorded / command[-1])
    code, _, errors = call(*arguments, "--resume", program=PROGRAMS[program])
    assert code == 0, errors
    require_same(before, contents(recorded / command[-1]), ROUNDED)


@pytest.mark.parametrize("command", STOPPED, ids=name)
def test_a_stopped_output_goes_on(command, recorded, call):
    program, *arguments, out = command
    code, _, errors = call(*arguments, f"stopped/{out}", "--resume", program=PROGRAMS[program])
    assert code == 0, errors
    trained = program == "connect"  # a machine may round its steps otherwise
    require_same(contents(recorded / out), contents(recorded / "stopped" / out), 0.05 if trained else 1e-3)


@pytest.mark.parametrize(
    ("file", "config"),
    [
        ("line.h5", LineConfig(a="a", b="b", out="x.h5")),
        ("surface.h5", SurfaceConfig(checkpoint="a", out="x.h5")),
        ("trajectory.h5", TrajectoryConfig(snapshots="way", out="x.h5")),
        ("hessian.h5", HessianConfig(checkpoint="a", out="x.h5")),
        ("profile.h5", ProfileConfig(path="path", out="x.h5")),
        ("ensemble.h5", EnsembleConfig(path="path", out="x.h5")),
        ("bezier/profile.h5", FitConfig(a="a", b="b", out="x")),
        ("volume/simplex.h5", SimplexConfig(minima="a", out="x")),
        ("map/graph.h5", GraphConfig(checkpoints="a", out="x")),
    ],
)
def test_what_results_state_was_stated_before_or_has_a_default(file, config):
    """A new option is in the provenance by itself; what earlier files did not state needs a default to be resumed."""
    assert set(stated(config)) <= {*load_result(RECORDED / file).provenance, *_FORMERLY}


@pytest.mark.parametrize("file", RESULTS)
def test_a_result_is_drawn(file, recorded, rendered, ask):
    program = PROGRAMS[("landscape", "connect")[RESULTS.index(file) % 2]]  # both draw every result
    code, drawn, errors = ask("plot", file, "--out", "pictures", "--json", program=program)
    assert code == 0, errors
    assert drawn["files"]
    assert all(Path(picture).stat().st_size > 1000 for picture in drawn["files"])


def test_a_recorded_surface_is_converted(recorded, call):
    assert call("convert", "foreign.h5", "--out", "ours.h5")[0] == 0
    np.testing.assert_allclose(load_result("ours.h5").train_loss, load_result("surface.h5").train_loss)
