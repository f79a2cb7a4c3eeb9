"""Residual networks for small images (He et al. 2016, arXiv 1512.03385, section 4.2), with or without shortcuts.

Three stages of n blocks with width, 2·width and 4·width channels make a network of 6n + 2 layers. Where the shape
changes the shortcut is a 1×1 convolution, as in Li et al. 2018; tensors carry the names that the checkpoints of that
paper have. A width of 16·k makes the Wide-ResNets of that paper (Zagoruyko and Komodakis 2016, arXiv 1605.07146).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, each with batch norm, around which a shortcut may lead."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module | None = None
        if shortcut:
            self.shortcut = nn.Sequential()
            if stride != 1 or inputs != outputs:
                projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
                self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, H, W]` to `[B, outputs, H/stride, W/stride]`."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return F.relu(y, inplace=True)


class ResNet(nn.Module):
    """See the module's docstring; `blocks` is n."""

    def __init__(self, channels: int, classes: int, blocks: int, width: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.linear = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[B, C, H, W]` to logits `[B, classes]`."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def _stage(inputs: int, outputs: int, blocks: int, stride: int, shortcut: bool) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1, shortcut) for _ in range(blocks - 1)))


def resnet(input_shape: Sequence[int], classes: int, depth: int, width: int = 16, shortcut: bool = True) -> nn.Module:
    """A residual network of 6n + 2 layers.

    Args:
        input_shape: (channels, height, width) of one image.
        classes: number of outputs.
        depth: number of layers, 6n + 2.
        width: channels of the first stage.
        shortcut: False leaves the shortcuts out.
    """
    return ResNet(input_shape[0], classes, (depth - 2) // 6, width, shortcut)


_DEPTHS, _FACTORS = (8, 14, 20, 32, 44, 56, 110), (1, 2, 4, 8)
_PLAIN = {f"resnet{depth}": partial(resnet, depth=depth) for depth in _DEPTHS}
_WIDE = {f"wrn56_{k}": partial(resnet, depth=56, width=16 * k) for k in _FACTORS}

RESNETS: Mapping[str, Callable[..., nn.Module]] = {
    **_PLAIN,
    **_WIDE,
    **{f"{name}_noshort": partial(factory, shortcut=False) for name, factory in (_PLAIN | _WIDE).items()},
}
