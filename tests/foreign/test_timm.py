"""Models of timm by name."""

import pytest
import torch

from landscape import ProblemSpecification, build_problem
from landscape.errors import ConfigError
from landscape.problems.libraries.timm import timm_model
from landscape.problems.models import MODELS

timm = pytest.importorskip("timm", reason="timm is installed by make foreign")
pytestmark = pytest.mark.foreign


def test_channels_and_classes_follow_from_the_data():
    problem = build_problem(ProblemSpecification(model="timm:resnet10t", data="digits"))
    images = problem.data.splits["train"].tensors[0][:2]
    assert images.shape == (2, 1, 8, 8)
    assert problem.model(images).shape == (2, 10)
    assert problem.specification.model_args == {"input_shape": (1, 8, 8), "classes": 10}


def test_a_model_of_a_fixed_size_takes_the_images_sides():
    model = timm_model("vit_tiny_patch16_224", input_shape=(1, 8, 8), classes=3, patch_size=4, depth=1, embed_dim=12)
    assert model.pos_embed.shape == (1, 5, 12)
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 3)


def test_arguments_go_before_what_the_data_decide():
    assert timm_model("resnet10t", input_shape=(1, 8, 8), classes=10, num_classes=4).fc.out_features == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ResNet18", "timm has no model 'ResNet18'; did you mean resnet18?"),
        ("resnet18.a9_in1k", "timm has no model 'resnet18.a9_in1k'; did you mean resnet18.a"),
        ("hf-hub:someone/model", "timm has no model 'hf-hub:someone/model'"),
        ("local-dir:/tmp", "timm has no model"),
    ],
)
def test_a_name_that_timm_has_not_is_told_with_the_nearest(name, words):
    with pytest.raises(ConfigError) as caught:
        timm_model(name)
    assert words in str(caught.value)


def test_our_vit_is_timms_of_the_same_weights():
    settings = {"patch_size": 2, "embed_dim": 12, "depth": 2, "num_heads": 3}
    its = timm_model("vit_tiny_patch16_224", input_shape=(2, 8, 4), classes=5, **settings).double().eval()
    ours = MODELS["vit"](input_shape=(2, 8, 4), classes=5, patch=2, width=12, layers=2, heads=3).double().eval()
    for parameter in its.parameters():
        torch.nn.init.normal_(parameter)
    ours.load_state_dict(its.state_dict())
    images = torch.randn(3, 2, 8, 4, dtype=torch.float64)
    torch.testing.assert_close(ours(images), its(images))


@pytest.mark.parametrize("argument", ["checkpoint_path", "pretrained", "pretrained_cfg"])
def test_timm_itself_reads_no_weights(argument):
    """It would unpickle a file that a stranger's checkpoint may name among the model's arguments."""
    with pytest.raises(ConfigError, match=f"'{argument}' is not taken here; weights are read from a checkpoint"):
        timm_model("resnet10t", **{argument: "theirs.pth"})
