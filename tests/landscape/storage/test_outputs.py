"""What commands write: claimed, refused or replaced as one, whatever happens on the way."""

import contextlib
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connect.app import cli as connect_cli
from landscape import load_checkpoint, load_result, save_result
from landscape.app import cli as landscape_cli
from landscape.app.commandline import run
from landscape.errors import BusyError, ConfigError, StorageError
from landscape.storage.locks import claimed
from landscape.storage.outputs import OutputFiles, following, writing
from tests.oracles import Signalling

PROBLEM = ["--model", "mlp", "--model-args", '{"widths": [4]}', "--data", "digits"]
SERIES = {"many": re.compile(r"\d\.txt")}


def place(folder):
    return OutputFiles.inside(folder, "first.txt", "second.txt", "third.txt", series=SERIES)


def content(folder):
    return {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*") if file.is_file()}


def write(outputs, folder, files):
    for name in files:
        file = outputs.at(folder) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("new")


OLD = {"first.txt": "old", "second.txt": "old", "many/1.txt": "old", "many/2.txt": "old", "many/notes": "mine"}
NEW = ["first.txt", "third.txt", "many/2.txt", "many/3.txt"]
AFTER = {"first.txt": "new", "third.txt": "new", "many/2.txt": "new", "many/3.txt": "new", "many/notes": "mine"}


@pytest.fixture
def old(tmp_path):
    folder = tmp_path / "out"
    for name, text in OLD.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_older_outputs_are_replaced_together_at_the_end(old):
    with writing(place(old), overwrite=True) as outputs:
        write(outputs, old, NEW)
        assert {name: content(old)[name] for name in OLD} == OLD
        outputs.commit()
        assert content(old).items() >= AFTER.items()
    assert content(old) == AFTER


def test_a_run_that_fails_leaves_what_was_there(old):
    with pytest.raises(ValueError, match="no"), writing(place(old), overwrite=True):
        raise ValueError("no")
    assert content(old) == OLD
    assert not list(old.glob(".*"))
    with contextlib.suppress(ValueError), writing(place(old), overwrite=True) as outputs:
        write(outputs, old, NEW[:1])
        raise ValueError("no")
    assert {name: content(old)[name] for name in OLD} == OLD
    with writing(place(old), resume=True) as outputs:  # what there is of the new ones is gone on with
        assert (outputs.at(old) / NEW[0]).read_text() == "new"
        write(outputs, old, NEW[1:])
        outputs.commit()
    assert content(old) == AFTER


def test_a_run_that_is_stopped_before_it_wrote_anything_is_gone_on_with_all_the_same(old):
    """The outcome of the old run must not be taken for that of the new one, even where both have the same settings."""
    with pytest.raises(KeyboardInterrupt), writing(place(old), overwrite=True):
        raise KeyboardInterrupt
    with writing(place(old), resume=True) as outputs:
        assert not (outputs.at(old) / "first.txt").exists()
        assert following(place(old)).at(old) == outputs.at(old) != old
    with writing(place(old), overwrite=True) as outputs:  # starts again
        assert not (outputs.at(old) / "first.txt").exists()


@pytest.mark.parametrize("step", ["rename", "unlink", "replace", "rmdir"])
@pytest.mark.parametrize("after", [0, 1, 2, 3])
@pytest.mark.parametrize("flags", [{"resume": True}, {"overwrite": True}, {}], ids=["resume", "overwrite", "neither"])
def test_a_commit_that_a_kill_cuts_short_is_brought_to_its_end(old, monkeypatch, step, after, flags):
    original, calls = getattr(Path, step), 0

    def killed(self, *arguments):
        nonlocal calls
        calls += ".lock" not in self.name
        if calls > after:
            raise KeyboardInterrupt
        return original(self, *arguments)

    try:
        with writing(place(old), overwrite=True) as outputs:
            write(outputs, old, NEW)
            monkeypatch.setattr(Path, step, killed)
            outputs.commit()
    except KeyboardInterrupt:
        pass
    finally:
        monkeypatch.undo()
    begun = not (old / ".first.txt.new").exists()
    for lock in old.parent.rglob(".*.lock"):
        lock.unlink()
    if flags.get("resume"):
        with writing(place(old), **flags) as outputs:
            outputs.commit()
        assert content(old) == AFTER
    elif flags:
        with writing(place(old), **flags) as outputs:
            assert {name: text for name, text in content(old).items() if not name.startswith(".")} == (
                AFTER if begun else OLD
            )
            assert content(outputs.at(old)) == {}
    else:
        with pytest.raises(ConfigError, match="is there already"), writing(place(old)):
            pass
        assert {name: text for name, text in content(old).items() if not name.startswith(".")} == (
            AFTER if begun else OLD
        )


def test_where_nothing_is_there_files_grow_at_their_places(tmp_path):
    with writing(place(tmp_path / "out"), overwrite=True) as outputs:
        assert outputs.at(tmp_path / "out") == tmp_path / "out"
        assert outputs.at(tmp_path / "out" / "first.txt") == tmp_path / "out" / "first.txt"
        outputs.commit()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["second.txt", "many/2.txt"])
def test_any_of_them_is_refused_where_no_flag_says_what_to_do(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    message = rf"{name} is there already; give --resume to go on with it, --overwrite to replace it"
    with pytest.raises(ConfigError, match=message), writing(place(tmp_path), resume=False):
        pass


@pytest.mark.parametrize("name", ["second.txt", "many/9.txt"])
def test_what_is_read_is_never_written(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("input")
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "other").hardlink_to(file)
    for read in (
        file,
        tmp_path / "link",
        Path(os.path.relpath(file)),
        *([tmp_path / "other"] if "many" not in name else []),
    ):
        for flags in ({"overwrite": True}, {"resume": True}, {}):
            with (
                pytest.raises(ConfigError, match="is read by this command"),
                writing(place(tmp_path), read=[read], **flags),
            ):
                pass
    assert file.read_text() == "input"


def test_outputs_do_not_meet(tmp_path):
    one = OutputFiles.beside(tmp_path / "a.txt", "b.txt")
    for other in (
        OutputFiles.beside(tmp_path / "b.txt"),
        OutputFiles.inside(tmp_path, series={"": SERIES["many"]}, label="x"),
    ):
        clash = OutputFiles.beside(tmp_path / "1.txt") if other.series else one
        with pytest.raises(ConfigError, match="are one file"), writing(clash, other):
            pass


def test_every_output_is_held(tmp_path):
    with writing(place(tmp_path)):
        for name in ("first.txt", "second.txt", "third.txt"):
            with pytest.raises(BusyError, match=f"process {os.getpid()} is writing"), claimed(tmp_path / name):
                pass
    with claimed(tmp_path / "third.txt"), pytest.raises(BusyError), writing(place(tmp_path)):
        pass
    with writing(place(tmp_path)):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_of_a_process_that_was_killed_is_taken_over(tmp_path):
    (tmp_path / ".s.h5.lock").write_text("12345")
    with claimed(tmp_path / "s.h5"):
        assert (tmp_path / ".s.h5.lock").read_text() == str(os.getpid())
    assert not list(tmp_path.iterdir())


def test_of_many_that_ask_again_and_again_one_holds_an_output_at_a_time(tmp_path):
    holders, refused = [], []

    def ask(number):
        for _ in range(50):
            try:
                with claimed(tmp_path / "s.h5"):
                    holders.append(number)
                    assert holders == [number]
                    holders.remove(number)
            except BusyError as error:
                refused.append(error)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert len(refused) < 200
    assert not list(tmp_path.iterdir())


def test_a_full_disk_at_the_end_keeps_the_new_files(old, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    with writing(place(old), overwrite=True) as outputs:
        write(outputs, old, NEW)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", full)
            with pytest.raises(StorageError, match="the new files are whole"):
                outputs.commit()
    with pytest.raises(ConfigError), writing(place(old)):
        pass
    assert content(old) == AFTER


# ------------------------------------------------------------------ commands


@pytest.fixture(scope="module")
def minima(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minima")
    for seed in (1, 2):
        given = ["train", *PROBLEM, "--epochs", "1", "--seed", str(seed), "--out", str(folder / f"{seed}.safetensors")]
        assert run("landscape", "", landscape_cli._COMMANDS, given) == 0
    return [folder / "1.safetensors", folder / "2.safetensors"]


def everything(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def commands(minima, out):
    ends = ["--a", minima[0], "--b", minima[1]]
    quick = ["--epochs", 1, "--eval-batch-size", 2048]
    way = ["--snapshots", out / "way"]
    return {
        "train": ["train", *PROBLEM, "--epochs", 1, "--out", out / "a.safetensors", *way],
        "line": ["line", *ends, "--range", "0:1:3", "--out", out / "l.h5"],
        "surface": ["surface", "--checkpoint", minima[0], "--points", 3, "--out", out / "s.h5",
                    "--save-axes", out / "axes.h5"],
        "hessian": ["hessian", "--checkpoint", minima[0], "--samples", 20, "--out", out / "h.h5"],
        "fit": ["fit", *ends, *quick, "--points", 3, "--plane-points", 2, "--out", out / "f"],
        "simplex": ["simplex", *minima, *quick, "--samples", 2, "--out", out / "v"],
        "graph": ["graph", *minima, *quick, "--points", 3, "--out", out / "g"],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["train", "line", "surface", "hessian", "fit", "simplex", "graph"])
def test_every_command_replaces_at_the_end_and_goes_on_after_a_stop(call, minima, tmp_path, monkeypatch, name):
    """Also where the new run has the settings of the old one, whose files are all there."""
    out = tmp_path / "out"
    command = commands(minima, out)[name]
    program = connect_cli if name in connect_cli._COMMANDS else landscape_cli
    assert call(*command, program=program)[0] == 0
    before = everything(out)
    code, _, errors = call(*command, program=program)
    assert (code, "is there already" in errors) == (2, True)
    code, _, errors = call(*command, "--resume", "--overwrite", program=program)
    assert (code, "leave one of them out" in errors) == (2, True)
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(2))
        assert call(*command, "--overwrite", program=program)[0] == 75
    assert everything(out).items() >= before.items()
    assert list(out.rglob(".*.new"))
    stamps = {file: (out / file).stat().st_mtime_ns for file in before if not str(file).endswith(".png")}
    code, _, errors = call(*command, "--resume", program=program)
    assert code == 0, errors
    assert set(everything(out)) == set(before)
    assert not list(out.rglob(".*"))
    assert all((out / file).stat().st_mtime_ns > stamp for file, stamp in stamps.items())


@pytest.mark.parametrize("name", ["train", "fit", "simplex"])
def test_a_successor_that_diverges_leaves_the_old_results(call, minima, tmp_path, name):
    command = commands(minima, tmp_path / "out")[name]
    program = connect_cli if name in connect_cli._COMMANDS else landscape_cli
    assert call(*command, program=program)[0] == 0
    before = everything(tmp_path / "out")
    code, _, errors = call(*command, "--lr", "1e30", "--overwrite", program=program)
    assert code == 2
    assert "diverged" in errors or "NaN" in errors or "not finite" in errors, errors
    assert everything(tmp_path / "out").items() >= before.items()


def test_a_spectrum_is_printed_without_a_file(ask, call, minima, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["hessian", "--checkpoint", minima[0], "--samples", 20]
    code, alone, errors = ask(*given, "--json")
    assert code == 0, errors
    assert alone["files"] == []
    assert not list(tmp_path.iterdir())
    assert not list(minima[0].parent.glob(".*"))
    code, printed, _ = call(*given)
    assert code == 0
    assert "largest eigenvalues" in printed
    assert "wrote" not in printed
    assert not printed.endswith("\n\n")
    code, filed, _ = ask(*given, "--out", "h.h5", "--json")
    assert set(filed) == set(alone)
    assert filed["top"] == alone["top"]
    for flag in ("--resume", "--overwrite"):
        code, _, errors = call(*given, flag)
        assert code == 2
        assert "give --out" in errors
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(1))
        code, _, errors = call(*given)
    assert code == 75
    assert "nothing is kept without --out" in errors


def test_a_spectrum_is_not_computed_twice_and_binds_its_precision(ask, call, minima, tmp_path, monkeypatch):
    out = tmp_path / "h.h5"
    given = ["hessian", "--checkpoint", minima[0], "--samples", 20, "--out", out, "--eval-batch-size", 512]
    _, first, _ = ask(*given, "--json")
    result = load_result(out)
    assert result.provenance["precision"] == "fp32"
    earlier = {key: value for key, value in result.provenance.items() if key != "precision"}
    save_result(out, replace(result, provenance=earlier))  # as a version wrote it that did not say

    def never(*_, **__):
        raise AssertionError("it is known already")

    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commands.spectra.lanczos", never)
        _, again, errors = ask(*given, "--resume", "--json")
    assert {**again, "seconds": 0} == {**first, "seconds": 0}, errors
    code, _, errors = call(*given, "--resume", "--precision", "bf16")
    assert code == 2
    assert "begun with precision = 'fp32', now it is 'bf16'" in errors
    (tmp_path / "h_vectors.safetensors").unlink()
    assert call(*given, "--resume")[0] == 0
    assert load_checkpoint(tmp_path / "h_vectors.safetensors").state


STUDY = """
data: digits
train: {epochs: 1, batch_size: 256}
networks:
  one: {model: mlp, model_args: {widths: [4]}}
  two: {model: mlp, model_args: {widths: [4]}, seed: 4, train: {lr: RATE}}
line: {a: one, b: two, name: between, range: "0:1:3"}
surface: {points: 3}
trajectory: {points: 0}
compare: {}
"""


def test_a_study_is_replaced_as_a_whole(call, tmp_path, monkeypatch):
    study, out = tmp_path / "s.yaml", tmp_path / "out"
    study.write_text(STUDY.replace("RATE", "0.05"))
    assert call("study", study, "--out", out)[0] == 0
    before = everything(out)
    study.write_text(STUDY.replace("RATE", "1e30"))
    code, _, errors = call("study", study, "--out", out, "--overwrite")
    assert code == 2, errors
    assert everything(out).items() >= before.items()
    study.write_text(STUDY.replace("RATE", "0.05"))
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(20))
        assert call("study", study, "--out", out, "--overwrite")[0] == 75
    assert everything(out).items() >= before.items()
    code, printed, errors = call("study", study, "--out", out, "--resume")
    assert code == 0, errors
    assert ".new" not in printed
    assert set(everything(out)) == set(before)
    assert not list(out.rglob(".*"))
    code, _, errors = call("study", study, "--out", out, "--resume", "--overwrite")
    assert code == 2
    assert "leave one of them out" in errors


@pytest.mark.fault
def test_a_killed_successor_is_gone_on_with_and_not_mistaken_for_the_old_run(minima, tmp_path, start):
    """The same settings twice; the second run is killed at many moments, its commit among them."""
    out = tmp_path / "f"
    given = ["connect", "fit", "--a", minima[0], "--b", minima[1], "--epochs", 3, "--points", 3, "--plane-points", 2,
             "--eval-batch-size", 2048, "--save-every", 0, "--out", out]  # fmt: skip
    began = time.monotonic()
    start.finish(*given)
    length = time.monotonic() - began
    names = {file.name for file in out.iterdir()}
    old = {name: (out / name).stat().st_mtime_ns for name in names}
    random, flags, code = np.random.default_rng(0), "--overwrite", -1
    for _ in range(12):
        program = start(*given, flags)
        program.wait(random.uniform(0.5, 1.0) * length)
        program.kill()
        flags = "--resume" if list(out.glob(".path.safetensors.*")) else flags
        for name in ("path.safetensors", "profile.h5", "plane.h5"):
            (load_checkpoint if name.endswith("tensors") else load_result)(out / name)
        if (code := program.process.exitcode) == 0:
            break
    if code:
        start.finish(*given, flags)
    assert {file.name for file in out.iterdir()} == names
    assert all((out / name).stat().st_mtime_ns > old[name] for name in names)
