"""Seeds that follow from other numbers, and where they go."""

import numpy as np
import torch


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
