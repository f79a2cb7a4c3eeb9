"""VGG networks for small images (Simonyan and Zisserman 2015, arXiv 1409.1556), with batch norm.

As in Li et al. 2018, the convolutions are followed by one hidden layer of as many units as the last of them has
channels, and by the output; VGG-9 keeps the first seven convolutions of VGG-16. Tensors carry the names that the
checkpoints of that paper have.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn

_STAGES: Mapping[int, Sequence[Sequence[int]]] = {
    9: ((64,) * 2, (128,) * 2, (256,) * 3),
    16: ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    19: ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}


class VGG(nn.Module):
    """See the module's docstring; `stages` are channels between two halvings of the picture."""

    def __init__(self, input_shape: Sequence[int], classes: int, stages: Sequence[Sequence[int]]) -> None:
        super().__init__()
        channels, *sides = input_shape
        layers: list[nn.Module] = []
        for stage in stages:
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            sides = [(side + 1) // 2 for side in sides]
        self.features = nn.Sequential(*layers)
        hidden = nn.Linear(channels * sides[0] * sides[1], channels)
        self.fc = nn.Sequential(hidden, nn.BatchNorm1d(channels), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[B, C, H, W]` to logits `[B, classes]`."""
        return self.classifier(self.fc(self.features(x).flatten(1)))  # type: ignore[no-any-return]


def vgg(input_shape: Sequence[int], classes: int, depth: int, width: float = 1.0) -> nn.Module:
    """A VGG network.

    Args:
        input_shape: (channels, height, width) of one image.
        classes: number of outputs.
        depth: 9, 16 or 19.
        width: factor for the channels of all layers.
    """
    stages = [[max(1, round(width * channels)) for channels in stage] for stage in _STAGES[depth]]
    return VGG(input_shape, classes, stages)


VGGS: Mapping[str, Callable[..., nn.Module]] = {f"vgg{depth}": partial(vgg, depth=depth) for depth in _STAGES}
