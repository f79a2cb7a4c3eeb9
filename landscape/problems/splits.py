"""Examples that a loss is averaged over: in memory as tensors, or read on demand.

A batch may be any nesting of tuples, lists and dictionaries of tensors that share their first dimension.
"""

import operator
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from landscape.errors import ConfigError, ProblemError
from landscape.storage.files import fingerprint

Batch = Any
Index = slice | Tensor
_NAMED = 4
_BYTES_AT_ONCE = 2**24


class Split(Protocol):
    """One part of a data set, such as the training examples."""

    def __len__(self) -> int:
        """Number of examples."""

    def batches(self, indices: Iterable[Index]) -> Iterator[Batch]:
        """One batch for each slice or tensor of positions, in their order."""

    def to(self, device: torch.device) -> "Split":
        """The same examples, given out on another device."""

    def fingerprint(self) -> str:
        """A digest by which other examples are told apart; of examples read on demand, a few are looked at."""


@runtime_checkable
class OrderedSplit(Split, Protocol):
    """A split that is read from its first example to its last, and only so without reading again what comes before."""

    def runs(self, batch_size: int) -> list[slice]:
        """The positions of each batch of one pass, of at most `batch_size` examples unless batches are given."""

    def part(self, run: slice) -> Split:
        """The examples of a run of positions, held in memory."""

    def of_type(self, dtype: torch.dtype) -> "OrderedSplit":
        """The same, whose numbers in single or double precision are given out in one type."""


class TensorSplit:
    """Examples held as tensors.

    Args:
        tensors: any nesting of tuples, lists and dictionaries of tensors or arrays `[N, ...]`, as one batch. Those that
            are mapped from a file, such as `numpy.memmap`, are read batch by batch and never held whole.

    Raises:
        ProblemError: there is no tensor, no example, or first dimensions differ.
    """

    def __init__(self, tensors: Batch) -> None:
        # None before the first batch; what may only be read is copied as if whoever is given batches changed them
        self._is_changed: bool | None = None

        def tensor_of(leaf: Any) -> Tensor:
            if not isinstance(leaf, np.ndarray) or leaf.flags.writeable:
                return torch.as_tensor(leaf)
            self._is_changed = True
            with warnings.catch_warnings():  # torch warns of writing to it
                warnings.simplefilter("ignore", UserWarning)
                return torch.as_tensor(leaf)

        self.tensors = map_tensors(tensor_of, tensors)
        leaves = list(leaf_tensors(self.tensors))
        sizes = {leaf.shape[0] if leaf.ndim else None for leaf in leaves}
        if len(sizes) != 1 or sizes == {None}:
            shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves[:_NAMED]) or "none"
            more = f" and {len(leaves) - _NAMED} more; a list of examples is no split" if len(leaves) > _NAMED else ""
            raise ProblemError(f"the tensors of a split must share their first dimension; got shapes {shapes}{more}.")
        self._size = leaves[0].shape[0]
        if self._size == 0:
            raise ProblemError("a split has no example.")

    def __len__(self) -> int:
        return self._size

    def batches(self, indices: Iterable[Index]) -> Iterator[Batch]:
        for index in indices:
            if isinstance(index, Tensor):  # a batch of its own
                yield map_tensors(operator.itemgetter(index), self.tensors)
            else:
                yield from self._part(index)

    def _part(self, index: slice) -> Iterator[Batch]:
        """One batch that lies in the examples' own memory, or a copy of it, where a network changes what it is given.

        Which of the two is needed is seen on the first batch.
        """
        batch = map_tensors(operator.itemgetter(index), self.tensors)
        if self._is_changed is not False:
            batch = map_tensors(torch.clone, batch)
        before = [leaf._version for leaf in leaf_tensors(batch)]
        yield batch
        changed = before != [leaf._version for leaf in leaf_tensors(batch)]
        if changed and self._is_changed is False:
            raise ProblemError(
                "the network or its loss changes its inputs in place, but only in some batches; have it work on a copy."
            )
        self._is_changed = self._is_changed or changed

    def to(self, device: torch.device) -> "TensorSplit":
        moved = TensorSplit(map_tensors(lambda tensor: tensor.to(device), self.tensors))
        moved._is_changed = self._is_changed or None
        return moved

    def fingerprint(self) -> str:
        leaves = list(leaf_tensors(self.tensors))
        shapes = [f"{leaf.dtype}{tuple(leaf.shape)}".encode() for leaf in leaves]
        return fingerprint(chain(shapes, *map(_bytes_of, leaves)))


def _bytes_of(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor, some rows at a time."""
    rows = max(1, _BYTES_AT_ONCE * len(tensor) // max(1, tensor.nbytes))
    for run in chunks(len(tensor), rows) if tensor.numel() else []:
        part = tensor[run].detach().cpu()
        is_dense = part.is_contiguous() and part.stride(-1) == 1  # a single number may have any stride
        dense = part if is_dense else part.clone(memory_format=torch.contiguous_format)
        yield dense.view(torch.uint8).numpy().data


class StreamedSplit:
    """Examples of a map-style data set that are decoded when asked for, as of one that is too large for memory.

    Args:
        dataset: with a length.
        device: where batches are given out.
        workers: processes that decode; by default one for each core, 8 at most.
        collate: makes a batch of a list of examples, which may be ragged; by default torch's `default_collate`.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        device: torch.device,
        workers: int | None = None,
        collate: Callable[[list[Any]], Batch] | None = None,
    ) -> None:
        self._dataset, self._collate = dataset, collate or default_collate
        self._device = device
        self._workers = min(8, os.cpu_count() or 1) if workers is None else workers

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def batches(self, indices: Iterable[Index]) -> Iterator[Batch]:
        positions = torch.arange(len(self))
        lists: Sequence[list[int]] = [
            positions[index.cpu() if isinstance(index, Tensor) else index].tolist() for index in indices
        ]
        loader = DataLoader(
            self._dataset,
            batch_sampler=lists,
            collate_fn=self._collate,
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator().manual_seed(0),  # or else it draws from that of dropout
        )
        for batch in _decoded(loader):
            yield map_tensors(lambda tensor: tensor.to(self._device, non_blocking=True), batch)

    def to(self, device: torch.device) -> "StreamedSplit":
        return StreamedSplit(self._dataset, device, self._workers, self._collate)

    def fingerprint(self) -> str:
        some = np.linspace(0, len(self) - 1, num=min(16, len(self))).astype(int)
        examples = self._collate([self._dataset[int(i)] for i in some])
        return fingerprint([str(len(self)).encode(), TensorSplit(examples).fingerprint().encode()])


class TypedSplit:
    """A split that gives out numbers in single or double precision in one of the two; its fingerprint stays."""

    def __init__(self, split: Split, dtype: torch.dtype) -> None:
        self._split, self._dtype = split, dtype

    def __len__(self) -> int:
        return len(self._split)

    def batches(self, indices: Iterable[Index]) -> Iterator[Batch]:
        for batch in self._split.batches(indices):
            yield map_tensors(self._typed, batch)

    def to(self, device: torch.device) -> "TypedSplit":
        return TypedSplit(self._split.to(device), self._dtype)

    def fingerprint(self) -> str:
        return self._split.fingerprint()

    def _typed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._dtype) if tensor.dtype in {torch.float32, torch.float64} else tensor


class TokenSplit:
    """Sequences of tokens that are given out as `{"input_ids": [B, T]}`, int64.

    Args:
        tokens: `[N, T]`, of any type of whole numbers, in memory or mapped from a file.
    """

    def __init__(self, tokens: Tensor) -> None:
        self._split = TensorSplit(tokens)

    def __len__(self) -> int:
        return len(self._split)

    def batches(self, indices: Iterable[Index]) -> Iterator[Batch]:
        for tokens in self._split.batches(indices):
            yield {"input_ids": tokens.to(torch.int64)}

    def to(self, device: torch.device) -> "TokenSplit":
        return TokenSplit(self._split.tensors.to(device))

    def fingerprint(self) -> str:
        return self._split.fingerprint()


def _decoded(loader: DataLoader[Any]) -> Iterator[Batch]:
    """The batches of a user's data set, which may fail in any way."""
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (Exception, SystemExit) as error:
            name = type(loader.dataset).__name__
            raise ProblemError(f"the data set {name} failed: {type(error).__name__}: {error}") from error
        yield batch


def runs(split: Split, batch_size: int) -> list[slice]:
    """The positions of each batch of one pass over a split in its order; see `OrderedSplit`."""
    return split.runs(batch_size) if isinstance(split, OrderedSplit) else chunks(len(split), batch_size)


def shuffled(split: Split, generator: torch.Generator, device: torch.device) -> Tensor | None:
    """A random order of the examples `[N]`, on the device; None where they come in an order of their own."""
    return None if isinstance(split, OrderedSplit) else torch.randperm(len(split), generator=generator).to(device)


def first_few(split: Split, count: int, device: torch.device) -> Batch:
    """A copy of the first examples, at most so many and of one batch."""
    ordered = isinstance(split, OrderedSplit)
    index = runs(split, count)[0] if ordered else torch.arange(min(count, len(split)), device=device)
    (batch,) = split.batches([slice(0, min(count, index.stop)) if isinstance(index, slice) else index])
    return batch


def require_examples(split: Split, count: int, part: int = 0) -> None:
    """Check that a split has enough examples for a part of a random sample; raises ConfigError."""
    if count < 1 or count * (part + 1) > len(split):
        raise ConfigError(f"{count * (part + 1)} samples are asked for, but the split has {len(split)} examples.")


def drawn(split: Split, count: int, part: int = 0) -> Split:
    """A fixed random sample of a split, if it has so many examples; different parts of one size share none.

    Of a stream, part 0 are the first examples, part 1 those that follow, and so on.
    """
    require_examples(split, count, part)
    if isinstance(split, OrderedSplit):
        return split.part(slice(part * count, (part + 1) * count))
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    (batch,) = split.batches([order[part * count : (part + 1) * count]])
    return TensorSplit(batch)


def concatenated(chunks: Sequence[Batch]) -> Batch:
    """The examples of several batches of one nesting in one."""
    first = chunks[0]
    if isinstance(first, Mapping):
        return {key: concatenated([chunk[key] for chunk in chunks]) for key in first}
    if isinstance(first, tuple | list):
        return _nested_like(first, [concatenated(parts) for parts in zip(*chunks, strict=True)])
    return torch.cat(list(chunks))


def _nested_like(sample: tuple[Any, ...] | list[Any], values: list[Any]) -> Batch:
    """A tuple, or a named tuple where the sample is one."""
    return type(sample)(*values) if hasattr(sample, "_fields") else tuple(values)


def map_tensors(function: Callable[[Any], Tensor], batch: Batch) -> Batch:
    """The same nesting of tuples, lists and dictionaries with the function applied to each leaf."""
    if isinstance(batch, Mapping):
        return {key: map_tensors(function, value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return _nested_like(batch, [map_tensors(function, value) for value in batch])
    try:
        return function(batch)
    except (TypeError, ValueError) as error:
        raise ProblemError(f"a batch holds {type(batch).__name__}, expected tensors or arrays: {error}") from error


def leaf_tensors(batch: Batch) -> Iterator[Tensor]:
    """The tensors of a batch, in a fixed order."""
    if isinstance(batch, Mapping):
        for key in batch:
            yield from leaf_tensors(batch[key])
    elif isinstance(batch, tuple | list):
        for value in batch:
            yield from leaf_tensors(value)
    else:
        yield batch


def chunks(size: int, batch_size: int) -> list[slice]:
    """Cut `size` positions into runs of at most `batch_size` whose lengths differ by one at most.

    Equal runs leave no small remainder, whose batch statistics would be poor.
    """
    count = -(-size // batch_size)
    edges = [size * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]
