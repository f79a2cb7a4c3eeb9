"""A small convolutional network."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def cnn(
    input_shape: Sequence[int], classes: int, channels: Sequence[int] = (16, 32), batch_norm: bool = True
) -> nn.Module:
    """Blocks of 3×3 convolution, batch norm, ReLU and 2×2 maximum, then a linear layer on the channels' means.

    Args:
        input_shape: (channels, height, width) of one image.
        classes: number of outputs.
        channels: output channels of each block; the picture's sides must halve that often.
        batch_norm: normalise after each convolution.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([input_shape[0], *channels]):
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=not batch_norm))
        layers += [nn.BatchNorm2d(outputs)] if batch_norm else []
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes))
