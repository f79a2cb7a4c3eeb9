"""Images and labels in the idx format of MNIST and the sets that follow it, compressed by gzip or not.

A file begins with two bytes of 0, the type of its numbers and the number of dimensions; then come the dimensions, four
bytes each with the highest first, and the numbers (LeCun, Cortes and Burges, yann.lecun.com/exdb/mnist).
"""

import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from landscape.errors import MissingDataError

FOLDERS: Mapping[str, tuple[Path, ...]] = {"FashionMNIST": (Path("/usr/share/datasets/fashion-mnist"),)}
"""Where packages of the operating system put a set's files."""

_UNSIGNED_BYTES = 8
_MOST_NUMBERS = 2**31
_PACKAGES = {"FashionMNIST": "dataset-fashion-mnist"}


def read_images(name: str, folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """The images `[N, 1, H, W]`, float32 in [0, 255], and labels `[N]`, int64, of a part of a set.

    Args:
        name: the set, as torchvision calls it.
        folder: holds the files, or torchvision's folder for the set.
        part: "train" or "t10k".

    Raises:
        MissingDataError: a file is not there or damaged, or there are not as many labels as images.
    """
    pixels, labels = (
        _read(_file(name, folder, f"{part}-{kind}-idx{dimensions}-ubyte"), name, dimensions)
        for kind, dimensions in (("images", 3), ("labels", 1))
    )
    if len(pixels) != len(labels):
        counts = f"{len(pixels):,} images and {len(labels):,} labels"
        raise _lacking(f"{folder.resolve()} holds {counts} in the part {part!r}, expected one for each", name)
    return torch.from_numpy(pixels).to(torch.float32)[:, None], torch.from_numpy(labels).to(torch.int64)


def _file(name: str, folder: Path, file: str) -> Path:
    places = (folder / name / "raw", folder)
    candidates = [place / ending for place in places for ending in (file, f"{file}.gz")]
    present = next((candidate for candidate in candidates if candidate.is_file()), None)
    if present is None:
        searched = " or ".join(str(place.resolve()) for place in places)
        raise _lacking(f"there is no {file} or {file}.gz in {searched}", name)
    return present


def _read(path: Path, name: str, dimensions: int) -> np.ndarray:
    """The array of a file of bytes; no more is read than its header says, whatever it unpacks to."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            header = stream.read(4 + 4 * dimensions)
            shape = np.frombuffer(header[4 : len(header) // 4 * 4], ">u4").tolist()
            count = math.prod(shape)
            if header[:4] != bytes([0, 0, _UNSIGNED_BYTES, dimensions]) or not 0 < count < _MOST_NUMBERS:
                raise _lacking(f"{path} does not begin as an idx file of bytes in {dimensions} dimensions", name)
            content = bytearray(stream.read(count + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise _lacking(f"{path} cannot be read ({error})", name) from error
    if len(shape) != dimensions or len(content) != count:
        held = f"{len(content):,} bytes" if len(content) <= count else "more bytes"
        raise _lacking(f"{path} holds {held}, expected {'×'.join(map(str, shape))} by its header", name)
    return np.frombuffer(content, np.uint8).reshape(shape)


def _lacking(what: str, name: str) -> MissingDataError:
    package = f", or install Debian's: apt-get install {_PACKAGES[name]}" if name in _PACKAGES else ""
    return MissingDataError(
        f"{what}: the files of {name} are not whole there; name the right folder with --data-root, or add "
        f"--download{package}."
    )
