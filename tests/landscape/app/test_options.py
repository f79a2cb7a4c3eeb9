"""What options take: values of the declared types, from the command line, a file or a script."""

import dataclasses
from dataclasses import MISSING
from pathlib import Path

import numpy as np
import pytest

import connect.app.config
from connect.app import cli as connect_cli
from landscape import SurfaceConfig, TrainConfig, TrajectoryConfig
from landscape.app import cli as landscape_cli
from landscape.app.config import ProblemOptions
from landscape.app.options import Options, flags, stated, values
from landscape.errors import ConfigError

COMMANDS = [
    (program, name, command) for program in (landscape_cli, connect_cli) for name, command in program._COMMANDS.items()
]


def test_text_is_a_path_wherever_one_is_declared():
    made = SurfaceConfig(checkpoint="a.safetensors", out="x.h5", axes="pca", towards=["b.pt", Path("c.pt")])
    assert made == SurfaceConfig(
        checkpoint=Path("a.safetensors"), out=Path("x.h5"), axes="pca", towards=(Path("b.pt"), Path("c.pt"))
    )
    assert TrajectoryConfig(snapshots="runs/way", out="t.h5").snapshots == (Path("runs/way"),)
    assert connect.app.config.FitConfig(a="a.pt", b="b.pt", out="ab").b == Path("b.pt")
    assert connect.app.config.PlotConfig(result="g.h5").result == Path("g.h5")


@pytest.mark.parametrize("config", sorted({command.config for *_, command in COMMANDS}, key=str))
def test_every_configuration_takes_text_for_its_paths(config):
    assert issubclass(config, Options)
    known = flags(config)
    given = {word: "t.safetensors" for word, flag in known.items() if flag.default is MISSING}
    named = dict.fromkeys(["ExportConfig", "TrainConfig", "AlignConfig", "MergeConfig"], "o.safetensors")
    given |= {"out": {**named, "CompareConfig": "o.png"}.get(config.__name__, "o.h5")}
    given |= {"t": 0.5} if config.__name__ == "ExportConfig" else {}
    given |= {"b": "b.safetensors"} if "b" in known else {}
    made = values(config(**given))
    for word, flag in known.items():
        if flag.hint == Path:
            assert made[word] == Path(given[word])
        if flag.hint == tuple[Path, ...] and word in given:
            assert made[word] == (Path(given[word]),)


def test_numbers_of_numpy_become_plain_ones():
    made = SurfaceConfig(checkpoint="a", out="x.h5", points=np.int64(5), adaptive=np.float32(0.5))
    assert (type(made.points), type(made.adaptive)) == (int, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"points": "many"}, "--points is 'many', expected a whole number"),
        ({"points": True}, "--points is True, expected a whole number"),
        ({"adaptive": "x"}, "--adaptive is 'x', expected a number"),
        ({"resume": "maybe"}, "--resume is 'maybe', expected true or false"),
        ({"precision": "fp8"}, "--precision is 'fp8', expected one of fp32, bf16"),
        ({"batch_norm": "magic"}, "--batch-norm is 'magic', expected one of frozen, interpolated, recomputed"),
        ({"out": 3}, "--out is 3, expected a path"),
        ({"out": "a\0.h5"}, "--out is 'a.x00.h5', expected a path"),
        ({"towards": [3]}, "--towards is .3., expected one or more of: a path"),
        ({"model_args": [1]}, "--model-args is .1., expected a mapping"),
        ({"model": 3}, "--model is 3, expected text"),
        ({"resume": True, "overwrite": True}, "--resume .* and --overwrite .*leave one of them out"),
    ],
)
def test_values_of_other_types_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        SurfaceConfig(**{"checkpoint": "a", "out": "x.h5", **values})


@pytest.mark.parametrize(("program", "name", "command"), COMMANDS)
def test_going_on_and_replacing_exclude_each_other(call, program, name, command):
    if not {"resume", "overwrite"} <= set(flags(command.config)):
        return
    required = [word for word, flag in flags(command.config).items() if flag.default is MISSING]
    given = [f"--{field}=0.5" for field in required if field not in {command.positional, "out"}]
    out = "--out=x.safetensors" if name in {"train", "export", "align", "merge"} else "--out=x.h5"
    arguments = [name, *(["a.pt"] if command.positional else []), *given, out, "--resume", "--overwrite"]
    code, _, stderr = call(*arguments, program=program)
    assert code == 2
    assert "leave one of them out" in stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--adaptive", "x"], "--adaptive is 'x', expected a number."),
        (["--samples", "1.5"], "--samples is '1.5', expected a whole number."),
        (["--batch-norm", "magic"], "--batch-norm is 'magic', expected one of frozen, interpolated, recomputed."),
        (["--points", "many"], "--points is 'many', expected a whole number."),
        (["--model-args", "3"], "--model-args is '3', expected a mapping"),
        (["--model-args", "&a {x: *a}"], "--model-args is '&a {x: *a}', expected a mapping"),
        (["--outt", "2"], "unrecognized arguments: --outt 2; did you mean --out?"),
    ],
)
def test_a_flag_that_does_not_fit_is_named_with_what_it_expects(call, flags, message):
    code, stdout, stderr = call("surface", "--checkpoint", "a", "--out", "s.h5", *flags)
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert "Union" not in stderr
    assert "<class" not in stderr


def test_required_flags_are_named_as_they_are_given(call):
    assert "the following arguments are required: --checkpoint, --out\n" in call("surface")[2]
    assert "the following arguments are required: SNAPSHOTS, --out\n" in call("trajectory")[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"points: [1, 2]", "--points is [1, 2], expected a whole number."),
        (b"resume: maybe", "--resume is 'maybe', expected true or false."),
        (b"adaptive: x", "--adaptive is 'x', expected a number."),
        (b"checkpoint: [a, b]", "--checkpoint is ['a', 'b'], expected a path."),
        (b"point: 3", "the configuration has the unknown key 'point'; did you mean points?"),
        (b"- 1", "holds list, expected flags and their values"),
        (b"", "holds nothing, expected flags and their values"),
        (b"points: \xff", "is not text in UTF-8: invalid start byte at byte 8"),
        (b"a: &a [*a]", "an anchor refers to itself"),
        (b"points: [", "is not YAML"),
        (b"[" * 3000, "nested too deeply"),
        (b"points: \x07", "is not YAML"),
    ],
)
def test_what_is_wrong_with_a_configuration_file_is_said(call, tmp_path, content, message):
    (tmp_path / "c.yaml").write_bytes(content)
    arguments = ["surface", "--checkpoint", "a", "--out", "s.h5", "--config", tmp_path / "c.yaml"]
    code, stdout, stderr = call(*arguments)
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert "unexpected" not in stderr.lower()
    assert len(stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize(("name", "message"), [("nowhere.yaml", "No such file"), (".", "Is a directory")])
def test_a_configuration_that_is_no_file_is_said(call, tmp_path, name, message):
    code, _, stderr = call("surface", f"--config={tmp_path / name}")
    assert code == 2
    assert f"cannot read the configuration {tmp_path / name}: {message}" in stderr


def test_a_script_may_give_a_list_or_a_relative_path():
    made = TrainConfig(out="a.safetensors", problem="p.yaml", epochs=3)
    assert (made.problem.problem, made.recipe.epochs) == (Path("p.yaml"), 3)


def test_groups_are_taken_whole_and_words_override_what_they_hold():
    made = TrainConfig(out="a.safetensors", problem=ProblemOptions(model="mlp", data="digits"), data="tiny")
    assert (made.problem.model, made.problem.data) == ("mlp", "tiny")
    assert dataclasses.replace(made, seed=3, model="cnn").problem.model == "cnn"
    assert dataclasses.replace(made) == made


@pytest.mark.parametrize(("words", "message"), [({"outt": "a"}, "has no 'outt'"), ({"out": MISSING}, "lacks 'out'")])
def test_a_word_that_is_unknown_or_missing_is_a_type_error(words, message):
    words = {word: value for word, value in {"out": "a.safetensors", **words}.items() if value is not MISSING}
    with pytest.raises(TypeError, match=message):
        TrainConfig(**words)


def test_null_is_no_value():
    assert TrainConfig(out="a.safetensors", lr="null", model=None).recipe.lr is None


def test_a_word_of_one_command_stands_in_its_errors():
    with pytest.raises(ConfigError, match=r"--curvature-tolerance is 2.0, expected a number in \(0, 1\)"):
        connect.app.config.ProfileConfig(path="p.safetensors", curvature=True, curvature_tolerance=2.0)


def test_what_a_result_follows_from_is_all_but_what_is_harmless_and_files():
    made = TrajectoryConfig(snapshots="way", out="t.h5", device="cpu", points=5, trainable="*.lora_*")
    assert stated(made) == {
        "x": None, "y": None, "points": 5, "split": "train", "trainable": "*.lora_*", "precision": "fp32",
        "batch_norm": None, "statistics_batch_size": 256,
    }  # fmt: skip
