"""Ensembles of minima against every subset of them."""

import numpy as np
import pytest
import torch

from connect.minima.ensembles import choose_members, compare_ensembles
from landscape.risk.predictions import negative_log_likelihood


def voters(count=6, classes=3, examples=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (examples,), generator=generator)
    skill = torch.rand(count, generator=generator)
    scores = torch.randn(count, examples, classes, generator=generator)
    scores[:, torch.arange(examples), labels] += 1 + skill[:, None]
    return list(scores.log_softmax(dim=2)), labels


def test_members_are_chosen_as_an_exhaustive_greedy_search_would():
    predictions, labels = voters()

    def nll(members):
        return negative_log_likelihood(torch.stack([predictions[i].exp() for i in members]).mean(dim=0).log(), labels)

    expected = []
    for _ in range(3):
        rest = [i for i in range(6) if i not in expected]
        expected.append(min(rest, key=lambda i: nll([*expected, i])))
    assert choose_members(predictions, labels, range(6), 3) == expected


def test_ensembles_are_scored_on_examples_that_did_not_choose_them():
    predictions, labels = voters()
    found = compare_ensembles(predictions, labels, [[0, 1, 2, 3], [4], [5]], 3)
    assert set(found) == {
        "best", "random", "best within a valley", "random within a valley", "best across valleys"
    }  # fmt: skip
    assert set(found["best within a valley"].members) <= {0, 1, 2, 3}
    across = found["best across valleys"].members
    assert {4, 5} <= set(across)
    assert found["best"].nll < found["random"].nll
    random = np.random.default_rng(0)
    choosing = torch.from_numpy(random.permutation(200) < 100)
    best = choose_members([p[choosing] for p in predictions], labels[choosing], range(6), 3)
    assert list(found["best"].members) == best
    mean = torch.stack([predictions[i][~choosing].exp() for i in best]).mean(dim=0)
    assert found["best"].nll == pytest.approx(negative_log_likelihood(mean.log(), labels[~choosing]), rel=1e-5)
    assert set(compare_ensembles(predictions, labels, [[0, 1], [2, 3, 4, 5]][::-1], 5)) == {"best", "random"}
