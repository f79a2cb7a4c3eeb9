"""Examples that come one after the other: from a data loader, an iterable data set or a function.

A stream is read from its start for every pass and must give the same examples each time. It is counted once, in a pass
of its own without the network; from there on its length and the sizes of its batches are known, and a pass that gives
something else is an error, not another number.
"""

import copy
import logging
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, islice, pairwise
from time import monotonic
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate

from landscape.errors import ConfigError, LandscapeError, ProblemError
from landscape.problems.splits import Batch, Index, Split, TensorSplit, chunks, concatenated, leaf_tensors, map_tensors
from landscape.runtime.seeds import OwnDraws
from landscape.storage.files import fingerprint

Source = DataLoader[Any] | IterableDataset[Any] | Callable[[], Iterable[Any]]
Collate = Callable[[list[Any]], Batch]

_BLOCK = 64
_LONG = 30.0
_SEED = 0
_log = logging.getLogger(__name__)


class Stream:
    """A split that is read from its first example to its last, by an own order and, for batches, in own sizes.

    What a source draws from the global generators of torch, numpy and Python is the same in every pass, a loader's
    shuffling too, and nobody else's draws are changed by it.

    Args:
        source: a `DataLoader`, or a function without arguments that begins anew and yields batches, which are all taken
            as they come, whatever their sizes and the lengths of their sequences; or an `IterableDataset`, whose
            examples are put together into batches of the size that is asked for.
        steps: take no more than so many batches, or examples of an iterable data set, in a pass; an endless source
            needs it.
        collate: makes a batch of a list of an iterable data set's examples; by default torch's `default_collate`.

    Raises:
        ConfigError: `steps` is not positive.
        ProblemError: the source is none of these; or, when it is read, fails, is empty, holds what is not a batch of
            tensors, or gives other examples than before.

    Example:
        >>> def batches():
        ...     for size in (2, 3):
        ...         yield torch.ones(size, 4), torch.zeros(size)
        >>> stream = Stream(batches)
        >>> len(stream), [len(inputs) for inputs, _ in stream.batches(stream.runs(256))]
        (5, [2, 3])
    """

    def __init__(self, source: Source, steps: int | None = None, collate: Collate | None = None) -> None:
        if steps is not None and steps < 1:
            raise ConfigError(f"steps is {steps}, expected at least 1.")
        self._passes = _Passes(source, steps, _kind(source, collate))
        self._device, self._dtype = torch.device("cpu"), None

    def __len__(self) -> int:
        return self._passes.edges[-1]

    def runs(self, batch_size: int) -> list[slice]:
        return self._passes.kind.runs(self._passes.edges, batch_size)

    def batches(self, indices: Iterable[Index]) -> Iterator[Batch]:
        reader = None
        for index in indices:
            positions = index.tolist() if isinstance(index, Tensor) else range(index.start, index.stop)
            if reader is None or min(positions) < reader.start:
                reader = _Reader(self._passes)
            yield map_tensors(self._given_out, reader.read(positions))

    def to(self, device: torch.device) -> "Stream":
        return self._changed(_device=device)

    def of_type(self, dtype: torch.dtype) -> "Stream":
        return self._changed(_dtype=dtype)

    def part(self, run: slice) -> Split:
        cut = [slice(max(own.start, run.start), min(own.stop, run.stop)) for own in self.runs(_BLOCK)]
        held = list(self.batches(piece for piece in cut if piece.start < piece.stop))
        shapes = {tuple(leaf.shape[1:] for leaf in leaf_tensors(batch)) for batch in held}
        return TensorSplit(concatenated(held)) if len(shapes) == 1 else Stream(lambda: iter(held)).to(self._device)

    def fingerprint(self) -> str:
        return fingerprint([str(self._passes.edges).encode(), self._passes.digest.encode()])

    def _changed(self, **attributes: Any) -> "Stream":
        changed = copy.copy(self)
        vars(changed).update(attributes)
        return changed

    def _given_out(self, tensor: Tensor) -> Tensor:
        """A copy, which a network may change."""
        floating = tensor.dtype in {torch.float32, torch.float64}
        return tensor.to(self._device, self._dtype if floating else None, non_blocking=True, copy=True)


class _Kind(Protocol):
    """What the pieces of a source are, which come one after the other."""

    def pieces(self, source: Any, steps: int | None) -> Iterator[Any]:
        """The pieces of one pass, checked."""

    def size(self, piece: Any) -> int:
        """The number of examples of a piece."""

    def runs(self, edges: Sequence[int], batch_size: int) -> list[slice]:
        """The batches of a pass, given where pieces begin and the last one ends."""

    def joined(self, parts: Sequence[tuple[Any, list[int]]]) -> Batch:
        """One batch of chosen examples of each of several pieces."""


def _kind(source: Any, collate: Collate | None) -> _Kind:
    if isinstance(source, IterableDataset):
        return _Examples(collate or default_collate)
    if collate is not None:
        raise ConfigError("collate is for the examples of an iterable data set, but the source gives batches.")
    if isinstance(source, DataLoader) or callable(source):
        return _Batches()
    advice = "; an iterator ends with its first pass, so give a function that begins anew" * hasattr(source, "__next__")
    raise ProblemError(
        f"the stream's source is {type(source).__name__}, expected a DataLoader, an IterableDataset or a function "
        f"without arguments that yields batches{advice}."
    )


@dataclass(frozen=True)
class _Batches:
    """Pieces are batches, of own sizes."""

    def pieces(self, source: Any, steps: int | None) -> Iterator[Batch]:
        begun = source if isinstance(source, DataLoader) else source()
        return map(_held, islice(begun, steps))

    def size(self, piece: Batch) -> int:
        return len(next(leaf_tensors(piece)))

    def runs(self, edges: Sequence[int], batch_size: int) -> list[slice]:
        return [slice(start, stop) for start, stop in pairwise(edges)]

    def joined(self, parts: Sequence[tuple[Batch, list[int]]]) -> Batch:
        picked = [
            piece if rows == list(range(self.size(piece))) else map_tensors(operator.itemgetter(rows), piece)
            for piece, rows in parts
        ]
        try:
            return picked[0] if len(picked) == 1 else concatenated(picked)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ProblemError(f"batches of a stream do not go together into one: {error}") from error


@dataclass(frozen=True)
class _Examples:
    """Pieces are lists of examples, which `collate` puts together."""

    collate: Collate

    def pieces(self, source: Any, steps: int | None) -> Iterator[list[Any]]:
        examples = islice(source, steps)
        return iter(lambda: list(islice(examples, _BLOCK)), [])

    def size(self, piece: list[Any]) -> int:
        return len(piece)

    def runs(self, edges: Sequence[int], batch_size: int) -> list[slice]:
        return chunks(edges[-1], batch_size)

    def joined(self, parts: Sequence[tuple[list[Any], list[int]]]) -> Batch:
        with OwnDraws(_SEED).active():
            return _held(self.collate([piece[row] for piece, rows in parts for row in rows]))


class _Passes:
    """A source that is counted in the first pass and compared with that in the others."""

    def __init__(self, source: Any, steps: int | None, kind: _Kind) -> None:
        self.kind = kind
        self._source, self._steps = source, steps
        self._generators = [(generator, generator.get_state()) for generator in _own_generators(source)]

    @cached_property
    def edges(self) -> list[int]:
        """Where each piece begins, and the last one ends."""
        sizes: list[int] = []
        begun, is_told = monotonic(), False
        for piece in self._read():
            if not sizes:
                self._head = piece
            sizes.append(self.kind.size(piece))
            if not is_told and monotonic() - begun > _LONG:
                is_told = True
                advice = "if it never ends, bound it by Stream(source, steps=N)"
                _log.warning("note: %d examples of %s are counted so far; %s.", sum(sizes), self._name, advice)
        if not sizes:
            raise ProblemError(f"{self._name} has no example.")
        return [0, *accumulate(sizes)]

    @cached_property
    def digest(self) -> str:
        """Of the first piece."""
        _ = self.edges
        return self._digest(self._head)

    def pieces(self) -> Iterator["_Piece"]:
        """The pieces of one pass; the first is remembered, so that what lies in it alone needs no reading."""
        places = [_Piece(start, stop) for start, stop in pairwise(self.edges)]
        yield replace(places[0], content=self._head)
        if len(places) == 1:
            return
        pieces = self._read()
        if (first := next(pieces, None)) is None or self._digest(first) != self.digest:
            raise self._other("begins with other ones")
        for place in places[1:]:
            piece = next(pieces, None)
            if piece is None or self.kind.size(piece) != place.stop - place.start:
                raise self._other("gives fewer" if piece is None else "gives them in other sizes")
            if place is places[-1] and next(pieces, None) is not None:
                raise self._other("gives more")
            yield replace(place, content=piece)

    def _read(self) -> Iterator[Any]:
        """The pieces of a pass of the source, which draws from generators of its own."""
        for generator, state in self._generators:
            generator.set_state(state)
        draws = OwnDraws(_SEED)
        with self._telling(), draws.active():
            pieces = self.kind.pieces(self._source, self._steps)
        while True:
            with self._telling(), draws.active():
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    @property
    def _name(self) -> str:
        """The source, in words."""
        of = f" of {type(self._source.dataset).__name__}" if isinstance(self._source, DataLoader) else ""
        return f"the stream {getattr(self._source, '__name__', type(self._source).__name__)}{of}"

    def _digest(self, piece: Any) -> str:
        with self._telling():
            return TensorSplit(self.kind.joined([(piece, list(range(self.kind.size(piece))))])).fingerprint()

    def _other(self, what: str) -> ProblemError:
        return ProblemError(
            f"{self._name} had {self.edges[-1]} examples when it was counted, and now {what}; it must give the same "
            "ones in one order each time: let a function begin anew, and what it draws follow from a seed of its own."
        )

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell a failure of the user's code, which may raise anything, as one."""
        try:
            yield
        except LandscapeError:
            raise
        except (Exception, SystemExit) as error:
            raise ProblemError(f"{self._name} failed: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class _Piece:
    """What a source gives at once: the examples from `start` to `stop`."""

    start: int
    stop: int
    content: Any = None

    def rows(self, positions: Sequence[int]) -> list[int]:
        """Where positions lie in it, those that do."""
        return [position - self.start for position in positions if self.start <= position < self.stop]


class _Reader:
    """One pass that gives out batches, whose positions do not lie before the piece that the last one began in."""

    def __init__(self, passes: _Passes) -> None:
        self._kind, self._pieces = passes.kind, passes.pieces()
        self._near: list[_Piece] = []

    @property
    def start(self) -> int:
        """The first position that can still be given out."""
        return self._near[0].start if self._near else 0

    def read(self, positions: Sequence[int]) -> Batch:
        """One batch of the examples at some positions, in their order."""
        low, high = min(positions), max(positions)
        self._near = [piece for piece in self._near if piece.stop > low]
        while not self._near or self._near[-1].stop <= high:
            self._near = [piece for piece in (*self._near, next(self._pieces)) if piece.stop > low]
        near = [piece for piece in self._near if piece.rows(positions)]
        batch = self._kind.joined([(piece.content, piece.rows(positions)) for piece in near])
        order = [piece.start + row for piece in near for row in piece.rows(positions)]
        if order == list(positions):
            return batch
        places = [order.index(position) for position in positions]
        return map_tensors(lambda leaf: leaf[places], batch)


def _held(batch: Any) -> Batch:
    """A batch of tensors, checked, that share nothing with arrays."""
    return TensorSplit(map_tensors(_tensor, batch)).tensors


def _tensor(leaf: Any) -> Tensor:
    return leaf if isinstance(leaf, Tensor) else torch.as_tensor(np.array(leaf))


def _own_generators(source: Any) -> list[torch.Generator]:
    """The generators that a loader's shuffling draws from, where it has its own."""
    if not isinstance(source, DataLoader):
        return []
    drawing = (source, source.sampler, source.batch_sampler, getattr(source.batch_sampler, "sampler", None))
    generators = [getattr(part, "generator", None) for part in drawing]
    return list({id(g): g for g in generators if isinstance(g, torch.Generator)}.values())
