"""Models of timm, by its own names and without its weights."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from landscape.errors import ConfigError
from landscape.problems.libraries.importing import optional
from landscape.runtime.suggestions import nearest

_READING = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")


def timm_model(
    name: str, input_shape: Sequence[int] | None = None, classes: int | None = None, **arguments: Any
) -> nn.Module:
    """A model of timm with random weights.

    Args:
        name: timm's name of the architecture; a tag of weights after a dot is let pass.
        input_shape: (channels, height, width) of one image; the sides count for networks of a fixed size alone.
        classes: number of outputs.
        arguments: further ones of `timm.create_model`, which go before those that the data decide.

    Raises:
        ConfigError: timm is not installed, or has no such model; or an argument has it read weights, which it would do
            with whatever code they bring along.
    """
    timm = optional("timm", "timm")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ConfigError(f"timm has no model {name!r}{nearest(architecture, timm.list_models())}")
    if tag and not timm.is_model_pretrained(name):
        raise ConfigError(f"timm has no model {name!r}{nearest(name, timm.list_pretrained(f'{architecture}.*'))}")
    for argument in arguments:
        if argument in _READING:
            raise ConfigError(f"timm's argument {argument!r} is not taken here; weights are read from a checkpoint.")
    deduced: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if input_shape is not None and len(input_shape) == 3:
        deduced["in_chans"], *sides = input_shape
        settings = timm.get_pretrained_cfg(architecture)
        deduced |= {"img_size": tuple(sides)} if settings is not None and settings.fixed_input_size else {}
    model: nn.Module = timm.create_model(name, pretrained=False, **{**deduced, **arguments})
    return model
