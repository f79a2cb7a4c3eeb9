"""Fully connected networks."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from landscape.errors import ConfigError

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def mlp(
    input_shape: Sequence[int],
    classes: int,
    widths: Sequence[int] = (64, 64),
    activation: str = "relu",
    batch_norm: bool = False,
) -> nn.Module:
    """Layers of the given widths, each followed by the activation, and a linear output.

    Args:
        input_shape: shape of one input, flattened first.
        classes: number of outputs.
        widths: hidden units of each layer.
        activation: "relu", "tanh" or "gelu".
        batch_norm: normalise before each activation.
    """
    if activation not in _ACTIVATIONS:
        raise ConfigError(f"unknown activation {activation!r}; known are {', '.join(sorted(_ACTIVATIONS))}.")
    sizes = [math.prod(input_shape), *widths]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers.append(nn.Linear(inputs, outputs, bias=not batch_norm))
        layers += [nn.BatchNorm1d(outputs)] if batch_norm else []
        layers.append(_ACTIVATIONS[activation]())
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))
