"""Measure a path and the linear path between its ends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from connect.measures.barriers import refinements
from connect.measures.similarity import Similarity
from connect.measures.summaries import summarise
from connect.measures.training import Training
from connect.paths.path import Path, straight_line
from landscape.errors import ConfigError, ProblemError
from landscape.risk.network import NetworkSurface
from landscape.risk.surface import Surface
from landscape.runtime.interrupts import Stop
from landscape.runtime.progress import Reporter, silent
from landscape.storage.results import Array, Result, Sweep, round_name
from landscape.storage.store import ResultWriter
from landscape.sweeps.driver import Metric, sweep
from landscape.sweeps.grid import Place

_ROUNDS, _AT_ONCE = 8, 6


def profile(
    path: Path,
    surface: Surface,
    t: Sequence[float] | Array | None = None,
    *,
    tolerance: float = 1e-3,
    metrics: Mapping[str, Metric] | None = None,
    writer: ResultWriter | None = None,
    report: Reporter = silent,
) -> Result:
    """Measure a surface along a path and along the straight line between its ends.

    Of networks it measures loss, accuracy and, where they classify, negative log-likelihood and calibration error of
    every split, and how like the ends they are; of any path its length so far, its angle with the straight line, and
    its norm. Around the highest places t is refined.

    Args:
        path: the path.
        surface: what is measured; for networks with batch norm, one whose statistics are recomputed.
        t: where to begin with, at least two values in [0, 1], by default 61 even ones. The ends are measured in any
            case, since barriers are against them, and each value once.
        tolerance: refine until the maximum is known to this, in units of the loss; 0 refines nothing.
        metrics: what else to measure at each of the first values, such as a `CurvatureWalk`.
        writer: keeps what is measured on disk.
        report: progress reporter; a unit is a point.

    Returns:
        A result of kind "profile". Where examples have several positions, such as tokens, likelihood and calibration
        are those of a position, and predictions are compared at a random sample of them if there are too many to hold;
        the fact "positions" says of how many. Its sweeps "path" and "straight" hold the first values of t, further ones
        such as "path 1" those of the rounds of refinement; `Result.join_rounds` joins them.

    Raises:
        ConfigError: t is not a list of at least two numbers in [0, 1].
    """
    values = np.linspace(0, 1, 61) if t is None else _with_ends(t)
    paths = {"path": path, "straight": straight_line(path)}
    similarity: Similarity | None = None
    if isinstance(surface, NetworkSurface):
        similarity = _similarity(surface, path)
        surface = surface.select(calibrated=True)
    sweeps: dict[str, Sweep] = {}
    for name, each in paths.items():
        sweeps |= measure_path(
            each,
            surface,
            values,
            name=name,
            tolerance=tolerance,
            metrics=metrics,
            always=similarity,
            writer=writer,
            report=report,
        )
    measured = Result("profile", sweeps, facts=path_facts(path))
    summaries = {name: summary.flat() for name, summary in summarise(measured).items()}
    summaries |= similarity.facts if similarity else {}
    if writer:
        writer.note(summaries, flush=True)
    provenance = writer.result.provenance if writer else {}
    return replace(measured, facts={**measured.facts, **summaries}, provenance=provenance)


def measure_path(
    path: Path,
    surface: Surface,
    t: Sequence[float] | Array,
    *,
    name: str = "path",
    tolerance: float = 1e-3,
    metrics: Mapping[str, Metric] | None = None,
    always: Metric | None = None,
    writer: ResultWriter | None = None,
    report: Reporter = silent,
) -> dict[str, Sweep]:
    """Measure a surface along one path, again around the highest places until the maximum is known; see `profile`.

    Args:
        path: the path.
        surface: what is measured.
        t: where to begin with `[n]`, at least two values in [0, 1]; the ends are measured in any case.
        name: of its sweeps.
        tolerance: refine until the maximum is known to this.
        metrics: what else to measure at each of the first values.
        always: what else to measure at all values.
        writer: keeps what is measured on disk.
        report: progress reporter; a unit is a point.

    Returns:
        The sweep of the first values by the path's name, and those of the rounds of refinement, such as "path 1".
    """
    first = _with_ends(t)

    def measured(at: Array, called: str, more: Mapping[str, Metric]) -> Sweep:
        return sweep(
            surface,
            path,
            {"t": at},
            metrics={**more, "": _together([_Course(path, at), always, more.get("")])},
            examples=True,
            writer=writer,
            name=called,
            report=report,
        )

    rounds = {name: measured(first, name, metrics or {})}
    for number in range(1, _ROUNDS + 1):
        so_far = Result("profile", rounds).join_rounds(name)
        loss = so_far["loss", so_far.splits[0]]
        further = refinements(so_far["t"], loss, tolerance, _AT_ONCE) if 0 < tolerance < np.inf else np.empty(0)
        if not len(further):
            break
        called = round_name(name, number)
        rounds[called] = measured(further, called, {})
    return rounds


def _with_ends(t: Sequence[float] | Array) -> Array:
    """Values of t, increasing, each once, and both ends among them."""
    try:
        values = np.asarray(t, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"t is {t!r}, expected numbers in [0, 1].") from error
    if values.ndim != 1 or len(values) < 2:
        raise ConfigError(f"t has shape {list(values.shape)}, expected a list of at least two numbers in [0, 1].")
    if not ((values >= 0) & (values <= 1)).all():
        wrong = values[~((values >= 0) & (values <= 1))]
        raise ConfigError(f"t holds {wrong[0]:g}, expected numbers in [0, 1]; 0 and 1 are the ends of the path.")
    return np.unique([0.0, *values, 1.0])


def path_facts(path: Path) -> dict[str, Any]:
    """What a result says of a path as a whole: its length and the straight line's, Euclidean, and its training."""
    lengths = {"path_length": path.length(), "straight_length": path.distance()}
    training = Training.of(path)
    return {**lengths, **({"training": training.flat()} if training else {})}


class _Course:
    """Length so far, angle and norm, as a metric."""

    def __init__(self, path: Path, t: Array) -> None:
        geometry = path.geometry
        self._known = {"arc": geometry.arc(t), "angle": geometry.angle(t), "norm": geometry.norm(t)}

    def __call__(self, place: Place, theta_at: Callable[[Place], Tensor], stop: Stop) -> Mapping[str, float]:
        return {name: float(values[place]) for name, values in self._known.items()}


def _similarity(risk: NetworkSurface, path: Path) -> Similarity | None:
    split = "test" if "test" in risk.splits else risk.splits[0]
    try:
        return Similarity(risk, path.points[0], path.points[-1], split)
    except ProblemError:  # a network that does not classify has losses alone
        return None


def _together(metrics: Sequence[Metric | None]) -> Metric:
    """Several metrics as one."""

    def measure(place: Place, theta_at: Callable[[Place], Tensor], stop: Stop) -> Mapping[str, float | Array]:
        quantities: dict[str, float | Array] = {}
        for metric in metrics:
            quantities |= metric(place, theta_at, stop) if metric else {}
        return quantities

    return measure
