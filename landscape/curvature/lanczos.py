"""Eigenvalues at both ends of a symmetric operator, from one Krylov space.

Block Lanczos with full reorthogonalisation (Golub and Underwood 1977): the space grows from one random vector, or from
a block of known approximations, and both ends are read off it. The small projected matrix is held in full and in
float64, so that a thick restart (Wu and Simon 2000) only replaces it by a diagonal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.curvature.restriction import Product
from landscape.errors import NonFiniteError
from landscape.space.pieces import norm

_CHUNK = 4
_PART = 2**16
_DEPENDENT = 1e-5
_ROUNDING = 10


@dataclass(frozen=True)
class Extremes:
    """Eigenpairs at both ends of a spectrum.

    Attributes:
        top: the largest eigenvalues `[k]`, float64, largest first.
        top_vectors: their unit vectors `[k, P]`.
        top_residuals: norms ‖Hv - λv‖ `[k]`, each a bound of the distance to the nearest eigenvalue.
        bottom: the smallest eigenvalues `[l]`, smallest first.
        bottom_vectors: their unit vectors `[l, P]`.
        bottom_residuals: likewise `[l]`.
        next_vectors: Ritz vectors `[m, P]` beside them, on their way to the next eigenvalues at both ends.
        products: how many products it took.
        converged: whether every residual is within the tolerance.
    """

    top: Tensor
    top_vectors: Tensor
    top_residuals: Tensor
    bottom: Tensor
    bottom_vectors: Tensor
    bottom_residuals: Tensor
    next_vectors: Tensor
    products: int
    converged: bool


def lanczos(
    product: Product,
    start: Tensor,
    *,
    top: int = 1,
    bottom: int = 1,
    tolerance: float = 1e-3,
    floor: float = 1e-4,
    least_products: int = 0,
    most_products: int = 500,
    most_vectors: int | None = None,
    seed: int = 0,
) -> Extremes:
    """Find eigenpairs at both ends.

    The run ends when the residual of every wanted pair is at most `tolerance` times its own size; sizes count as at
    least `floor` times the largest, and a residual of ten roundings of the largest is not asked to shrink further. The
    basis has one vector `[P]` for each product; about ten more are needed beside it.

    Args:
        product: maps `[P]` to H times it.
        start: one vector `[P]`, or a block `[b, P]`. Only what a start holds a part of can be found: a random one
            holds a part of everything, known eigenvectors hide the others.
        top: how many of the largest eigenvalues.
        bottom: how many of the smallest.
        tolerance: relative, positive.
        floor: positive.
        least_products: before which the run does not end, unless the space is exhausted.
        most_products: after which the run ends, converged or not.
        most_vectors: of the basis, before it is restarted from the best of it; at least 2·(top + bottom) + 2 blocks.
        seed: for random vectors, which are added only where the space is exhausted before enough pairs are found.

    Returns:
        The pairs; fewer than asked for when P is smaller.

    Raises:
        NonFiniteError: a product holds NaN or infinity.

    Example:
        >>> matrix = torch.diag(torch.tensor([-1.0, 0.5, 2.0, 5.0]))
        >>> ends = lanczos(lambda vector: matrix @ vector, torch.ones(4), top=2)
        >>> ends.top.round(decimals=3).tolist(), ends.bottom.round(decimals=3).tolist(), ends.products
        ([5.0, 2.0], [-1.0], 4)
    """
    block = list(start.reshape(-1, start.shape[-1]))
    dimension = start.shape[-1]
    wanted = min(top + bottom, dimension)
    generator = torch.Generator().manual_seed(seed)
    basis = _Basis(block[0])
    projected = torch.zeros(0, 0, dtype=torch.float64)
    block, _ = _orthonormal(block, basis)
    products = 0
    while True:
        first = len(basis)
        for vector in block:
            basis.append(vector)
        projected = _grown(projected, len(basis))
        rests = []
        for column in range(first, len(basis)):
            rest = product(basis[column]).clone()  # which may be the vector itself
            coefficients = basis.remove_from(rest)
            if not coefficients.isfinite().all():
                raise NonFiniteError("a product with the Hessian holds NaN or infinity; there are no eigenvalues.")
            # The full row, and not three diagonals: after a restart the matrix is an arrow, and rounding shows here.
            projected[:, column] = projected[column, :] = coefficients
            rests.append(rest)
            products += 1
        values, vectors = torch.linalg.eigh(projected)
        block, couplings = _orthonormal(rests, basis, float(values.abs().max()))
        # H times a Ritz vector leaves the space only through the last block, so its residual needs no product.
        residuals = torch.linalg.vector_norm(couplings @ vectors[first:], dim=0)
        count = len(values)
        best = [*range(count - 1, count - 1 - min(top, count), -1), *range(min(bottom, count))]
        allowed = _allowed(values, best, tolerance, floor, torch.finfo(start.dtype).eps)
        converged = count >= wanted and bool((residuals[best] <= allowed).all())
        if (converged and products >= least_products) or products >= most_products or count == dimension:
            break
        if not block:  # an invariant subspace; a random vector also has a part of what is orthogonal to it
            fresh = torch.randn(dimension, generator=generator).to(basis[0])
            block, _ = _orthonormal([fresh], basis)
        elif most_vectors is not None and count + len(block) > most_vectors:
            # Thick restart: the Ritz vectors nearest both ends are a basis that the next block couples to alone.
            kept = _outermost(count, max(wanted, most_vectors // 2), top, bottom)
            basis.rotate(vectors[:, kept])
            projected = torch.diag(values[kept])
    del block, rests, product  # which may keep vectors of their own
    beside = [place for place in (count - 1 - top, bottom) if 0 <= place < count and place not in best]
    ends = values[best], basis.combine(vectors[:, best]), residuals[best]
    (tops, bottoms), (top_vectors, bottom_vectors), (top_residuals, bottom_residuals) = (
        torch.split(end, [min(top, count), min(bottom, count)]) for end in ends
    )
    return Extremes(
        tops,
        top_vectors,
        top_residuals,
        bottoms,
        bottom_vectors,
        bottom_residuals,
        basis.combine(vectors[:, sorted(set(beside))]),
        products,
        converged or count == dimension,
    )


def _allowed(values: Tensor, best: Sequence[int], tolerance: float, floor: float, rounding: float) -> Tensor:
    """The residuals that are small enough, of the best of the Ritz values."""
    largest = float(values.abs().max())
    return (tolerance * values[best].abs().clamp_min(floor * largest)).clamp_min(_ROUNDING * rounding * largest)


def tridiagonal(product: Product, start: Tensor, steps: int) -> Tensor:
    """The projection of an operator on the Krylov space of a vector `[P]`, not zero: `[k, k]` tridiagonal, float64.

    It takes as many products as k, which is `steps` unless the space is exhausted before.
    """
    basis = _Basis(start)
    basis.append(start / norm(start).to(start.dtype))
    projected = torch.zeros(steps, steps, dtype=torch.float64)
    for step in range(steps):
        rest = product(basis[step]).clone()  # which may be the vector itself
        projected[step, step] = basis.remove_from(rest)[step]
        block, couplings = _orthonormal([rest], basis, float(projected.abs().max()))
        if step + 1 == steps or not block:
            return projected[: step + 1, : step + 1]
        projected[step, step + 1] = projected[step + 1, step] = couplings[0, 0]
        basis.append(block[0])
    return projected


class _Basis:
    """Orthonormal vectors `[P]`, held in chunks, so that it grows without being copied."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._chunks: list[Tensor] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Tensor:
        return self._chunks[index // _CHUNK][index % _CHUNK]

    def append(self, vector: Tensor) -> None:
        if self._count == len(self._chunks) * _CHUNK:
            self._chunks.append(self._like.new_zeros(_CHUNK, len(self._like)))
        self._chunks[self._count // _CHUNK][self._count % _CHUNK] = vector
        self._count += 1

    def remove_from(self, vector: Tensor) -> Tensor:
        """Take the part inside the basis out of a vector, twice for full accuracy; returns its coefficients `[n]`."""
        total = torch.zeros(self._count, dtype=torch.float64)
        for _ in range(2):
            parts = [chunk @ vector for chunk in self._chunks]
            for chunk, part in zip(self._chunks, parts, strict=True):
                vector.addmv_(chunk.T, part, alpha=-1)
            total += torch.cat(parts)[: self._count].double().cpu() if parts else 0
        return total

    def combine(self, coefficients: Tensor) -> Tensor:
        """Linear combinations of the vectors: coefficients `[n, k]` give `[k, P]`."""
        weights = coefficients.T.to(self._like)
        total = self._like.new_zeros(weights.shape[0], len(self._like))
        for part, chunk in zip(torch.split(weights, _CHUNK, dim=1), self._chunks, strict=True):
            total.addmm_(part, chunk[: part.shape[1]])
        return total

    def rotate(self, coefficients: Tensor) -> None:
        """Replace the vectors by linear combinations of them, `[n, k]`, in the same memory."""
        weights = coefficients.T.to(self._like)
        for start in range(0, len(self._like), _PART):
            part = slice(start, start + _PART)
            rotated = weights @ torch.cat([chunk[:, part] for chunk in self._chunks])[: self._count]
            for index, row in enumerate(rotated):
                self[index][part] = row
        self._count = len(weights)
        self._chunks = self._chunks[: -(-self._count // _CHUNK)]
        for unused in range(self._count, len(self._chunks) * _CHUNK):
            self[unused].zero_()


def _orthonormal(vectors: Sequence[Tensor], basis: _Basis, scale: float = 0.0) -> tuple[list[Tensor], Tensor]:
    """Orthonormal vectors that span what given ones add to a basis, and the coefficients `[r, b]` of these in them.

    What is left of a vector counts as rounding when it is small beside the others, or beside a scale.
    """
    orthonormal: list[Tensor] = []
    couplings = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    sizes = [float(norm(vector)) for vector in vectors]
    for column, vector in enumerate(vectors):
        rest = vector.clone()
        for _ in range(2):  # twice is enough (Parlett 1998, section 6.9)
            basis.remove_from(rest)
            for row, other in enumerate(orthonormal):
                overlap = torch.dot(other, rest)
                couplings[row, column] += float(overlap)
                rest.sub_(other, alpha=float(overlap))
        size = float(norm(rest))
        if size > max(_DEPENDENT * max(sizes), _ROUNDING * torch.finfo(rest.dtype).eps * scale):
            couplings[len(orthonormal), column] = size
            orthonormal.append(rest.div_(size))
    return orthonormal, couplings[: len(orthonormal)]


def _grown(matrix: Tensor, size: int) -> Tensor:
    larger = torch.zeros(size, size, dtype=matrix.dtype)
    larger[: len(matrix), : len(matrix)] = matrix
    return larger


def _outermost(count: int, keep: int, top: int, bottom: int) -> list[int]:
    """Indices of the values to keep at a restart, shared between the ends as the wanted ones are."""
    above = min(count, max(top, round(keep * top / (top + bottom))))
    below = min(count - above, max(bottom, keep - above))
    return [*range(below), *range(count - above, count)]
