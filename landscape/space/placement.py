"""Where a space's one network stands, what its buffers hold there, and who may move it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from landscape.errors import LayoutError, PlaceError
from landscape.space.buffers import NotedBuffers, OtherBuffers


class Occupancy:
    """Lets one at a time have what can only be in one state."""

    def __init__(self) -> None:
        self._taken = False

    @contextmanager
    def taken(self) -> Iterator[Callable[[], None]]:
        """Have it for oneself.

        Returns:
            What checks that this lasts, and raises PlaceError once the context has ended.

        Raises:
            PlaceError: somebody has it.
        """
        self.require_free()
        lasts = self._taken = True

        def require() -> None:
            if not lasts:
                raise PlaceError("the point has ended with its `with`; open it anew by `at`, and use it inside.")

        try:
            yield require
        finally:
            lasts = self._taken = False

    def require_free(self) -> None:
        """Check that nobody has it; raises PlaceError."""
        if self._taken:
            raise PlaceError(
                "the network is held at one point, which `at` has opened, or where a batch of training has left it; "
                "ask that point, or end it first, or use another ParameterSpace."
            )


class Placement:
    """Where a network stands, with the buffers that belong there; θ `[P]` and statistics `[S]` are its own memory."""

    def __init__(self, theta: Tensor, statistics: Tensor, others: OtherBuffers) -> None:
        self._theta, self._statistics, self._others = theta, statistics, others
        self._belonging: tuple[object, Tensor, NotedBuffers] | None = None
        self.occupancy = Occupancy()

    def move_to(self, theta: Tensor) -> None:
        """Take the network to θ `[P]`; buffers stay, and what belongs there is not known yet.

        Raises:
            LayoutError: θ has another shape.
        """
        if theta.shape != self._theta.shape:
            raise LayoutError(f"θ has the shape {tuple(theta.shape)}, expected ({len(self._theta)},).")
        self.forget()
        with torch.no_grad():
            self._theta.copy_(theta)

    @contextmanager
    def at(self, theta: Tensor) -> Iterator[Callable[[], None]]:
        """Keep the network at θ `[P]`, where it may be already: whatever would move it raises an error meanwhile.

        Returns and raises as `Occupancy.taken`; a LayoutError where θ has another shape.
        """
        with self.occupancy.taken() as require_open:
            if not torch.equal(theta, self._theta):
                self.move_to(theta)
            yield require_open

    def forget(self) -> None:
        """No longer know what belongs to the present point."""
        self._belonging = None

    def settle(self, key: object, kept: NotedBuffers, place: Callable[[], None]) -> None:
        """Have statistics and other buffers hold what belongs to the present point.

        Args:
            key: by what they belong there; what was placed by the same key is only put back.
            kept: what the other buffers hold before anything is placed.
            place: writes to them.
        """
        if self._belonging is None or self._belonging[0] != key:
            self.forget()
            self._others.restore(kept)
            place()
            others = kept if self._others.holds(kept) else self._others.noted()
            self._belonging = key, self._statistics.clone(), others
        else:
            self._put_back()

    def restore_others(self, noted: NotedBuffers) -> None:
        """Have the other buffers hold what belongs to the present point, or what was noted where that is not known."""
        self._others.restore(self._belonging[2] if self._belonging else noted)

    @contextmanager
    def excursion(self) -> Iterator[Tensor]:
        """Let the network go elsewhere meanwhile, and bring it back with the buffers that belong to its point `[P]`.

        Returns:
            That point, a copy.
        """
        belonging, theta = self._belonging, self._theta.clone()
        try:
            yield theta
        finally:
            self.move_to(theta)
            self._belonging = belonging
            self._put_back()

    def _put_back(self) -> None:
        """Put back what belongs to the present point, if others wrote to it."""
        if self._belonging is not None:
            _, statistics, others = self._belonging
            if not torch.equal(statistics, self._statistics):
                self._statistics.copy_(statistics)
            self._others.restore(others)
