"""Which of many minima to average: the best few against a few at random, within one valley and across valleys.

Members are chosen one by one so that the likelihood of the average gains most, which weighs how good and how different
they are (Caruana et al. 2004, Ensemble selection from libraries of models). They are chosen on one half of the examples
and scored on the other, since whoever chooses on what he is scored by always wins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from connect.measures.ensembles import mean_disagreement, score
from connect.measures.similarity import average
from landscape.risk.predictions import negative_log_likelihood

_DRAWS = 50


@dataclass(frozen=True)
class Committee:
    """Several minima whose predictions are averaged.

    Attributes:
        members: their indices, in the order in which they were chosen; empty for a mean over random choices.
        accuracy: of the average, on examples that took no part in the choice.
        nll: mean negative log-likelihood there.
        calibration_error: expected calibration error there.
        diversity: share of examples that two members class differently, mean over pairs.
    """

    members: tuple[int, ...]
    accuracy: float
    nll: float
    calibration_error: float
    diversity: float


def compare_committees(
    predictions: Sequence[Tensor], labels: Tensor, valleys: Sequence[Sequence[int]], size: int, seed: int = 0
) -> Mapping[str, Committee]:
    """The best committees of one size, and random ones.

    Args:
        predictions: log-probabilities `[N, C]` of each minimum.
        labels: `[N]`, at least two.
        valleys: indices of the minima of each valley, the largest first.
        size: members of each committee.
        seed: of the halves and of the random choices.

    Returns:
        By name: "best" and "random" of all minima; "best within a valley" and "random within a valley" of the largest,
        if it is large enough; "best across valleys", of which no two share one, if there are as many.
    """
    random = np.random.default_rng(seed)
    choosing = torch.from_numpy(random.permutation(len(labels)) < len(labels) // 2)
    halves = [[p[half] for p in predictions] for half in (choosing, ~choosing)]
    known = (labels[choosing], labels[~choosing])
    everyone = list(range(len(predictions)))
    found: dict[str, Committee] = {}
    pools = {"": everyone, " within a valley": list(valleys[0]) if valleys else []}
    for name, pool in pools.items():
        if len(pool) < size:
            continue
        best = choose_committee(halves[0], known[0], pool, size)
        found[f"best{name}"] = _seated(halves[1], known[1], best)
        drawn = [random.choice(pool, size, replace=False).tolist() for _ in range(_DRAWS)]
        found[f"random{name}"] = _mean([_seated(halves[1], known[1], members) for members in drawn])
    if len(valleys) >= size:
        owners = {member: number for number, valley in enumerate(valleys) for member in valley}
        best = choose_committee(halves[0], known[0], list(owners), size, owners)
        found["best across valleys"] = _seated(halves[1], known[1], best)
    return found


def choose_committee(
    predictions: Sequence[Tensor],
    labels: Tensor,
    pool: Sequence[int],
    size: int,
    owners: Mapping[int, int] | None = None,
) -> list[int]:
    """Choose members one by one, each so that the average's likelihood is best.

    Args:
        predictions: log-probabilities `[N, C]` of every minimum.
        labels: `[N]`.
        pool: indices that may be chosen.
        size: how many.
        owners: the group of each; no two members share one.
    """
    members: list[int] = []
    while len(members) < size:
        taken = {owners[member] for member in members} if owners else set()
        rest = [i for i in pool if i not in members and not (owners and owners[i] in taken)]
        losses = [negative_log_likelihood(average([predictions[j] for j in [*members, i]]), labels) for i in rest]
        members.append(rest[int(np.argmin(losses))])
    return members


def _seated(predictions: Sequence[Tensor], labels: Tensor, members: Sequence[int]) -> Committee:
    voices = [predictions[i] for i in members]
    scored = score(average(voices), labels)
    diversity = mean_disagreement(voices) if len(voices) > 1 else 0.0
    return Committee(tuple(members), scored.accuracy, scored.nll, scored.calibration_error, diversity)


def _mean(committees: Sequence[Committee]) -> Committee:
    figures = [f.name for f in fields(Committee) if f.name != "members"]
    return Committee((), **{name: float(np.mean([getattr(c, name) for c in committees])) for name in figures})
