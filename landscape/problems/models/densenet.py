"""Densely connected networks for small images (Huang et al. 2017, arXiv 1608.06993).

Each layer sees the outputs of all layers before it in its block. Four blocks, between which channels and sides are
halved, make DenseNet-121; the first convolution keeps the sides. Tensors carry the names that the checkpoints of Li et
al. 2018 have.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BLOCKS: Mapping[int, Sequence[int]] = {121: (6, 12, 24, 16)}
_BOTTLENECK = 4


class Layer(nn.Module):
    """Batch norm, ReLU and convolution, twice: 1×1 to four times the growth, then 3×3; put before its inputs."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, _BOTTLENECK * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(_BOTTLENECK * growth)
        self.conv2 = nn.Conv2d(_BOTTLENECK * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, H, W]` to `[B, growth + inputs, H, W]`."""
        y = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return torch.cat([y, x], dim=1)


class Transition(nn.Module):
    """Half the channels and half the sides."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, inputs // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, H, W]` to `[B, inputs / 2, H / 2, W / 2]`."""
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
    """See the module's docstring; `blocks` are numbers of layers."""

    def __init__(self, channels: int, classes: int, blocks: Sequence[int], growth: int) -> None:
        super().__init__()
        width = 2 * growth
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self._count = len(blocks)
        for number, layers in enumerate(blocks, 1):
            dense = [Layer(width + i * growth, growth) for i in range(layers)]
            self.add_module(f"dense{number}", nn.Sequential(*dense))
            width += layers * growth
            if number < self._count:
                self.add_module(f"trans{number}", Transition(width))
                width //= 2
        self.bn = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[B, C, H, W]` to logits `[B, classes]`."""
        x = self.conv1(x)
        for number in range(1, self._count + 1):
            x = self.get_submodule(f"dense{number}")(x)
            x = self.get_submodule(f"trans{number}")(x) if number < self._count else x
        return self.linear(F.relu(self.bn(x)).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def densenet(input_shape: Sequence[int], classes: int, depth: int, growth: int = 32) -> nn.Module:
    """A densely connected network.

    Args:
        input_shape: (channels, height, width) of one image, whose sides must halve three times.
        classes: number of outputs.
        depth: number of layers, 121.
        growth: channels that each layer adds.
    """
    return DenseNet(input_shape[0], classes, _BLOCKS[depth], growth)


DENSENETS: Mapping[str, Callable[..., nn.Module]] = {f"densenet{d}": partial(densenet, depth=d) for d in _BLOCKS}
