"""What the commands that measure curvature over a grid share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.app.config import CurvatureOptions, MapOptions
from landscape.app.options import values
from landscape.app.setting import Setting
from landscape.curvature.walk import CurvatureWalk, Search
from landscape.risk.empirical import EmpiricalRisk, SelectedRisk
from landscape.storage.quantities import SECOND_SAMPLE
from landscape.storage.results import Array, Sweep


def curvature_metrics(
    asked: MapOptions, options: CurvatureOptions, risk: EmpiricalRisk, seed: int = 0
) -> dict[str, CurvatureWalk]:
    """What measures the curvature of a risk's first split along with its loss; nothing where it is not asked for.

    Args:
        asked: what is measured.
        options: parameters, samples and accuracy.
        risk: the loss.
        seed: of random vectors.

    Raises:
        ConfigError: the split has too few examples.
        ProblemError: no parameter is chosen.
    """
    if not asked.curvature:
        return {}
    chosen = risk.space.select(options.parameters)
    search = Search(chosen, options.tolerance, asked.trace_products, options.vectors, seed)
    samples = {"": sampled(options.samples, risk)}
    if asked.second_sample:
        samples[SECOND_SAMPLE] = sampled(options.samples, risk, 1)
    return {name: CurvatureWalk(sample, search) for name, sample in samples.items()}


def require_found(
    asked: MapOptions, options: CurvatureOptions, setting: Setting, split: str, *, for_axes: bool = False
) -> None:
    """Check that the curvature can be measured where it is asked for, or by the axes, before the network runs.

    It raises as `Setting.require_curvature`.
    """
    if asked.curvature or for_axes:
        setting.require_curvature(options.parameters, options.samples, split, 2 if asked.second_sample else 1)


def sampled(samples: int | None, risk: SelectedRisk, part: int = 0) -> SelectedRisk:
    """The risk over a sample of its first split, or over all of it."""
    return risk.select(sample=samples, part=part) if samples else risk


def curvature_provenance(asked: MapOptions, options: CurvatureOptions, risk: EmpiricalRisk) -> dict[str, Any]:
    """The settings that the curvature of a risk follows from; nothing where it is not asked for."""
    if not asked.curvature:
        return {}
    settings = {name: value for name, value in {**values(asked), **values(options)}.items() if name != "curvature"}
    return {"curvature": {"split": risk.splits[0], **settings}}


@dataclass(frozen=True, kw_only=True)
class CurvatureFigures:
    """The curvature over a grid; None where it was not asked for.

    Attributes:
        products: with the Hessian, for what the grid holds.
        max_eig: the largest of the largest eigenvalues; NaN where none is known.
        min_eig: the smallest of the smallest.
        unconverged: at how many points an eigenvalue's residual is above the tolerance, or the Hessian not finite.
        sampling_error: median difference of the two samples' eigenvalues over the mean of both, at the largest and the
            smallest; None without a second sample.
    """

    products: int | None = None
    max_eig: float | None = None
    min_eig: float | None = None
    unconverged: int | None = None
    sampling_error: tuple[float, float] | None = None

    def curvature_text(self) -> str:
        """The figures in words; empty where there are none."""
        if self.products is None:
            return ""
        text = f"{self.products} products; eigenvalues from {self.min_eig:.4g} to {self.max_eig:.4g}"
        if self.unconverged:
            text += f"; not found to the tolerance at {self.unconverged} points, see their residuals"
        if self.sampling_error is not None:
            top, bottom = self.sampling_error
            text += f"\non the second sample the largest differ by {top:.1%}, the smallest by {bottom:.1%} (medians)"
        return text + "\n"


def curvature_figures(asked: MapOptions, sweeps: Sequence[Sweep]) -> CurvatureFigures:
    """What sweeps say of the curvature."""
    if not asked.curvature:
        return CurvatureFigures()
    samples = ["", SECOND_SAMPLE] if asked.second_sample else [""]

    def all_of(quantity: str, sample: str = "") -> Array:
        return np.concatenate([sweep[quantity, sample].ravel() for sweep in sweeps])

    def differing(quantity: str) -> float:
        return _difference(all_of(quantity), all_of(quantity, SECOND_SAMPLE))

    highest, lowest = (each[np.isfinite(each)] for each in map(all_of, ("max_eig", "min_eig")))
    converged = np.all([all_of("converged", sample) == 1 for sample in samples], axis=0)
    return CurvatureFigures(
        products=int(sum(all_of("steps", sample).sum() for sample in samples)),
        max_eig=float(highest.max()) if highest.size else float("nan"),
        min_eig=float(lowest.min()) if lowest.size else float("nan"),
        unconverged=int((~converged).sum()),
        sampling_error=(differing("max_eig"), differing("min_eig")) if asked.second_sample else None,
    )


def _difference(one: Array, other: Array) -> float:
    """The median difference of two samples' eigenvalues over the mean of both."""
    comparable = np.isfinite(one) & np.isfinite(other) & (np.abs(one) + np.abs(other) > 0)
    one, other = one[comparable], other[comparable]
    return float(np.median(2 * np.abs(one - other) / (np.abs(one) + np.abs(other)))) if one.size else float("nan")
