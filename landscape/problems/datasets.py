"""A data set: examples by split, and what a network must know of them to fit."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from landscape.errors import ProblemError
from landscape.problems.splits import (
    OrderedSplit,
    Split,
    StreamedSplit,
    TensorSplit,
    TypedSplit,
    concatenated,
    leaf_tensors,
    map_tensors,
)
from landscape.problems.streams import Collate, Stream

_MEMORY_LIMIT = 4 * 2**30
_CHUNK = 512


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
        typed = {
            name: split.of_type(dtype) if isinstance(split, OrderedSplit) else TypedSplit(split, dtype)
            for name, split in self.splits.items()
        }
        return Data(typed, self.input_shape, self.classes)

    def fingerprints(self) -> dict[str, str]:
        """A digest for each split."""
        return {name: split.fingerprint() for name, split in self.splits.items()}


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


def as_split(examples: Any, memory_limit: int = _MEMORY_LIMIT) -> Split:
    """Make a split of what a user's factory gives.

    Args:
        examples: a split; any nesting of tuples, lists and dictionaries of tensors or arrays `[N, ...]`; a map-style
            data set, which is decoded once and held as tensors when it takes at most `memory_limit` bytes; a pair of a
            data set and a function that collates a list of its examples, which may be ragged, into a batch; or what is
            read as a `Stream`: a DataLoader, an IterableDataset, or a function without arguments that yields batches.
        memory_limit: bytes.

    Raises:
        ProblemError: it is none of these, or empty.
    """
    if all(hasattr(examples, name) for name in ("batches", "fingerprint", "to")):
        return examples  # type: ignore[no-any-return]
    dataset, collate = examples if _is_collated(examples) else (examples, None)
    if isinstance(dataset, IterableDataset):
        return Stream(dataset, collate=collate)
    if isinstance(dataset, Dataset):
        return _from_dataset(dataset, collate, memory_limit)
    if isinstance(examples, DataLoader | Iterator) or callable(examples):
        return Stream(examples)
    return TensorSplit(examples)


def _is_collated(examples: Any) -> bool:
    pair = isinstance(examples, tuple | list) and len(examples) == 2
    return pair and isinstance(examples[0], Dataset) and callable(examples[1])


def _from_dataset(dataset: Dataset[Any], collate: Collate | None, memory_limit: int) -> Split:
    size = len(dataset) if hasattr(dataset, "__len__") else 0
    if size == 0:
        raise ProblemError(f"{type(dataset).__name__} has no example or no length; a map-style data set is needed.")
    first = list(leaf_tensors(map_tensors(torch.as_tensor, (collate or default_collate)([dataset[0]]))))
    is_small = sum(leaf.nbytes for leaf in first) * size <= memory_limit
    if collate or not is_small:
        return StreamedSplit(dataset, torch.device("cpu"), workers=0 if is_small else None, collate=collate)
    chunks = [
        default_collate([dataset[i] for i in range(start, min(start + _CHUNK, size))])
        for start in range(0, size, _CHUNK)
    ]
    return TensorSplit(concatenated(chunks))
