"""Ensembles of networks on a path: their predictions averaged, and what each further member brings.

A low-loss path holds networks that are about as good as its ends and predict differently; averaging them costs no
further training (Garipov et al. 2018, arXiv 1802.10026, section 4).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from connect.measures.similarity import average, disagreement, sampling, share_of_numbers
from connect.paths.path import Path
from landscape.errors import ConfigError
from landscape.risk.network import NetworkSurface
from landscape.risk.predictions import calibration_error, negative_log_likelihood
from landscape.runtime.interrupts import Stop
from landscape.runtime.progress import Reporter, silent
from landscape.storage.quantities import name_of
from landscape.storage.results import Array, Result, Sweep
from landscape.storage.store import ResultWriter
from landscape.sweeps.driver import sweep
from landscape.sweeps.grid import Place


@dataclass(frozen=True)
class Score:
    """How good predictions are.

    Attributes:
        accuracy: share of right classes, in [0, 1].
        nll: mean negative log-likelihood, in nats.
        calibration_error: expected calibration error, in [0, 1].
    """

    accuracy: float
    nll: float
    calibration_error: float


def score(log_probabilities: Tensor, labels: Tensor) -> Score:
    """How good predictions `[N, C]` are for labels `[N]`."""
    confidence, chosen = log_probabilities.max(dim=1)
    right = chosen == labels
    return Score(
        accuracy=float(right.double().mean()),
        nll=negative_log_likelihood(log_probabilities, labels),
        calibration_error=calibration_error(confidence.exp(), right),
    )


def measure_ensemble(
    path: Path,
    risk: NetworkSurface,
    members: int = 5,
    *,
    split: str = "test",
    candidates: int | None = None,
    writer: ResultWriter | None = None,
    report: Reporter = silent,
) -> Result:
    """Average the predictions of networks on a path, and set them against the ends and against averages of weights.

    Args:
        path: the path.
        risk: the loss of its network, which classifies; with batch norm, one whose statistics are recomputed.
        members: how many networks, the ends among them.
        split: the examples that are predicted.
        candidates: choose the members greedily among so many networks at equal lengths of the path: each next one is
            that whose probabilities differ most from the nearest of those chosen before. By default the members lie at
            equal lengths themselves.
        writer: keeps what is measured on disk.
        report: progress reporter; a unit is a network.

    Returns:
        A result of kind "ensemble". Its sweep "members" holds one row for each number of members, in the order in
        which they join: `t`, the new member's own `member_accuracy`, `member_nll` and `member_calibration_error`, and
        those of the average so far, `accuracy`, `nll` and `calibration_error`. Facts hold the scores of the ends, their
        two-member ensemble, and two averages of weights: of the ends, and of all members. Where examples have several
        positions, such as tokens, scores are those of a position, of a random sample if there are too many to hold; the
        fact "positions" says of how many.

    Raises:
        ProblemError: the network does not classify.
        ConfigError: there are fewer candidates than members.
    """
    if candidates is not None and candidates < members:
        raise ConfigError(f"{members} members cannot be chosen among {candidates} candidates.")
    places = path.geometry.even(candidates or members)
    arc = path.geometry.arc(places)
    chosen_risk = risk.select(splits=[split])
    numbers = share_of_numbers(len(places) + 2)
    with chosen_risk.at(path.points[0]) as here:
        first = here.predict(split, numbers=numbers)
    labels = first.labels.cpu()
    predicting = {"": _Predictions(chosen_risk, split, numbers)}
    networks = sweep(
        chosen_risk, path, {"t": places}, metrics=predicting, writer=writer, name="networks", report=report
    )
    predictions = [torch.from_numpy(row) for row in networks["log_probabilities"]]
    order = _spread(_differences(predictions) if candidates else np.abs(arc[:, None] - arc[None, :]), members)
    t = places[order]

    def averages(average_of: float) -> Tensor:
        if average_of == 0:
            return torch.lerp(path.points[0], path.points[-1], 0.5)
        mean = path.curve.coefficients(torch.from_numpy(t)).mean(dim=0)
        return torch.mv(path.points.T, mean.to(path.points))

    mixed = sweep(
        chosen_risk,
        averages,
        {"average_of": np.array([0.0, 1.0])},
        metrics=predicting,
        writer=writer,
        name="averages",
        report=report,
    )
    joined = [predictions[i] for i in order]
    table = _table(joined, labels, t)
    ends = (predictions[0], predictions[-1])
    facts = {
        "scores": {
            "end a": asdict(score(ends[0], labels)),
            "end b": asdict(score(ends[1], labels)),
            "ensemble of the ends": asdict(score(average(list(ends)), labels)),
            "weight average of the ends": asdict(score(torch.from_numpy(mixed["log_probabilities"][0]), labels)),
            "weight average of the members": asdict(score(torch.from_numpy(mixed["log_probabilities"][1]), labels)),
            f"ensemble of {members} members": asdict(score(average(joined), labels)),
        },
        "diversity": mean_disagreement(joined),
        "diversity_of_ends": mean_disagreement(ends),
        "split": split,
        **sampling(first),
    }
    result = Result(
        "ensemble",
        {"networks": networks, "averages": mixed, "members": table},
        provenance=writer.result.provenance if writer else {},
        facts=facts,
    )
    if writer:
        writer.note(facts)
        writer.update("members", table, flush=True)
    return result


def mean_disagreement(log_probabilities: Sequence[Tensor]) -> float:
    """The share of examples that two members class differently, mean over all pairs; predictions `[N, C]` each."""
    pairs = [(i, j) for j in range(len(log_probabilities)) for i in range(j)]
    return float(np.mean([disagreement(log_probabilities[i], log_probabilities[j]) for i, j in pairs]))


class _Predictions:
    """The logarithms of all probabilities, as a metric."""

    def __init__(self, risk: NetworkSurface, split: str, numbers: int) -> None:
        self._risk, self._split, self._numbers = risk, split, numbers

    def __call__(self, place: Place, theta_at: Callable[[Place], Tensor], stop: Stop) -> Mapping[str, float | Array]:
        with self._risk.at(theta_at(place)) as here:
            return {
                "log_probabilities": here.predict(self._split, numbers=self._numbers).log_probabilities.cpu().numpy()
            }


def _differences(predictions: Sequence[Tensor]) -> Array:
    """Mean total variation between all pairs of predictions, `[n, n]` in [0, 1]."""
    probabilities = [p.exp() for p in predictions]
    rows = [[float((p - q).abs().sum(dim=1).mean()) / 2 for q in probabilities] for p in probabilities]
    return np.array(rows)


def _spread(distances: Array, count: int) -> list[int]:
    """So many of n things at distances `[n, n]`: the two ends, then each time the farthest from all that were taken."""
    taken = [0, len(distances) - 1]
    while len(taken) < count:
        nearest = distances[:, taken].min(axis=1)
        nearest[taken] = -1
        taken.append(int(nearest.argmax()))
    return taken[:count]


def _table(joined: Sequence[Tensor], labels: Tensor, t: Array) -> Sweep:
    own = [score(prediction, labels) for prediction in joined]
    together = [score(average(list(joined[: i + 1])), labels) for i in range(len(joined))]
    values: dict[str, Array] = {"t": t}
    for name in ("accuracy", "nll", "calibration_error"):
        values[name_of(name, "member")] = np.array([getattr(one, name) for one in own])
        values[name] = np.array([getattr(one, name) for one in together])
    return Sweep({"count": np.arange(1.0, len(joined) + 1)}, values, np.ones(len(joined), dtype=bool))
