"""Both ends of the Hessian's spectrum over a grid, where each point starts from what its neighbour found.

Eigenvectors turn slowly from point to point, so a run that starts from the neighbour's needs about half as many
products as one that starts from a random vector. Such a start hides what the neighbour did not see, against which
there are four safeguards: the start also holds the vectors next to the neighbour's ends, which are the likeliest to
overtake them; it holds a part of a new random vector, and so of every eigenvector; no run ends before that part had
some products to grow in; and every row, and every sixteenth point of it, begins with a random start, so nothing is
missed for longer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.curvature.lanczos import Extremes, lanczos
from landscape.curvature.restriction import Product, Restriction
from landscape.curvature.trace import hutch_plus_plus
from landscape.errors import Interrupted, NonFiniteError
from landscape.risk.surface import Surface
from landscape.runtime.interrupts import Stop
from landscape.runtime.seeds import mixed_seed
from landscape.sweeps.grid import Place

_STRETCH = 16
_BESIDE, _RANDOM = 0.3, 1.0  # on trained networks a random part of any weight up to 3 costs no further product
_LEAST, _MOST = 12, 300  # eight miss an end that is overtaken by five per cent, among a dozen outliers


@dataclass(frozen=True)
class Search:
    """What is looked for at a point, and how exactly.

    Attributes:
        chosen: the parameters, boolean `[P]`.
        tolerance: largest residual of an eigenvalue, over its own size. The eigenvalue's own error is at most the
            residual r, and at most r²/gap where the next eigenvalue is a gap away.
        trace_products: products for the trace, at least 6; 0 leaves it out.
        most_vectors: in memory, before a run is restarted from the best.
        seed: of random vectors.
    """

    chosen: Tensor
    tolerance: float = 1e-2
    trace_products: int = 0
    most_vectors: int | None = None
    seed: int = 0


class CurvatureWalk:
    """Measures the curvature at the points of a grid, row by row along the last axis.

    What it finds at a point follows from at most fifteen points before it. It walks these again when it is asked for a
    point whose left neighbour it does not remember, so that a resumed run finds the same (on a CPU to the bit).

    Args:
        surface: the height whose Hessian it is.
        search: what is looked for.
    """

    def __init__(self, surface: Surface, search: Search) -> None:
        self._surface, self._search = surface, search
        self._restriction = Restriction(search.chosen)
        self._last: tuple[Place, Extremes | None] | None = None

    def __call__(self, place: Place, theta_at: Callable[[Place], Tensor], stop: Stop) -> Mapping[str, float]:
        """Measure a point, whose indices are `place`; `stop` is looked at before every product.

        Returns:
            `max_eig` and `min_eig`, `ratio` (the absolute value of the smallest over the largest), `max_eig_residual`
            and `min_eig_residual` (norms), `converged` (1 where both are within the tolerance, else 0), `steps`
            (products), and with a trace `trace` and `trace_error` (standard error). Where the Hessian is not finite,
            all but `converged` and `steps` are NaN.

        Raises:
            Interrupted: a signal came before the point was done.
        """
        *row, column = place
        if column % _STRETCH == 0:
            self._last = None
        elif self._last is None or self._last[0] != (*row, column - 1):
            self._last = None
            for walked in range(column - column % _STRETCH, column):
                self._ends((*row, walked), theta_at, stop)
        return self._ends(place, theta_at, stop, trace=self._search.trace_products > 0)

    def _ends(
        self, place: Place, theta_at: Callable[[Place], Tensor], stop: Stop, *, trace: bool = False
    ) -> dict[str, float]:
        taken = 0
        extremes: Extremes | None = None
        values = dict.fromkeys(("max_eig", "min_eig", "ratio", "max_eig_residual", "min_eig_residual"), float("nan"))
        values |= dict.fromkeys(("trace", "trace_error"), float("nan")) if trace else {}
        theta = theta_at(place)
        with self._surface.at(theta) as here:
            hessian_times = here.hessian(self._search.chosen)

            def counted(vector: Tensor) -> Tensor:
                nonlocal taken
                if stop.requested:
                    raise Interrupted("stopped inside a point, which is not kept.")
                taken += 1
                return hessian_times(vector)

            product = self._restriction.block(counted)
            try:
                extremes = self._search_ends(product, place, theta)
                values |= _quantities(extremes)
                values |= self._trace(product, theta) if trace else {}
            except NonFiniteError:
                extremes = None
        self._last = (place, extremes)
        return {**values, "converged": float(extremes is not None and extremes.converged), "steps": float(taken)}

    def _search_ends(self, product: Product, place: Place, theta: Tensor) -> Extremes:
        before = self._last[1] if self._last else None
        return lanczos(
            product,
            self._start(before, place, theta),
            tolerance=self._search.tolerance,
            least_products=_LEAST,
            most_products=_MOST,
            most_vectors=self._search.most_vectors,
            seed=self._search.seed,
        )

    def _start(self, before: Extremes | None, place: Place, theta: Tensor) -> Tensor:
        """A random vector, or the sum of the neighbour's vectors with a random one."""
        generator = torch.Generator().manual_seed(mixed_seed(self._search.seed, len(place), *place))
        drawn = self._restriction.random(generator, theta)
        if before is None:
            return drawn
        ends = before.top_vectors[0] + before.bottom_vectors[0] + _BESIDE * before.next_vectors.sum(0)
        return ends.add_(drawn, alpha=_RANDOM / len(drawn) ** 0.5)

    def _trace(self, product: Product, theta: Tensor) -> Mapping[str, float]:
        """The trace, from the same probes at every point, so that differences between points are not the draw's."""

        def probe(index: int) -> Tensor:
            generator = torch.Generator().manual_seed(mixed_seed(self._search.seed, 0, index))
            return self._restriction.random(generator, theta)

        found = hutch_plus_plus(product, probe, self._search.trace_products)
        return {"trace": found.value, "trace_error": found.error}


def _quantities(extremes: Extremes) -> dict[str, float]:
    top, bottom = float(extremes.top), float(extremes.bottom)
    return {
        "max_eig": top,
        "min_eig": bottom,
        "ratio": abs(bottom / top) if top else float("nan"),
        "max_eig_residual": float(extremes.top_residuals),
        "min_eig_residual": float(extremes.bottom_residuals),
    }
