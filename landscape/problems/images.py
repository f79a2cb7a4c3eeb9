"""Sets of images by name: decoded and normalised once, held as tensors.

Each factory returns `Data`. Images are `[N, C, H, W]`, standardised for each channel by the whole training split. Where
`examples` are asked for, a fixed random sample of so many stands for the training split, and likewise `test_examples`;
of two such samples the smaller is a part of the larger.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import MissingDataError
from landscape.problems.datasets import Data
from landscape.problems.idx import FOLDERS, read_images
from landscape.problems.splits import TensorSplit, drawn

_DIGITS_TEST_SHARE = 5


def digits(examples: int | None = None, test_examples: int | None = None) -> Data:
    """The 1,797 digits of 8×8 pixels that ship with scikit-learn; every fifth of a fixed shuffle is for test."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))
    test = order[::_DIGITS_TEST_SHARE]
    train = np.setdiff1d(order, test)
    images = torch.from_numpy(pixels).to(torch.float32).view(-1, 1, 8, 8)
    targets = torch.from_numpy(labels).to(torch.int64)
    parts = (images[train], targets[train]), (images[test], targets[test])
    return _images(*parts, 10, examples, test_examples)


def cifar10(
    root: str = "data", download: bool = False, examples: int | None = None, test_examples: int | None = None
) -> Data:
    """CIFAR-10, read by torchvision from a folder that holds `cifar-10-batches-py`, or downloaded into it.

    Raises:
        MissingDataError: the files are not there or altered.
        ConfigError: there are fewer examples than are asked for.
    """
    from torchvision.datasets import CIFAR10

    return _images(*_cifar(CIFAR10, root, download), 10, examples, test_examples)


def cifar100(
    root: str = "data", download: bool = False, examples: int | None = None, test_examples: int | None = None
) -> Data:
    """CIFAR-100, read by torchvision from a folder that holds `cifar-100-python`; arguments as `cifar10`."""
    from torchvision.datasets import CIFAR100

    return _images(*_cifar(CIFAR100, root, download), 100, examples, test_examples)


def mnist(
    root: str | None = None, download: bool = False, examples: int | None = None, test_examples: int | None = None
) -> Data:
    """The 70,000 handwritten digits of 28×28 pixels; arguments as `fashion_mnist`, in the folder `MNIST`."""
    return _images(*_idx("MNIST", root, download), 10, examples, test_examples)


def fashion_mnist(
    root: str | None = None, download: bool = False, examples: int | None = None, test_examples: int | None = None
) -> Data:
    """Fashion-MNIST, 70,000 articles of clothing in 28×28 pixels (Xiao et al. 2017, arXiv 1708.07747).

    Args:
        root: a folder that holds the four idx files, compressed or not, itself or in `FashionMNIST/raw`, where
            torchvision puts them. By default that of Debian's package dataset-fashion-mnist if it is installed, else
            `data`.
        download: have torchvision fetch them into `root`.
        examples: take so many training examples.
        test_examples: take so many test examples.

    Raises:
        MissingDataError: the files are not there, or damaged.
        ConfigError: there are fewer examples than are asked for.
    """
    return _images(*_idx("FashionMNIST", root, download), 10, examples, test_examples)


_Part = tuple[Tensor, Tensor]


def _cifar(dataset: Any, root: str, download: bool) -> tuple[_Part, _Part]:
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
    return train, test


def _idx(name: str, root: str | None, download: bool) -> tuple[_Part, _Part]:
    packaged = next((str(place) for place in FOLDERS.get(name, ()) if place.is_dir() and not download), "data")
    folder = Path(root or packaged).expanduser()
    if download:
        _download(name, folder)
    train, test = (read_images(name, folder, part) for part in ("train", "t10k"))
    return train, test


def _download(name: str, folder: Path) -> None:
    import torchvision.datasets

    try:
        getattr(torchvision.datasets, name)(str(folder), download=True)
    except (RuntimeError, OSError) as error:
        raise MissingDataError(f"the download of {name} into {folder.resolve()} failed: {error}.") from error


def _images(train: _Part, test: _Part, classes: int, examples: int | None, test_examples: int | None) -> Data:
    images = train[0]
    mean = images.mean(dim=(0, 2, 3), keepdim=True, dtype=torch.float64)
    deviation = images.to(torch.float64).sub_(mean).square_().mean(dim=(0, 2, 3), keepdim=True).sqrt()
    splits = {}
    for name, (pixels, labels), count in (("train", train, examples), ("test", test, test_examples)):
        standardised = pixels.to(torch.float64).sub_(mean).div_(deviation).to(torch.float32)
        split = TensorSplit((standardised, labels))
        splits[name] = split if count is None else drawn(split, count)
    return Data(splits, input_shape=tuple(images.shape[1:]), classes=classes)
