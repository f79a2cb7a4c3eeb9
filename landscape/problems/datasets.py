"""A data set: examples by split, and what a network must know of them to fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import ProblemError
from landscape.problems.splits import Split, TypedSplit, as_split


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
