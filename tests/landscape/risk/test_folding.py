"""Batch norm folded into convolutions: the same numbers, first and second derivatives included."""

import pytest
import torch
from torch import nn

from landscape import ParameterSpace
from landscape.problems.models import MODELS
from landscape.risk.folding import find_folds, folded


class Block(nn.Module):
    """One foldable pair, and three that only look so."""

    def __init__(self):
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3)
        self.read_twice, self.norm_of_read = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.shared, self.norm_a, self.norm_b = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.activated, self.late_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)

    def forward(self, x):
        x = self.first_norm(self.first(x)).tanh()
        y = self.read_twice(x)
        x = self.norm_of_read(y) + y
        x = self.norm_a(self.shared(x)) + self.norm_b(self.shared(x.tanh()))
        return self.late_norm(self.activated(x).tanh()).mean(dim=(1, 2, 3))


def with_statistics(model):
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.3)
    return model.eval().double()


def test_only_a_batch_norm_that_alone_reads_a_convolution_is_folded():
    model = with_statistics(Block())
    images = torch.randn(4, 2, 6, 6).double()
    folds = find_folds(model, lambda: model(images))
    assert folds == [(model.first, model.first_norm)]
    expected = model(images)
    with folded(folds):
        torch.testing.assert_close(model(images), expected)
    assert "forward" not in vars(model.first)
    assert not model.first._forward_hooks


@pytest.mark.parametrize("options", [{}, {"bias": True}, {"groups": 2}, {"padding_mode": "circular", "padding": 1}])
@pytest.mark.parametrize("affine", [True, False])
def test_values_and_derivatives_are_those_of_the_pair(options, affine):
    torch.manual_seed(0)
    model = with_statistics(
        nn.Sequential(nn.Conv2d(4, 6, 3, **{"bias": False, **options}), nn.BatchNorm2d(6, affine=affine), nn.Tanh())
    )
    images = torch.randn(3, 4, 5, 5).double()
    folds = find_folds(model, lambda: model(images))
    assert len(folds) == 1
    parameters = list(model.parameters())

    def derivatives():
        value = model(images).square().mean()
        first = torch.autograd.grad(value, parameters, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), parameters)
        return [value, *first, *second]

    expected = derivatives()
    with folded(folds):
        torch.testing.assert_close(derivatives(), expected)


@pytest.mark.parametrize(("name", "pairs"), [("resnet20", 21), ("cnn", 2)])
def test_every_batch_norm_of_our_models_is_folded(name, pairs):
    model = with_statistics(MODELS[name](input_shape=(3, 16, 16), classes=5))
    assert len(find_folds(model, lambda: model(torch.randn(2, 3, 16, 16).double()))) == pairs


def test_a_network_that_was_evaluated_is_copied_whole():
    """The folds are gone after each evaluation, so that a module taken from the space has its own layers."""
    space = ParameterSpace(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
    images = torch.randn(2, 1, 4, 4)
    with folded(find_folds(space.network, lambda: space.network(images))):
        space.network(images)
    module = space.module(torch.zeros(space.dimension))
    assert not module(images).any()
