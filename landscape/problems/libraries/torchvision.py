"""Models of torchvision, by its own names and without its weights."""

import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn

from landscape.errors import ConfigError
from landscape.runtime.suggestions import nearest

_WEIGHTS = ("weights", "weights_backbone")
_CHANNELS = 3


def torchvision_model(
    name: str, input_shape: Sequence[int] | None = None, classes: int | None = None, **arguments: Any
) -> nn.Module:
    """A model of torchvision with random weights, such as a classifier or a network for segmentation.

    Args:
        name: torchvision's name of the architecture.
        input_shape: shape of one image, which must have 3 channels.
        classes: number of outputs.
        arguments: further ones of torchvision's builder, which go before those that the data decide.

    Raises:
        ConfigError: torchvision has no such model, or images have another number of channels.
    """
    from torchvision.models import get_model, get_model_builder, list_models

    names = list_models()
    if name not in names:
        raise ConfigError(f"torchvision has no model {name!r}{nearest(name, names)}")
    if input_shape is not None and input_shape[0] != _CHANNELS:
        raise ConfigError(
            f"torchvision's models take {_CHANNELS} channels, but an image has shape {tuple(input_shape)}; a model of "
            "timm takes any number."
        )
    accepted = inspect.signature(get_model_builder(name)).parameters
    deduced = {} if classes is None else {"num_classes": classes}
    unfetched = {key: None for key in _WEIGHTS if key in accepted}
    model: nn.Module = get_model(name, **{**deduced, **arguments, **unfetched})
    return model
