"""Points whose coordinates stay in named tensors, such as those of a mapped file, until they are asked for."""

from bisect import bisect_right
from collections.abc import Mapping

import torch
from torch import Tensor

from landscape.space.parameters import ParameterSpace


class StoredPoint:
    """The point `[P]` of named tensors, a `Vector`: each time it is sliced, what is asked for is read anew.

    Args:
        space: gives names and shapes.
        state: the tensors, which fit the space; see `ParameterSpace.require_fit`.
    """

    def __init__(self, space: ParameterSpace, state: Mapping[str, Tensor]) -> None:
        self._space, self._state = space, space.named(state)
        self._starts = [segment.offset for segment in space.segments]

    def __len__(self) -> int:
        return self._space.dimension

    def __getitem__(self, piece: slice, /) -> Tensor:
        space = self._space
        start, stop, _ = piece.indices(space.dimension)
        read = torch.empty(stop - start, device=space.device, dtype=space.dtype)
        for segment in space.segments[bisect_right(self._starts, start) - 1 :]:
            first, last = max(start, segment.offset), min(stop, segment.offset + segment.size)
            if segment.offset >= stop:
                break
            flat = segment.flat(self._state[segment.name])
            read[first - start : last - start].copy_(flat[first - segment.offset : last - segment.offset])
        return read
