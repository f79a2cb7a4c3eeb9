"""What holds of the symmetries of every kind of network: outputs stay, and a permuted copy is brought back exactly."""

import numpy as np
import pytest
import torch

from connect.symmetry.groups import identity
from connect.symmetry.matching import composed, match_weights
from connect.symmetry.symmetries import find_symmetries
from tests.networks import NETWORKS, network

GROUPS = {
    "mlp": {(12, ()), (7, ())},
    "vit": {(8, ()), (2, (4, 4)), (32, ())},
    "decoder": {(24, ()), (16, ()), (2, (2, 4))},
    "encoder": {(16, ()), (4, (4, 4)), (24, ())},
    "lstm": {(8, ())},
    "gru": {(8, ())},
}


def state(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_permutations_leave_the_outputs_and_are_undone_exactly(name):
    module, example = network(name)
    symmetries = find_symmetries(module, example)
    assert symmetries.groups
    assert not symmetries.pinned
    assert symmetries.deviation < 1e-5
    before, own = module(example), state(module)
    moved = symmetries.permute(own, symmetries.random(3))
    assert any(not torch.equal(own[each], moved[each]) for each in own)
    module.load_state_dict(moved)
    torch.testing.assert_close(module(example), before, rtol=1e-4, atol=1e-5)
    matching = match_weights(symmetries, own, moved)
    back = symmetries.permute(moved, matching.permutations)
    assert matching.objective > matching.before
    for each in own:
        assert torch.equal(own[each], back[each]), each


@pytest.mark.parametrize("name", GROUPS)
def test_groups_are_those_of_theory(name):
    module, example = network(name)
    kinds = {(group.components, tuple(sorted(group.inner))) for group in find_symmetries(module, example).groups}
    assert kinds == GROUPS[name]


@pytest.mark.parametrize("name", ["residual", "decoder", "lstm"])
def test_permutations_compose(name):
    module, example = network(name)
    symmetries = find_symmetries(module, example)
    own, first, second = state(module), symmetries.random(1), symmetries.random(2)
    both = [composed(one, other) for one, other in zip(first, second, strict=True)]
    one_by_one = symmetries.permute(symmetries.permute(own, first), second)
    at_once = symmetries.permute(own, both)
    for each in own:
        assert torch.equal(one_by_one[each], at_once[each]), each
    still = symmetries.permute(own, [identity(group) for group in symmetries.groups])
    assert all(torch.equal(own[each], still[each]) for each in own)


@pytest.mark.parametrize("name", ["mlp", "residual", "decoder"])
def test_matching_is_never_worse_than_moving_nothing(name):
    a, example = network(name, seed=0)
    b, _ = network(name, seed=1)
    symmetries = find_symmetries(a, example)
    own, other = state(a), state(b)
    matching = match_weights(symmetries, own, other, restarts=2)
    moved = symmetries.permute(other, matching.permutations)
    weights = [axes.name for number, axes in enumerate(symmetries.tensors) if not symmetries.is_statistics(number)]
    objective = sum(float((own[each] * moved[each]).sum()) for each in weights)
    assert objective == pytest.approx(matching.objective, rel=1e-4)
    assert matching.objective >= matching.before
    np.testing.assert_allclose(matching.before, sum(float((own[each] * other[each]).sum()) for each in weights), 1e-4)


def test_a_network_in_double_precision_is_proven_in_it():
    module, example = network("mlp")
    symmetries = find_symmetries(module.double(), example.double())
    assert {group.components for group in symmetries.groups} == {12, 7}
    assert symmetries.deviation < 1e-12
