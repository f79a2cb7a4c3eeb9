"""Studies from one file, and the models that they are about."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from landscape import ProblemSpecification, StudyConfig, SurfaceConfig, build_problem, load_checkpoint, load_result
from landscape.app.commands.studies import planned
from landscape.app.problems import read_problem_file
from landscape.errors import ConfigError
from landscape.problems.models import MODELS
from tests.oracles import Signalling

CONFIGS = Path(__file__).parents[3] / "configs"
STUDY = """
data: digits
train: {epochs: 2, batch_size: 256}
networks:
  small batch: {model: mlp, model_args: {widths: [6]}, train: {batch_size: 64}}
  large batch: {model: mlp, model_args: {widths: [6]}, seed: 4}
line:
  - {name: between, a: small batch, b: large batch, range: "0:1:3"}
  - {directions: 2, range: "-1:1:3"}
surface: {points: 3, seed: 2}
trajectory: {points: 0}
compare: {columns: 1}
"""


def test_a_study_trains_measures_and_compares(call, rendered, tmp_path):
    (tmp_path / "s.yaml").write_text(STUDY)
    out = tmp_path / "out"
    code, stdout, stderr = call("study", tmp_path / "s.yaml", "--out", out, "--json")
    assert code == 0, stderr
    summary = json.loads(stdout)
    assert set(summary["networks"]) == {"small batch", "large batch"}
    assert 0 < summary["networks"]["small batch"]["test_accuracy"] <= 1
    recipes = [load_checkpoint(out / "networks" / f"{n}-batch.safetensors").metadata for n in ("small", "large")]
    assert [known["recipe"]["batch_size"] for known in recipes] == [64, 256]
    assert [known["seed"] for known in recipes] == [0, 4]
    assert load_result(out / "surface" / "small-batch.h5").provenance["seed"] == 2
    assert load_result(out / "line" / "between.h5").facts["names"] == {"a": "small-batch", "b": "large-batch"}
    assert load_result(out / "line" / "large-batch.h5").train_loss.shape == (2, 3)
    assert load_result(out / "trajectory" / "all.h5").facts["distances"].keys() == {"small-batch", "large-batch"}
    assert (out / "s_surfaces.png").exists()
    assert (out / "s_lines.png").exists()
    code, _, stderr = call("study", tmp_path / "s.yaml", "--out", out)
    assert code == 2
    assert "--overwrite" in stderr
    before = (out / "surface" / "small-batch.h5").read_bytes()
    assert call("study", tmp_path / "s.yaml", "--out", out, "--resume")[0] == 0
    assert (out / "surface" / "small-batch.h5").read_bytes() == before


def test_a_stopped_study_goes_on(call, tmp_path, monkeypatch):
    (tmp_path / "s.yaml").write_text(STUDY)
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(60))
        assert call("study", tmp_path / "s.yaml", "--out", tmp_path / "out")[0] == 75
    code, _, stderr = call("study", tmp_path / "s.yaml", "--out", tmp_path / "out", "--resume")
    assert code == 0, stderr
    assert call("study", tmp_path / "s.yaml", "--out", tmp_path / "whole")[0] == 0
    for file in ("surface/small-batch.h5", "line/between.h5", "line/large-batch.h5", "trajectory/all.h5"):
        whole, resumed = (load_result(tmp_path / folder / file) for folder in ("whole", "out"))
        for name, sweep in whole.sweeps.items():
            assert np.allclose(sweep.train_loss, resumed.sweeps[name].train_loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("surfaces: {}", "unknown key 'surfaces'"),
        ("surface: {sides: 3}", "unknown key 'sides'"),
        ("surface: {points: many}", "s.yaml: surface: --points is 'many', expected a whole number."),
        ("surface: {points: [3, 4]}", "s.yaml: surface: --points is [3, 4], expected a whole number."),
        ("surface: {curvature: maybe}", "s.yaml: surface: --curvature is 'maybe', expected true or false."),
        ("surface: {adaptive: x}", "s.yaml: surface: --adaptive is 'x', expected a number."),
        ("surface: {axes: &a [*a]}", "an anchor refers to itself"),
        ("surface: 3", "surface is 3, expected a mapping"),
        ("line: {a: nobody}", "names 'nobody', which is none of the networks one, 2"),
        ("networks: {}", "there are no networks"),
        ("networks: {one: {modell: mlp}}", "unknown key 'modell'"),
        ("networks: {one: {train: {epoch: 3}}}", "unknown key 'epoch'"),
        ("compare: {}", "no two surfaces or lines"),
        ("networks: {a b: {}, a-b: {}}", "a-b.safetensors is what"),
        ("surface: [{points: 3}, {points: 5}]", "give each a 'name'"),
        ("surface: {out: x.h5}", "unknown key 'out'"),
        ('surface: {x: "1:2"}', "surface: --x is '1:2'"),
        ("networks: {one: {}, two: {model: nothing}}", "network 'two': unknown model 'nothing'"),
        ("networks: {one: {}, two: {train: {lr: -1}}}", "network 'two': lr is -1"),
        ("quick: {epochs: 1}", "unknown key 'epochs'"),
        ("quick: 3", "quick is 3, expected a mapping"),
        ("line: {a: one, b: one}", "no line leads from one to the other"),
    ],
)
def test_a_study_is_checked_before_anything_is_trained(call, tmp_path, change, message):
    study = {"data": "digits", "model": "mlp", "networks": {"one": {}, 2: {}}, **yaml.safe_load(change)}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(study))
    quick = ["--quick"] if "quick" in study else []
    code, _, stderr = call("study", tmp_path / "s.yaml", "--out", tmp_path / "out", *quick)
    assert code == 2
    assert message in stderr
    assert not (tmp_path / "out").exists()


def test_a_quick_run_takes_its_own_values_over_the_others(call, tmp_path):
    quick = {"train": {"epochs": 1}, "surface": {"points": 5}, "line": {"points": 3}, "trajectory": None}
    study = yaml.safe_load(STUDY) | {"quick": quick}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(study))
    config = StudyConfig(study=tmp_path / "s.yaml", out=tmp_path / "out")
    with pytest.raises(ConfigError, match="line: unknown key 'points'"):
        planned(replace(config, quick=True))
    quick["line"] = {"a": "small batch", "b": "large batch"}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(study))
    for is_quick, epochs, points in ((False, 2, 3), (True, 1, 5)):
        plan = planned(replace(config, quick=is_quick))
        recipe = plan.trainings["small batch"].config.recipe
        assert (recipe.epochs, recipe.batch_size) == (epochs, 64)
        (surface, *_) = [step.config for step in plan.measures if isinstance(step.config, SurfaceConfig)]
        assert (surface.points, surface.direction.seed) == (points, 2)
        assert [step.place.endswith("trajectory") for step in plan.measures].count(True) == (not is_quick)
    (tmp_path / "s.yaml").write_text(STUDY)
    with pytest.raises(ConfigError, match="no values for a quick run"):
        planned(replace(config, quick=True))


STUDIES = sorted(path for path in CONFIGS.glob("*.yaml") if "networks" in read_problem_file(path))


SHAPES = {"digits": (1, 8, 8), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
RUNS = [(file, quick) for file in STUDIES for quick in (False, True) if not quick or "quick" in read_problem_file(file)]


@pytest.mark.parametrize(("file", "quick"), RUNS, ids=[f"{file.stem}{quick * '-quick'}" for file, quick in RUNS])
def test_every_study_in_the_folder_can_be_planned_and_its_networks_built(file, quick, tmp_path):
    plan = planned(StudyConfig(study=file, out=tmp_path, quick=quick))
    assert plan.measures
    assert plan.comparisons
    for step in plan.trainings.values():
        shape = SHAPES[step.config.problem.data]
        with torch.device("meta"):
            network = MODELS[step.config.problem.model](
                input_shape=shape, classes=10, **(step.config.problem.model_args or {})
            )
        assert sum(parameter.numel() for parameter in network.parameters()) > 1000


def test_networks_may_have_numbers_for_names(tmp_path):
    study = {"data": "digits", "model": "mlp", "networks": {128: {}, 8192: {}}, "line": {"a": 128, "b": 8192}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(study))
    (step,) = planned(StudyConfig(study=tmp_path / "s.yaml", out=tmp_path / "out")).measures
    assert [path.stem for path in (step.config.a, step.config.b)] == ["128", "8192"]


def test_each_study_of_the_paper_has_a_twin_on_the_digits():
    names = {file.stem for file in STUDIES}
    assert {name.removesuffix("_cifar10") for name in names if name.endswith("_cifar10")} == {
        name.removesuffix("_digits") for name in names if name.endswith("_digits")
    }


def test_each_study_on_real_images_has_a_quick_run():
    fashion = [file for file in STUDIES if file.stem.endswith("_fashion")]
    assert len(fashion) >= 4
    assert all("quick" in read_problem_file(file) for file in fashion)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet20", 272_474),
        ("resnet56", 855_770),
        ("resnet110", 1_730_714),
        ("resnet20_noshort", 269_722),
        ("resnet56_noshort", 853_018),
        ("resnet110_noshort", 1_727_962),
        ("wrn56_1", 855_770),
        ("vgg9", 2_789_706),
        ("vgg16", 14_728_266 + 263_680),
        ("densenet121", 6_956_298),
    ],
)
def test_parameter_counts_are_the_published_ones(name, parameters):
    """VGG-16: the 14,728,266 of the plain network for CIFAR-10, and a hidden layer of 512 units with batch norm."""
    with torch.device("meta"):
        network = MODELS[name](input_shape=(3, 32, 32), classes=10)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_wide_networks_have_the_weights_that_arithmetic_gives(factor):
    """Nine blocks of two 3×3 convolutions a stage, two projections, and an affine pair for each batch-norm channel."""
    with torch.device("meta"):
        network = MODELS[f"wrn56_{factor}"](input_shape=(3, 32, 32), classes=10)
    width, expected = 16 * factor, 3 * 9 * 16 * factor + 2 * 16 * factor
    inputs = width
    for outputs in (width, 2 * width, 4 * width):
        expected += 9 * (inputs * outputs + 17 * outputs * outputs) + 18 * 2 * outputs
        expected += (inputs * outputs + 2 * outputs) if inputs != outputs else 0
        inputs = outputs
    assert sum(parameter.numel() for parameter in network.parameters()) == expected + 4 * width * 10 + 10


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("resnet20", ["conv1.weight", "layer2.0.shortcut.0.weight", "layer3.2.bn2.running_var", "linear.bias"]),
        ("vgg9", ["features.0.bias", "features.8.running_mean", "fc.0.weight", "fc.1.weight", "classifier.weight"]),
        (
            "densenet121",
            ["dense1.0.conv1.weight", "trans3.conv.weight", "dense4.15.bn2.bias", "bn.weight", "linear.weight"],
        ),
    ],
)
def test_checkpoints_of_the_paper_load(name, tensors, tmp_path):
    """Pickled with a state_dict whose names begin with module., as that repository writes them."""
    problem = ProblemSpecification(model=name, data="digits", model_args={"input_shape": [3, 32, 32]})
    network = build_problem(problem, seed=3).model
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"acc": 93.0, "epoch": 300, "state_dict": state}, tmp_path / "model_300.t7")
    loaded = load_checkpoint(tmp_path / "model_300.t7")
    assert set(tensors) <= set(loaded.state)
    build_problem(problem, seed=4).model.load_state_dict(dict(loaded.state))


def test_networks_without_shortcuts_are_plain_stacks():
    x = torch.randn(2, 1, 8, 8)
    with_shortcuts, without = (MODELS[n](input_shape=(1, 8, 8), classes=10) for n in ("resnet8", "resnet8_noshort"))
    assert any("shortcut" in name for name in with_shortcuts.state_dict())
    assert not any("shortcut" in name for name in without.state_dict())
    assert without(x).shape == (2, 10)


@pytest.mark.parametrize("name", ["vgg9", "densenet121"])
def test_the_new_models_run_on_the_digits(name):
    arguments = {"width": 0.1} if name == "vgg9" else {"growth": 4}
    problem = build_problem(ProblemSpecification(model=name, data="digits", model_args=arguments))
    assert problem.model(torch.randn(3, 1, 8, 8)).shape == (3, 10)
