"""How much memory the commands take beside activations and data: formulas in P, the numbers that move.

What does not move, F bytes, is held once, as the checkpoint or the network has it. The checkpoints are mapped: what is
read of them does not count. `benchmarks/memory.py` measures the formulas, and a command that cannot fit is refused.
"""

from dataclasses import dataclass

from landscape.errors import ConfigError
from landscape.runtime.memory import available_bytes
from landscape.space.parameters import ParameterSpace

_WALK = 4  # eigenvectors of the neighbouring point: of both ends, and of the next beside them
_FEWER = "--trainable with fewer parameters"


@dataclass(frozen=True)
class Need:
    """Vectors of P numbers that a command holds at once.

    Attributes:
        of: the command's work, such as "the surface".
        vectors: how many, the network's own θ among them.
        terms: how they come about, in words.
        advice: what needs less.
    """

    of: str
    vectors: float
    terms: str
    advice: str

    def require(self, space: ParameterSpace) -> None:
        """Check that there is room on the space's device, which holds θ already.

        Raises:
            ConfigError: there is not.
        """
        size = space.dimension * space.theta.element_size()
        free = available_bytes(space.device)
        if (self.vectors - 1) * size > free:
            raise ConfigError(
                f"{self.of} needs about {self.vectors * size / 1e9:.1f} GB beside activations, which is "
                f"{self.vectors:g} times the {space.dimension:,} numbers that move ({self.terms}); beside the network "
                f"{free / 1e9:.1f} GB are free on {space.device}. {self.advice}"
            )


def surface_need(draws: int = 1) -> Need:
    """Of a surface: two axes for each draw, the origin, the point and θ."""
    return Need("the surface", 2 * draws + 3, "2 axes for each draw, and 3", f"Fewer --draws, or {_FEWER}, needs less.")


def line_need() -> Need:
    """Of a line or rays: both ends, or the origin and a direction, the point and θ."""
    return Need("the line", 4, "both ends, the point and the network's own", f"{_FEWER} needs less.")


def hessian_need(vectors: int) -> Need:
    """Of the ends of the Hessian's spectrum, with so many vectors of the search at once."""
    return Need(
        "the search for eigenvalues",
        vectors + 12,
        f"{vectors} of the search, and 12",
        f"Fewer --vectors, --parameters or {_FEWER}, needs less.",
    )


def curvature_need(beside: Need, vectors: int) -> Need:
    """Of curvature along a surface or a line."""
    search = hessian_need(vectors)
    total = beside.vectors + search.vectors + _WALK
    return Need(f"{beside.of} with its curvature", total, f"{beside.terms}; {search.terms}, and 4", search.advice)


def fit_need(points: int, free: int, averages: int) -> Need:
    """Of a path of so many points, of which some are free, by an optimiser that keeps so many averages for each."""
    return Need(
        "the path",
        points + averages * free + 3,
        f"{points} points, {averages} for each of {free} that are free, and 3",
        f"Fewer --control-points, --optimiser sgd or {_FEWER}, needs less.",
    )


def graph_need(fit: Need) -> Need:
    """Of a graph: the two minima of the pair beside the path."""
    return Need("the graph", fit.vectors + 2, f"{fit.terms}; 2 minima", fit.advice)
