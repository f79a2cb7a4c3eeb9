"""How many examples at once a network is evaluated fastest on, by trying it."""

from collections.abc import Callable

import torch

from landscape.errors import ProblemError

_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
_LONG_BATCH, _ROUNDS, _HARDLY_LONGER = 0.2, 5, 1.08


def fastest_batch_size(seconds: Callable[[int], float], examples: int, device: torch.device) -> int:
    """The smallest size that takes hardly longer for each example than the best, by rounds over sizes in turn.

    `seconds` runs a batch of so many of the examples on the device, and gives the time for each of them.

    Raises:
        ProblemError: the smallest batch does not fit into memory.
    """
    times = {size: seconds(size) for size in _bearable_sizes(seconds, examples, device)}
    for _ in range(_ROUNDS):
        times = {size: min(before, seconds(size)) for size, before in times.items()}
    return min(size for size, each in times.items() if each <= _HARDLY_LONGER * min(times.values()))


def _bearable_sizes(seconds: Callable[[int], float], examples: int, device: torch.device) -> list[int]:
    """Sizes whose batches fit into memory and take so little time that their overhead may matter."""
    sizes: list[int] = []
    for size in _SIZES:
        try:
            whole = seconds(size) * min(size, examples)
        except torch.OutOfMemoryError:
            break
        sizes.append(size)
        if whole > _LONG_BATCH or size >= examples:
            break
    if not sizes:
        raise ProblemError(f"the network does not fit on {device} with {_SIZES[0]} examples at once.")
    return sizes
