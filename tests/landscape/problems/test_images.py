"""Sets of images: read from their own formats, whole or refused."""

import gzip
import hashlib
import pickle
import struct

import numpy as np
import pytest
import torch

from landscape import ProblemSpecification, build_problem
from landscape.errors import ConfigError, MissingDataError
from landscape.problems import idx
from landscape.problems.images import digits, fashion_mnist, mnist

FIRST_TEST_LABELS = [2, 7, 2, 6, 8, 5, 4, 4, 8, 0, 9, 0]


def test_the_digits_are_split_once_and_for_all():
    data = build_problem(ProblemSpecification(model="mlp", data="digits")).data
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 1437, "test": 360}
    (images, labels), (others, _) = (data.splits[name].tensors for name in ("train", "test"))
    assert others.shape == (360, 1, 8, 8)
    assert data.splits["test"].tensors[1][:12].tolist() == FIRST_TEST_LABELS
    assert images.shape == (1437, 1, 8, 8)
    assert labels.bincount().min() > 100
    assert abs(float(images.mean())) < 1e-5
    assert float(images.square().mean()) == pytest.approx(1.0, abs=1e-4)
    rows = {image.numpy().tobytes() for image in images}
    assert not any(image.numpy().tobytes() in rows for image in others)


def write_cifar(folder, classes, monkeypatch):
    """A few random pictures in the format of CIFAR's files, with torchvision's checksums set to theirs."""
    from torchvision.datasets import CIFAR10, CIFAR100

    dataset = {10: CIFAR10, 100: CIFAR100}[classes]
    label = {10: "labels", 100: "fine_labels"}[classes]
    place = folder / dataset.base_folder
    place.mkdir(parents=True)
    random = np.random.default_rng(0)
    written = {}
    for kind in ("train_list", "test_list"):
        entries = []
        for name, _ in getattr(dataset, kind):
            pixels = random.integers(0, 256, (4, 3072), dtype=np.uint8)
            labels = random.integers(0, classes, 4).tolist()
            content = pickle.dumps({"data": pixels, label: labels})
            (place / name).write_bytes(content)
            entries.append([name, hashlib.md5(content).hexdigest()])
            written[name] = (pixels, labels)
        monkeypatch.setattr(dataset, kind, entries)
    meta = pickle.dumps({dataset.meta["key"]: [str(i) for i in range(classes)]})
    (place / dataset.meta["filename"]).write_bytes(meta)
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": hashlib.md5(meta).hexdigest()})
    return written


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_read_from_its_own_format(tmp_path, monkeypatch, name, classes):
    written = write_cifar(tmp_path, classes, monkeypatch)
    specification = ProblemSpecification(model="resnet8", data=name, data_args={"root": str(tmp_path)})
    problem = build_problem(specification)
    images, labels = problem.data.splits["train"].tensors
    pixels = np.concatenate([p for n, (p, _) in written.items() if "test" not in n]).reshape(-1, 3, 32, 32) / 1.0
    wanted = (pixels - pixels.mean((0, 2, 3), keepdims=True)) / pixels.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(images.numpy(), wanted, atol=1e-5)
    assert labels.tolist() == [label for n, (_, ls) in written.items() if "test" not in n for label in ls]
    assert problem.model(images[:2]).shape == (2, classes)
    assert problem.specification.model_args == {"input_shape": (3, 32, 32), "classes": classes}


def test_missing_files_are_named_with_the_flag(tmp_path):
    specification = ProblemSpecification(model="mlp", data="cifar10", data_args={"root": str(tmp_path)})
    with pytest.raises(MissingDataError, match=rf"{tmp_path}/cifar-10-batches-py.*--data-root.*--download"):
        build_problem(specification)


PARTS = {"train": 6, "t10k": 4}


def write_idx(folder, *, compressed=False, **changes):
    """Random pictures of 3×2 pixels in the four files of MNIST; returns the arrays by part."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    written = {}
    for part, count in PARTS.items():
        pixels = random.integers(0, 256, (count, 3, 2), dtype=np.uint8)
        labels = random.integers(0, 10, count, dtype=np.uint8)
        contents = {
            f"{part}-images-idx3-ubyte": struct.pack(">BBBBIII", 0, 0, 8, 3, count, 3, 2) + pixels.tobytes(),
            f"{part}-labels-idx1-ubyte": struct.pack(">BBBBI", 0, 0, 8, 1, count) + labels.tobytes(),
        }
        for name, content in contents.items():
            file = folder / (f"{name}.gz" if compressed else name)
            file.write_bytes(gzip.compress(content) if compressed else content)
        written[part] = (pixels, labels)
    return written


@pytest.mark.parametrize("place", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("compressed", [True, False])
def test_idx_files_are_read_wherever_they_lie(tmp_path, place, compressed):
    written = write_idx(tmp_path / place, compressed=compressed)
    data = fashion_mnist(str(tmp_path))
    pixels = written["train"][0] / 1.0
    for name, part in (("train", "train"), ("test", "t10k")):
        images, labels = data.splits[name].tensors
        wanted = (written[part][0] - pixels.mean()) / pixels.std()
        np.testing.assert_allclose(images.numpy()[:, 0], wanted, atol=1e-6)
        assert labels.tolist() == written[part][1].tolist()
    assert (data.input_shape, data.classes) == ((1, 3, 2), 10)


def test_torchvision_reads_what_is_read_here(tmp_path):
    from torchvision.datasets import MNIST

    write_idx(tmp_path / "MNIST/raw")
    for part, is_train in (("train", True), ("t10k", False)):
        theirs = MNIST(str(tmp_path), train=is_train)
        images, labels = idx.read_images("MNIST", tmp_path, part)
        assert torch.equal(images[:, 0].to(torch.uint8), theirs.data)
        assert torch.equal(labels, theirs.targets)


def test_the_folder_of_a_package_serves_where_none_is_named(tmp_path, monkeypatch):
    write_idx(tmp_path / "package", compressed=True)
    monkeypatch.setattr(idx, "FOLDERS", {"FashionMNIST": (tmp_path / "nowhere", tmp_path / "package")})
    monkeypatch.setattr("landscape.problems.images.FOLDERS", idx.FOLDERS)
    monkeypatch.chdir(tmp_path)
    assert len(fashion_mnist().splits["train"]) == PARTS["train"]
    with pytest.raises(MissingDataError, match=r"no train-images-idx3-ubyte.*/data/MNIST/raw or .*/data: "):
        mnist()
    write_idx(tmp_path / "data")
    assert len(mnist().splits["test"]) == PARTS["t10k"]


IMAGES = "train-images-idx3-ubyte"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], r"holds 35 bytes, expected 6×3×2"),
        (lambda content: content + b"x", r"holds more bytes, expected 6×3×2"),
        (lambda content: content[:3], r"does not begin as an idx file of bytes in 3 dimensions"),
        (lambda content: content[:10], r"holds 0 bytes, expected 6"),
        (lambda content: b"", r"does not begin"),
        (lambda content: b"<html>not found</html>", r"does not begin"),
        (lambda content: content[:2] + b"\x0d" + content[3:], r"does not begin"),
        (lambda content: content[:4] + b"\xff" * 12, r"does not begin"),
        (lambda content: content[:4] + struct.pack(">III", 5, 3, 2) + content[16:46], r"5 images and 6 labels"),
    ],
)
@pytest.mark.parametrize("compressed", [True, False])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, change, message, compressed):
    write_idx(tmp_path, compressed=compressed)
    file = tmp_path / (f"{IMAGES}.gz" if compressed else IMAGES)
    content = gzip.decompress(file.read_bytes()) if compressed else file.read_bytes()
    file.write_bytes(gzip.compress(change(content)) if compressed else change(content))
    with pytest.raises(MissingDataError, match=message) as caught:
        fashion_mnist(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "apt-get install dataset-fashion-mnist" in str(caught.value)


def test_a_compressed_file_that_is_cut_is_named(tmp_path):
    write_idx(tmp_path, compressed=True)
    file = tmp_path / f"{IMAGES}.gz"
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(MissingDataError, match=rf"{file} cannot be read"):
        fashion_mnist(str(tmp_path))


def test_a_sample_of_a_set_is_fixed_and_keeps_the_pixels_of_the_whole():
    whole, some, fewer = (digits(**counts) for counts in ({}, {"examples": 500, "test_examples": 40}, {"examples": 99}))
    rows = {image.numpy().tobytes() for image in whole.splits["train"].tensors[0]}
    images, labels = some.splits["train"].tensors
    assert all(image.numpy().tobytes() in rows for image in images)
    assert torch.equal(fewer.splits["train"].tensors[0], images[:99])
    assert {name: len(split) for name, split in some.splits.items()} == {"train": 500, "test": 40}
    assert len(fewer.splits["test"]) == 360
    assert labels.bincount().min() > 30
    with pytest.raises(ConfigError, match="1438 samples are asked for, but the split has 1437"):
        digits(examples=1438)


PACKAGE = idx.FOLDERS["FashionMNIST"][0]


@pytest.mark.skipif(not PACKAGE.is_dir(), reason="dataset-fashion-mnist is not installed")
@pytest.mark.parametrize("model", ["vgg9", "resnet20"])
def test_the_real_images_fit_the_registrys_networks(model):
    problem = build_problem(
        ProblemSpecification(model=model, data="fashion_mnist", data_args={"examples": 1000, "test_examples": 10})
    )
    images, labels = problem.data.splits["train"].tensors
    assert labels.bincount().min() > 70
    assert problem.model.eval()(images[:2]).shape == (2, 10)
