"""Data sets by name: decoded and normalised once, held as tensors.

Each factory returns `Data`. Images are `[N, C, H, W]`, standardised for each channel by the training split.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import MissingDataError, ProblemError
from landscape.problems.splits import Split, TensorSplit, TypedSplit, as_split

_DIGITS_TEST_SHARE = 5


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
        splits: examples by split; "train" is always there.
        input_shape: shape of one input, for models that are built to fit it.
        classes: number of classes, likewise.
    """

    splits: Mapping[str, Split]
    input_shape: tuple[int, ...] | None = None
    classes: int | None = None

    def to(self, device: torch.device) -> "Data":
        """The same examples, given out on another device."""
        moved = {name: split.to(device) for name, split in self.splits.items()}
        return Data(moved, self.input_shape, self.classes)

    def of_type(self, dtype: torch.dtype) -> "Data":
        """The same examples, whose numbers in single or double precision are given out in one type."""
        typed = {name: TypedSplit(split, dtype) for name, split in self.splits.items()}
        return Data(typed, self.input_shape, self.classes)

    def fingerprints(self) -> dict[str, str]:
        """A digest for each split."""
        return {name: split.fingerprint() for name, split in self.splits.items()}


def digits() -> Data:
    """The 1,797 digits of 8×8 pixels that ship with scikit-learn; every fifth of a fixed shuffle is for test."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))
    test = order[::_DIGITS_TEST_SHARE]
    train = np.setdiff1d(order, test)
    images = torch.from_numpy(pixels).to(torch.float32).view(-1, 1, 8, 8)
    targets = torch.from_numpy(labels).to(torch.int64)
    return _images((images[train], targets[train]), (images[test], targets[test]), classes=10)


def cifar10(root: str = "data", download: bool = False) -> Data:
    """CIFAR-10, read by torchvision from a folder that holds `cifar-10-batches-py`, or downloaded into it.

    Raises:
        MissingDataError: the files are not there or altered.
    """
    from torchvision.datasets import CIFAR10

    return _cifar(CIFAR10, root, download, classes=10)


def cifar100(root: str = "data", download: bool = False) -> Data:
    """CIFAR-100, read by torchvision from a folder that holds `cifar-100-python`; arguments as `cifar10`."""
    from torchvision.datasets import CIFAR100

    return _cifar(CIFAR100, root, download, classes=100)


def _cifar(dataset: Any, root: str, download: bool, classes: int) -> Data:
    folder = Path(root).expanduser()
    try:
        parts = [dataset(str(folder), train=train, download=download) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        advice = "the download failed" if download else "name the right folder with --data-root, or add --download"
        raise MissingDataError(
            f"{dataset.__name__} is not whole in {folder.resolve() / dataset.base_folder}: {advice} ({error})."
        ) from error
    train, test = (
        (torch.from_numpy(p.data).permute(0, 3, 1, 2).to(torch.float32), torch.tensor(p.targets)) for p in parts
    )
    return _images(train, test, classes)


def _images(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int) -> Data:
    images = train[0]
    mean = images.mean(dim=(0, 2, 3), keepdim=True, dtype=torch.float64)
    deviation = (images.to(torch.float64) - mean).square().mean(dim=(0, 2, 3), keepdim=True).sqrt()
    splits = {
        name: TensorSplit((((x - mean) / deviation).to(torch.float32), y))
        for name, (x, y) in (("train", train), ("test", test))
    }
    return Data(splits, input_shape=tuple(images.shape[1:]), classes=classes)


def as_data(source: Any) -> Data:
    """Make `Data` of what a user's factory gives.

    Args:
        source: `Data`; a mapping of split names to examples; or the pair (train, test). Examples are anything that
            `as_split` takes.

    Raises:
        ProblemError: it is none of these, or there is no training split.
    """
    if isinstance(source, Data):
        return source
    if isinstance(source, tuple | list) and len(source) == 2:
        _require_splits(*source)
        source = {"train": source[0], "test": source[1]}
    if not isinstance(source, Mapping) or "train" not in source:
        raise ProblemError(
            "a data factory must return the pair (train, test), or a mapping such as {'train': train}; "
            f"got {type(source).__name__}."
        )
    return Data({str(name): as_split(examples) for name, examples in source.items()})


def _require_splits(train: Any, test: Any) -> None:
    """Check that a pair is not the inputs and the targets of a single split, with a row for each example."""
    plain = [isinstance(part, Tensor | np.ndarray) and part.ndim > 0 for part in (train, test)]
    if all(plain) and len(train) == len(test):
        raise ProblemError(
            f"the data are a pair of arrays of {len(train)} rows each, expected (train, test), where each is (inputs, "
            "targets); give a single split as {'train': (inputs, targets)}, and arrays without targets as "
            "{'train': array, 'test': array}."
        )
