"""Convolutions with a second derivative of their own, against torch's."""

import pytest
import torch
import torch.nn.functional as F

from landscape.risk.convolutions import TwiceDifferentiable

CASES = [
    (F.conv1d, (2, 4, 9), (6, 4, 3), {}),
    (F.conv2d, (2, 4, 7, 8), (6, 4, 3, 2), {"stride": (2, 1), "padding": 1}),
    (F.conv2d, (2, 4, 7, 8), (6, 2, 3, 3), {"groups": 2, "dilation": 2, "padding": (2, 1)}),
    (F.conv2d, (2, 4, 7, 8), (6, 4, 3, 3), {"padding": "same"}),
    (F.conv2d, (4, 7, 8), (6, 4, 3, 3), {"padding": 1}),
    (F.conv3d, (2, 2, 4, 5, 4), (3, 2, 2, 3, 2), {"stride": 2}),
]


def derivatives(function, shape, weights, settings, bias):
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(size, generator=generator, dtype=torch.float64) for size in (shape, weights)]
    given += [torch.randn(weights[0], generator=generator, dtype=torch.float64)] if bias else []
    given = [tensor.requires_grad_() for tensor in given]
    output = function(*given, **settings)
    first = torch.autograd.grad(output.sin().sum(), given, create_graph=True)
    mixed = sum((gradient.cos() * gradient).sum() for gradient in first)
    return [output, *first, *torch.autograd.grad(mixed, given)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_first_and_second_derivatives_are_those_of_torch(case, bias):
    expected = derivatives(*case, bias)
    with TwiceDifferentiable():
        found = derivatives(*case, bias)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fixed", [0, 1, 2])
def test_a_tensor_that_takes_no_part_may_be_any_of_the_three(fixed):
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(size, generator=generator, dtype=torch.float64) for size in ((2, 3, 5), (4, 3, 2), (4,))]
    moving = [tensor.requires_grad_() for index, tensor in enumerate(given) if index != fixed]

    def second():
        first = torch.autograd.grad(F.conv1d(*given).sin().sum(), moving, create_graph=True)
        return torch.autograd.grad(sum(gradient.square().sum() for gradient in first), moving)

    expected = second()
    with TwiceDifferentiable():
        found = second()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
