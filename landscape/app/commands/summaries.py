"""What commands say when they are done."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from landscape.storage.results import Sweep

if TYPE_CHECKING:  # drawing says what it wrote without torch
    from torch import Tensor

    from landscape.risk.empirical import EmpiricalRisk


@dataclass(frozen=True)
class FilesSummary:
    """The files that were written."""

    files: Sequence[str]

    def text(self) -> str:
        """The summary in words."""
        return wrote(self.files)


def wrote(files: Sequence[str]) -> str:
    """A line for each file that was written."""
    return "\n".join(f"wrote {file}" for file in files)


def loss_range(sweeps: Sequence[Sweep]) -> tuple[float, float]:
    """The least and the largest finite loss on the first split; NaN where there is none."""
    losses = np.concatenate([measured["loss", measured.splits[0]].ravel() for measured in sweeps])
    finite = losses[np.isfinite(losses)]
    return (float(finite.min()), float(finite.max())) if finite.size else (float("nan"), float("nan"))


def label(path: Path) -> str:
    """The name of a file without its ending, or of a folder."""
    return path.absolute().name if path.is_dir() else path.stem


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each file or folder: with its folder's where they repeat, and a number where both do."""
    own = [label(path) for path in paths]
    times = Counter(own)
    names = [
        name if times[name] == 1 else f"{path.absolute().parent.name} {name}"
        for name, path in zip(own, paths, strict=True)
    ]
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct


def figures_at(risk: "EmpiricalRisk", theta: "Tensor") -> dict[str, float]:
    """Loss and accuracy at a point on the training and the test split, flat; NaN for a split that is not measured."""
    with risk.at(theta) as here:
        measured = here.measure()
    return {
        f"{split}_{quantity}": getattr(measured[split], quantity) if split in measured else float("nan")
        for split in ("train", "test")
        for quantity in ("loss", "accuracy")
    }


def at_point(risk: "EmpiricalRisk", theta: "Tensor") -> dict[str, dict[str, float]]:
    """Loss and accuracy of every split at a point."""
    with risk.select(splits=risk.all_splits).at(theta) as here:
        return {name: {"loss": m.loss, "accuracy": m.accuracy} for name, m in here.measure().items()}
