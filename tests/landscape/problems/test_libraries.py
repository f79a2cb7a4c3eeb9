"""Models of other libraries by name: what torchvision builds, names that there are not, and what files may name."""

import logging

import pytest
import torch

from landscape import ProblemSpecification, build_problem
from landscape.app.config import ProblemOptions
from landscape.app.problems import specify
from landscape.errors import ConfigError
from landscape.problems.libraries import LIBRARIES, importing
from landscape.problems.libraries.torchvision import torchvision_model
from landscape.problems.names import located
from landscape.problems.registry import FACTORIES, is_built_in, resolve
from landscape.storage.checkpoints import Checkpoint


def test_torchvisions_classifiers_and_networks_for_segmentation_are_built_without_their_weights(monkeypatch):
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", pytest.fail)
    classifier = torchvision_model("shufflenet_v2_x0_5", input_shape=(3, 32, 32), classes=4).eval()
    assert classifier(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    segmentation = torchvision_model("lraspp_mobilenet_v3_large", (3, 32, 32), 5).eval()
    assert segmentation(torch.randn(2, 3, 32, 32))["out"].shape == (2, 5, 32, 32)


def test_initial_weights_follow_the_seed():
    specification = ProblemSpecification(
        model="torchvision:shufflenet_v2_x0_5", data=f"{__file__}:pictures", model_args={"num_classes": 3}
    )
    first, again, other = (build_problem(specification, seed).model.fc.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def pictures():
    x, y = torch.randn(6, 3, 32, 32), torch.arange(6) % 3
    return (x, y), (x, y)


def test_images_that_torchvision_does_not_take_are_told_before_any_is_tried():
    with pytest.raises(ConfigError, match=r"take 3 channels, but an image has shape \(1, 8, 8\); a model of timm"):
        build_problem(ProblemSpecification(model="torchvision:resnet18", data="digits"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvision:ResNet18", "torchvision has no model 'ResNet18'; did you mean resnet18?"),
        ("torchvision:nothing_like_it", "torchvision has no model 'nothing_like_it'."),
        ("resnet9", "unknown model 'resnet9'; did you mean resnet8? Known are cnn, "),
    ],
)
def test_unknown_names_are_told_with_the_nearest(name, words):
    with pytest.raises(ConfigError) as caught:
        resolve(name, FACTORIES, "model")()
    assert words in str(caught.value)


def test_a_library_that_is_missing_is_told_with_the_extra():
    with pytest.raises(
        ConfigError, match=r"no_such_library is needed here, and not installed; pip install 'mode-conn.*\[hf\]'"
    ):
        importing.optional("no_such_library", "hf")


@pytest.mark.parametrize(
    ("name", "built_in"),
    [
        ("mlp", True),
        ("timm:resnet18", True),
        ("torchvision:resnet18", True),
        ("timm", False),
        ("mine.py:resnet18", False),
        ("package.timm:resnet18", False),
        (":resnet18", False),
        ("", False),
    ],
)
def test_which_names_run_nothing_that_somebody_else_wrote(name, built_in):
    assert is_built_in(name, FACTORIES) == built_in


def test_the_folder_in_a_name_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert located("hf:runs/bert") == f"hf:{tmp_path}/runs/bert"
    assert located("timm:resnet18") == "timm:resnet18"
    arguments = {"base": "runs/base", "num_labels": 3}
    adapters = ProblemSpecification.from_mapping({"model": "hf:a", "data": "digits", "model_args": arguments}, "here")
    assert adapters.model_args == {"base": f"{tmp_path}/runs/base", "num_labels": 3}
    other = ProblemSpecification.from_mapping({"model": "mlp", "data": "digits", "model_args": arguments}, "here")
    assert other.model_args == arguments


def test_a_stranger_may_name_a_folder_but_it_is_told(tmp_path, caplog):
    problem = {"model": f"hf:{tmp_path}", "data": "digits"}
    bearer = Checkpoint({}, {"problem": problem}, "", tmp_path / "theirs.safetensors")
    with caplog.at_level(logging.WARNING, "landscape"):
        assert specify(ProblemOptions(), [bearer]).model == f"hf:{tmp_path}"
    assert f"the model is built from {tmp_path}, as {tmp_path}/theirs.safetensors says; --model names" in caplog.text


def test_a_folder_that_describes_its_network_is_the_model_unless_another_is_named(tmp_path, caplog):
    (tmp_path / "config.json").write_text("{}")
    folder = Checkpoint({}, {}, "", tmp_path)
    with caplog.at_level(logging.WARNING, "landscape"):
        assert specify(ProblemOptions(data="digits"), [folder]).model == f"hf:{tmp_path}"
    assert f"the model is the one that {tmp_path} describes" in caplog.text
    assert specify(ProblemOptions(model="mlp", data="digits"), [folder]).model == "mlp"
    with pytest.raises(ConfigError, match="carries no problem"):
        specify(ProblemOptions(), [folder])


def test_a_missing_folder_is_told_before_any_library_is_needed():
    with pytest.raises(ConfigError, match="there is no folder nowhere, expected one with"):
        LIBRARIES["hf:"]("nowhere")
