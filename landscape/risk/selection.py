"""What of the data a risk is measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from landscape.errors import ConfigError
from landscape.problems.splits import Split, drawn


@dataclass(frozen=True, eq=False)
class Selection:
    """What a measurement is over; see `SelectedRisk.select` for the errors.

    Attributes:
        data: every split by name, on the device.
        splits: the names of those that are measured; heights and derivatives are those of the first.
        calibrated: also measure likelihood and calibration, where the network classifies.
    """

    data: Mapping[str, Split]
    splits: tuple[str, ...]
    calibrated: bool = False

    @property
    def first(self) -> Split:
        """The split that heights and derivatives are of."""
        return self.data[self.splits[0]]

    @property
    def all_splits(self) -> tuple[str, ...]:
        """Every split of the data, "train" first."""
        return tuple(sorted(self.data, key=lambda name: name != "train"))

    def split(self, name: str) -> Split:
        """A split by name."""
        if name not in self.data:
            raise ConfigError(f"the data have no split {name!r}; they have {', '.join(self.data)}.")
        return self.data[name]

    def on(self, splits: Sequence[str]) -> "Selection":
        """The same, on other splits."""
        for name in splits:
            self.split(name)
        return replace(self, splits=tuple(splits))

    def sampled(self, count: int, part: int, device: torch.device) -> "Selection":
        """A fixed random sample of the first split alone; different parts share no example."""
        name, sample = self.splits[0], drawn(self.first, count, part).to(device)
        return replace(self, splits=(name,), data={**self.data, name: sample})
