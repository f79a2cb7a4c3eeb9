"""What holds for the parameter space of every network."""

import copy

import pytest
import torch
from torch import nn

from landscape import ParameterSpace, normalise, random_direction
from landscape.space.stored import StoredPoint
from tests.oracles import networks

NAMES = sorted(networks())


@pytest.fixture(params=NAMES)
def network(request):
    return networks()[request.param]


def test_a_point_goes_to_the_network_and_back(network):
    model, _ = network
    space = ParameterSpace(model)
    theta = torch.randn(space.dimension, generator=torch.Generator().manual_seed(3))
    assert torch.equal(space.flatten(space.state_dict(theta)), theta)


def test_a_stored_point_is_read_piece_by_piece_as_whole(network):
    model, _ = network
    space = ParameterSpace(model)
    theta = torch.randn(space.dimension, generator=torch.Generator().manual_seed(3))
    stored = StoredPoint(space, space.state_dict(theta))
    assert len(stored) == space.dimension
    assert torch.equal(stored[:], theta)
    for size in (1, 7, space.dimension - 1):
        for start in range(0, min(space.dimension, 40 * size), size):
            assert torch.equal(stored[start : start + size], theta[start : start + size])


def test_every_distinct_parameter_is_counted_once(network):
    model, _ = network
    distinct = {p.data_ptr(): p.numel() for p in model.parameters()}
    assert ParameterSpace(model).dimension == sum(distinct.values())


def test_outputs_are_those_of_the_original(network):
    model, (inputs, _) = network
    space = ParameterSpace(model)
    space.move_to(space.flatten(model.state_dict()))
    expected = model.eval()(inputs)
    torch.testing.assert_close(space.network(inputs), expected)
    torch.testing.assert_close(space.module(space.theta)(inputs), expected)


def test_the_original_is_never_touched(network):
    model, _ = network
    before = copy.deepcopy(model.state_dict())
    space = ParameterSpace(model)
    space.move_to(torch.zeros(space.dimension))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_gradient_is_that_of_autograd(network):
    model, (inputs, labels) = network
    space = ParameterSpace(model)
    space.gradient.zero_()
    nn.functional.cross_entropy(space.network(inputs), labels).backward()
    model.eval()
    nn.functional.cross_entropy(model(inputs), labels).backward()
    by_memory = {}
    for parameter in model.parameters():
        by_memory[parameter.data_ptr()] = by_memory.get(parameter.data_ptr(), 0) + parameter.grad
    for name, got in space.unflatten(space.gradient).items():
        torch.testing.assert_close(got, by_memory[model.get_parameter(name).data_ptr()])


def test_a_module_shares_no_memory_with_the_space(network):
    model, (inputs, _) = network
    space = ParameterSpace(model)
    module = space.module(space.theta)
    expected = module(inputs)
    space.move_to(torch.zeros(space.dimension))
    space.statistics.fill_(7.0)
    assert torch.equal(module(inputs), expected)


def test_filters_keep_their_norm_and_the_rest_gets_nothing(network):
    model, _ = network
    space = ParameterSpace(model)
    theta = space.flatten(model.state_dict())
    direction = normalise(random_direction(space, 5), theta, space, "filter")
    tensors, weights = space.unflatten(direction), space.unflatten(theta)
    for segment in space.segments:
        if segment.role != "weight":
            assert not tensors[segment.name].any()
            continue
        for got, wanted in zip(
            naive_filters(segment, tensors[segment.name]), naive_filters(segment, weights[segment.name]), strict=True
        ):
            torch.testing.assert_close(got.norm(), wanted.norm())


def naive_filters(segment, tensor):
    """Each filter on its own: rows of dim 0, or of dim 1 within each group of a transposed convolution."""
    if not segment.groups:
        return list(tensor)
    return [part[:, i] for part in tensor.chunk(segment.groups) for i in range(tensor.shape[1])]


def test_layers_keep_their_norm(network):
    model, _ = network
    space = ParameterSpace(model)
    theta = space.flatten(model.state_dict())
    direction = space.unflatten(normalise(random_direction(space, 5), theta, space, "layer"))
    for segment in space.segments:
        if segment.role == "weight":
            torch.testing.assert_close(direction[segment.name].norm(), space.unflatten(theta)[segment.name].norm())
