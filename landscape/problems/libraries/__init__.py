"""Models of other libraries by name, such as `timm:resnet18`. Each factory takes what follows the colon, and then
arguments of its own, among them `input_shape` and `classes` where the data decide them. Its library is imported when it
is called, and nothing is fetched from the network.
"""

from collections.abc import Callable, Mapping

from torch import nn

from landscape.problems.libraries.folders import FAMILY, folder_model
from landscape.problems.libraries.timm import timm_model
from landscape.problems.libraries.torchvision import torchvision_model

LIBRARIES: Mapping[str, Callable[..., nn.Module]] = {
    FAMILY: folder_model,
    "timm:": timm_model,
    "torchvision:": torchvision_model,
}

__all__ = ["LIBRARIES"]
