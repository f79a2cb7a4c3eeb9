"""Random changes of training images, drawn for a whole batch at once where the images are.

`crop` shifts an image by up to an eighth of its side and fills what comes in with zeros, which after standardisation is
the mean colour: for 32×32 pixels the usual random crop with a padding of 4. `flip` mirrors every second image, left to
right. Labels and everything else in a batch stay.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from landscape.errors import ConfigError, ProblemError
from landscape.problems.splits import Batch, leaf_tensors, map_tensors

_SHARE = 8


def crop(images: Tensor, chances: Tensor) -> Tensor:
    """Shifted images; the first two chances of each choose how far down and to the right."""
    _, _, height, width = images.shape
    rows = _shifted(height, chances[:, 0])
    columns = _shifted(width, chances[:, 1])
    inside = (rows >= 0) & (rows < height)
    beside = (columns >= 0) & (columns < width)
    picked = images.permute(0, 2, 3, 1)[
        torch.arange(len(images), device=images.device)[:, None, None],
        rows.clamp(0, height - 1)[:, :, None],
        columns.clamp(0, width - 1)[:, None, :],
    ]
    picked = picked * (inside[:, :, None] & beside[:, None, :])[..., None]
    return picked.permute(0, 3, 1, 2)


def flip(images: Tensor, chances: Tensor) -> Tensor:
    """Images of which those whose third chance is below one half are mirrored."""
    return torch.where((chances[:, 2] < 0.5)[:, None, None, None], images.flip(3), images)


AUGMENTATIONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"crop": crop, "flip": flip}


def named_augmentations(text: str) -> list[str]:
    """The augmentations in a text such as `crop,flip`, none in an empty one; raises ConfigError for an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in AUGMENTATIONS:
            raise ConfigError(f"unknown augmentation {name!r}; known are {', '.join(AUGMENTATIONS)}.")
    return names


def augment(batch: Batch, names: list[str], chances: Tensor) -> Batch:
    """A batch whose first tensor, images `[B, C, H, W]`, is changed in the named ways by chances `[B, 3]` in [0, 1).

    Raises:
        ProblemError: the first tensor does not hold images.
    """
    if not names:
        return batch
    images = next(leaf_tensors(batch))
    if images.ndim != 4 or not images.is_floating_point():
        raise ProblemError(
            f"{', '.join(names)} is for images [B, C, H, W], but a batch begins with {images.dtype} of shape "
            f"{tuple(images.shape)}; leave out --augment."
        )
    changed = images
    for name in names:
        changed = AUGMENTATIONS[name](changed, chances)
    return map_tensors(lambda leaf: changed if leaf is images else leaf, batch)


def _shifted(size: int, chances: Tensor) -> Tensor:
    """Where the rows or columns of each image come from `[B, size]`."""
    reach = max(1, size // _SHARE)
    shift = (chances * (2 * reach + 1)).long().clamp_max(2 * reach) - reach
    return torch.arange(size, device=chances.device) + shift[:, None]
