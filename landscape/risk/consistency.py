"""Whether products with second derivatives are what they should be, found out on a few examples.

An operation of a network may have a second derivative that is wrong or lost in silence. Such products are not those of
a symmetric matrix, or they disagree with differences of gradients, which come about by other means.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from landscape.errors import ProblemError
from landscape.risk.products import Products
from landscape.space.pieces import dot, is_finite

_UNSYMMETRIC, _WRONG, _UNDECIDED = 0.01, 0.1, 0.3
_STEPS = {torch.float64: 1e-6}
_STEP = 1e-4  # in single precision, as a share of the length of θ


def require_consistent(
    product: Products, theta: Tensor, chosen: Tensor | None, gradient: Callable[[Tensor], Tensor] | None
) -> None:
    """Check that products are those of a symmetric matrix and, for a Hessian, that they agree with differences.

    With u random and v along Hu, u·Hv must be v·Hu, and Hv must be the central difference of two gradients along v.
    Where the differences of three steps neither agree with the product nor with each other, kinks or rounding hide
    what is right, and the symmetry alone counts.

    Args:
        product: from `[P]` to `[P]`.
        theta: the point `[P]`.
        chosen: the parameters that the matrix is about, boolean `[P]`.
        gradient: the gradient `[P]` at a point, by other means; None where the matrix is not a Hessian.

    Raises:
        ProblemError: the products are wrong.
    """
    u = torch.randn(len(theta), generator=torch.Generator().manual_seed(0)).to(theta)
    if chosen is not None:
        u *= chosen
    u /= u.norm()
    first = product(u)
    size = float(first.norm())
    v = first / size if size > 0 else u
    second = product(v)
    if not (is_finite(first) and is_finite(second)):
        return  # there is nothing to compare; whoever uses the products says so
    one, other = float(dot(u, second)), float(dot(v, first))
    rounding = 100 * torch.finfo(theta.dtype).eps * float(second.norm())
    if abs(one - other) > _UNSYMMETRIC * size + rounding:
        raise ProblemError(
            f"products with second derivatives are not symmetric: u·Hv is {one:.6g}, v·Hu is {other:.6g}; an operation "
            f"of the network has a wrong second derivative{_suspects(product)}. Replace it for curvature."
        )
    if gradient is not None:
        del u, first
        _require_differences(product, second, v, theta, chosen, gradient)


def _require_differences(
    product: Products,
    expected: Tensor,
    v: Tensor,
    theta: Tensor,
    chosen: Tensor | None,
    gradient: Callable[[Tensor], Tensor],
) -> None:
    step = _STEPS.get(theta.dtype, _STEP) * max(float(theta.norm()), 1e-3)
    differences: list[Tensor] = []
    for size in (step, step / 8, step * 8):
        slope = gradient(torch.add(theta, v, alpha=size))
        slope.sub_(gradient(torch.sub(theta, v, alpha=size))).div_(2 * size)
        if chosen is not None:
            slope *= chosen
        if not is_finite(slope) or float((slope - expected).norm()) <= _WRONG * float(slope.norm()):
            return
        differences.append(slope)
    first, *others = differences
    if all(float((other - first).norm()) <= _UNDECIDED * float((first - expected).norm()) for other in others):
        raise ProblemError(
            f"products with the Hessian disagree with differences of gradients by "
            f"{float((first - expected).norm() / first.norm()):.0%}; an operation of the network loses part of the "
            f"second derivative{_suspects(product)}. Replace it for curvature."
        )


def _suspects(product: Products) -> str:
    """The operations with a derivative of their own in the network, in words; empty where there are none."""
    names = sorted(product.custom_operations)
    return f" (its own operations are {', '.join(names)})" if names else ""
