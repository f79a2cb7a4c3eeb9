"""How much a network on the path is still like the two ends: in what it predicts, and in what it represents."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.risk.network import NetworkSurface
from landscape.risk.predictions import NUMBERS, Prediction, linear_cka
from landscape.runtime.interrupts import Stop
from landscape.sweeps.grid import Place

_AT_ONCE, _ALTOGETHER = 2**22, 2**26  # numbers


class Similarity:
    """Compares predictions with those of the two ends, over a fixed random sample of a split.

    A metric for `sweep`: it tells `disagreement_a` (share of the examples that are given another class), `kl_a` (mean
    Kullback-Leibler divergence from the end's probabilities, in nats) and `cka_a` (linear centred kernel alignment of
    what the last layer is given), and the same for the end b.

    Args:
        risk: the loss of a network that classifies.
        a: the end `[P]` at t = 0.
        b: the end `[P]` at t = 1.
        split: whose examples are looked at.
        samples: how many at most.

    Attributes:
        facts: see `sampling`.

    Raises:
        ProblemError: the network does not classify.
    """

    def __init__(self, risk: NetworkSurface, a: Tensor, b: Tensor, split: str, samples: int = 2048) -> None:
        self._risk = risk.select(splits=[split], sample=min(samples, risk.size(split)))
        self._split = split
        self._ends = {name: self._predict(theta) for name, theta in (("a", a), ("b", b))}
        self.facts = sampling(self._ends["a"])

    def __call__(self, place: Place, theta_at: Callable[[Place], Tensor], stop: Stop) -> Mapping[str, float]:
        here = self._predict(theta_at(place))
        similarities: dict[str, float] = {}
        for name, end in self._ends.items():
            similarities[f"disagreement_{name}"] = disagreement(here.log_probabilities, end.log_probabilities)
            similarities[f"kl_{name}"] = divergence(end.log_probabilities, here.log_probabilities)
            if here.features is not None and end.features is not None:
                similarities[f"cka_{name}"] = linear_cka(here.features, end.features)
        return similarities

    def _predict(self, theta: Tensor) -> Prediction:
        with self._risk.at(theta) as here:
            return here.predict(self._split, features=True)


def sampling(prediction: Prediction) -> dict[str, dict[str, int]]:
    """The fact "positions": how many a prediction has, "held", out of how many, "of"; empty where it has all."""
    held = len(prediction.labels)
    return {"positions": {"held": held, "of": prediction.positions}} if held < prediction.positions else {}


def sampling_in_words(positions: Mapping[str, int]) -> str:
    """The fact "positions" as a line of text; nothing where all are held."""
    return (
        f"predictions at {positions['held']:,} of {positions['of']:,} positions, drawn at random" if positions else ""
    )


def share_of_numbers(networks: int) -> int:
    """How many numbers the predictions of each of so many networks may take, where all are held at once."""
    return min(NUMBERS, _ALTOGETHER // networks)


def disagreement(one: Tensor, other: Tensor) -> float:
    """The share of the examples whose most probable class `[N, C]` differs."""
    return float((one.argmax(dim=1) != other.argmax(dim=1)).double().mean())


def divergence(one: Tensor, other: Tensor) -> float:
    """Mean Kullback-Leibler divergence of the second from the first log-probabilities `[N, C]`, in nats, at least 0."""
    parts = zip(_parts(one), _parts(other), strict=True)
    total = sum(float(F.kl_div(q.double(), p.double(), log_target=True, reduction="sum")) for p, q in parts)
    return max(0.0, total / len(one))


def average(log_probabilities: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of probabilities, `[N, C]` each, float64."""
    members = torch.log(torch.tensor(float(len(log_probabilities)), dtype=torch.float64))
    parts = zip(*(_parts(each) for each in log_probabilities), strict=True)
    return torch.cat([torch.logsumexp(torch.stack(part).double(), dim=0).sub_(members) for part in parts])


def _parts(rows: Tensor) -> Sequence[Tensor]:
    """Rows `[N, C]`, so many at once that a copy in double precision takes little memory."""
    return torch.split(rows, max(1, _AT_ONCE // rows.shape[1]))
