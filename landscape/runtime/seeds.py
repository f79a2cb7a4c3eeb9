"""Seeds that follow from other numbers, and where they go."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_SEEDS_OF_NUMPY = 2**32


def mixed_seed(*numbers: int) -> int:
    """One seed of several numbers; different numbers give unrelated seeds."""
    sequence = np.random.SeedSequence((len(numbers), *numbers))  # by themselves, zeros at the end would not count
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def unrelated_seeds(seed: int, count: int) -> list[int]:
    """Seeds for several draws that follow from one seed; more of them begin with the same."""
    return [int(state) for state in np.random.SeedSequence(seed).generate_state(count)]


def reseed(device: torch.device, *numbers: int) -> None:
    """Seed the generators that dropout and augmentation draw from, and no others."""
    seed = mixed_seed(*numbers)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


class OwnDraws:
    """The global generators of torch on the CPU, numpy and Python in states of one's own, which go on from use to use.

    Args:
        seed: of all three.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._states: tuple[Any, ...] | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """What is drawn meanwhile is one's own, and the others' states are put back in the end."""
        others = _states()
        if self._states is None:
            torch.default_generator.manual_seed(self._seed)
            random.seed(self._seed)
            np.random.seed(self._seed % _SEEDS_OF_NUMPY)
        else:
            _restore(self._states)
        try:
            yield
        finally:
            self._states = _states()
            _restore(others)


def _states() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _restore(states: tuple[Any, ...]) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
