"""Models by name. Each factory takes `input_shape` and `classes`, and then arguments of its own."""

from collections.abc import Callable, Mapping

from torch import nn

from landscape.problems.models.cnn import cnn
from landscape.problems.models.densenet import DENSENETS
from landscape.problems.models.gpt import gpt
from landscape.problems.models.mlp import mlp
from landscape.problems.models.resnet import RESNETS
from landscape.problems.models.vgg import VGGS
from landscape.problems.models.vit import vit

MODELS: Mapping[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    **RESNETS,
    **VGGS,
    **DENSENETS,
    "vit": vit,
    "gpt": gpt,
}

__all__ = ["MODELS"]
