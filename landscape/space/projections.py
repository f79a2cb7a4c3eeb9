"""Where points and paths lie on a plane that does not hold them, and how far from it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.space.pieces import Points, pieces, total
from landscape.space.slices import Plane
from landscape.storage.results import Array


@dataclass(frozen=True)
class Projection:
    """Points seen on a plane.

    Attributes:
        coordinates: of the nearest points of the plane `[n, 2]`.
        distances: from the plane `[n]`.
        is_curve: whether the points follow each other along a curve.
    """

    coordinates: Array
    distances: Array
    is_curve: bool = False


def project(plane: Plane, points: Points, coefficients: Tensor | None = None) -> Projection:
    """Project points, or points of a curve that control points span, on a plane.

    Args:
        plane: the plane.
        points: k of them, `[P]` each.
        coefficients: `[n, k]`, float64, whose rows sum to 1: project the n points coefficients·points, of which none is
            ever held; by default the points themselves.
    """
    places = [plane.project(point) for point in points]
    coordinates = np.array([(x, y) for x, y, _ in places])
    if coefficients is None:
        return Projection(coordinates, np.array([distance for _, _, distance in places]))

    def products(piece: slice) -> Tensor:
        rests = [point[piece] - plane.part(piece, x, y) for point, (x, y, _) in zip(points, places, strict=True)]
        part = torch.stack(rests).double()
        return part @ part.T

    between = total(products(piece) for piece in pieces(len(points[0]))).cpu()
    squares = torch.einsum("ni,ij,nj->n", coefficients, between, coefficients)
    return Projection(coefficients.numpy() @ coordinates, squares.clamp_min(0).sqrt().numpy(), is_curve=True)
