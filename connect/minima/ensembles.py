"""Which of many minima to average: the best few against a few at random, within one valley and across valleys.

Members are chosen one by one so that the likelihood of the average gains most, which weighs how good and how different
they are (Caruana et al. 2004, Ensemble selection from libraries of models). They are chosen on one half of the examples
and scored on the other, since selecting and scoring on the same examples is biased.
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
class Ensemble:
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


def compare_ensembles(
    predictions: Sequence[Tensor], labels: Tensor, valleys: Sequence[Sequence[int]], size: int, seed: int = 0
) -> Mapping[str, Ensemble]:
    """The best ensembles of one size, and random ones.

    Args:
        predictions: log-probabilities `[N, C]` of each minimum.
        labels: `[N]`, at least two.
        valleys: indices of the minima of each valley, the largest first.
        size: members of each ensemble.
        seed: of the halves and of the random choices.

    Returns:
        By name: "best" and "random" of all minima; "best within a valley" and "random within a valley" of the largest,
        if it is large enough; "best across valleys", of which no two share one, if there are as many.
    """
    random = np.random.default_rng(seed)
    choosing = torch.from_numpy(random.permutation(len(labels)) < len(labels) // 2)
    halves = [[p[half] for p in predictions] for half in (choosing, ~choosing)]
    labels_of = (labels[choosing], labels[~choosing])
    everyone = list(range(len(predictions)))
    ensembles: dict[str, Ensemble] = {}
    pools = {"": everyone, " within a valley": list(valleys[0]) if valleys else []}
    for name, pool in pools.items():
        if len(pool) < size:
            continue
        best = choose_members(halves[0], labels_of[0], pool, size)
        ensembles[f"best{name}"] = _scored(halves[1], labels_of[1], best)
        draws = [random.choice(pool, size, replace=False).tolist() for _ in range(_DRAWS)]
        ensembles[f"random{name}"] = _mean([_scored(halves[1], labels_of[1], members) for members in draws])
    if len(valleys) >= size:
        owners = {member: number for number, valley in enumerate(valleys) for member in valley}
        best = choose_members(halves[0], labels_of[0], list(owners), size, owners)
        ensembles["best across valleys"] = _scored(halves[1], labels_of[1], best)
    return ensembles


def choose_members(
    predictions: Sequence[Tensor],
    labels: Tensor,
    pool: Sequence[int],
    size: int,
    owners: Mapping[int, int] | None = None,
) -> list[int]:
    """Choose members one by one from a pool of indices, each so that the average's likelihood is best.

    The predictions are log-probabilities `[N, C]` of every minimum for labels `[N]`; no two members share one of the
    owners, where these are given.
    """
    members: list[int] = []
    while len(members) < size:
        taken = {owners[member] for member in members} if owners else set()
        rest = [i for i in pool if i not in members and not (owners and owners[i] in taken)]
        losses = [negative_log_likelihood(average([predictions[j] for j in [*members, i]]), labels) for i in rest]
        members.append(rest[int(np.argmin(losses))])
    return members


def _scored(predictions: Sequence[Tensor], labels: Tensor, members: Sequence[int]) -> Ensemble:
    chosen = [predictions[i] for i in members]
    scored = score(average(chosen), labels)
    diversity = mean_disagreement(chosen) if len(chosen) > 1 else 0.0
    return Ensemble(tuple(members), scored.accuracy, scored.nll, scored.calibration_error, diversity)


def _mean(ensembles: Sequence[Ensemble]) -> Ensemble:
    names = [f.name for f in fields(Ensemble) if f.name != "members"]
    return Ensemble((), **{name: float(np.mean([getattr(one, name) for one in ensembles])) for name in names})
