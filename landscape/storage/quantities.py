"""What can be measured: the words, unit, scale and range of each quantity, declared once.

A sweep holds arrays of quantities, each of a split, of a sample, of an end of a path, or of the point alone. In files
an array has one flat name, such as `train_loss`, `second_max_eig` or `kl_a`; it is put together and taken apart here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SECOND_SAMPLE = "second"
_OF_ENDS = ("disagreement", "kl", "cka")  # what they are of comes last in their names


@dataclass(frozen=True)
class Quantity:
    """A quantity, as whatever shows, stores or interpolates it needs to know it.

    Attributes:
        name: in files and flags.
        label: on pictures.
        unit: that it is shown in; "%" is for shares, which are stored in [0, 1].
        scale: "auto" is logarithmic where positive values span a factor of ten; "linear" never is; "log" is wherever
            all values are positive, and else goes both ways from zero as "symlog" always does.
        bounds: the least and the largest value that it can have.
        limits: where its colours begin and end; None for the ends of what is shown.
        sources: names of the quantities that it follows from; empty for one that is measured.
        rule: from their arrays to its own.
    """

    name: str
    label: str
    unit: str = ""
    scale: Literal["auto", "linear", "log", "symlog"] = "auto"
    bounds: tuple[float, float] = (-np.inf, np.inf)
    limits: tuple[float, float] | None = None
    sources: tuple[str, ...] = ()
    rule: Callable[..., Array] | None = None

    @property
    def factor(self) -> float:
        """From what is stored to what is shown."""
        return 100 if self.unit == "%" else 1

    @property
    def label_with_unit(self) -> str:
        """The words for an axis of it."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def _signed_ratio(smallest: Array, largest: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(smallest, largest)


def _perplexity(nll: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.exp(nll)


_SHARE, _SIZE, _ENDS = (0.0, 1.0), (0.0, np.inf), ("min_eig", "max_eig")
QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("loss", "loss"),
        Quantity("accuracy", "accuracy", scale="linear", bounds=_SHARE),
        Quantity("error", "error", "%", bounds=_SHARE, sources=("accuracy",), rule=lambda a: np.subtract(1, a)),
        Quantity("nll", "negative log-likelihood", bounds=_SIZE),
        Quantity("perplexity", "perplexity", bounds=(1.0, np.inf), sources=("nll",), rule=_perplexity),
        Quantity("calibration_error", "calibration error", "%", bounds=_SHARE),
        Quantity("losses", "loss of each example"),
        Quantity("right", "how right each example is", scale="linear", bounds=_SHARE),
        Quantity("max_eig", "largest eigenvalue", scale="log"),
        Quantity("min_eig", "smallest eigenvalue", scale="symlog"),
        Quantity("ratio", "|smallest / largest eigenvalue|", "", "linear", _SIZE, (0.0, 0.5), _ENDS,
                 lambda *ends: np.abs(_signed_ratio(*ends))),
        Quantity("signed_ratio", "smallest / largest eigenvalue", scale="linear", limits=(-0.5, 0.5), sources=_ENDS,
                 rule=_signed_ratio),
        Quantity("max_eig_residual", "residual of the largest eigenvalue", bounds=_SIZE),
        Quantity("min_eig_residual", "residual of the smallest eigenvalue", bounds=_SIZE),
        Quantity("trace", "trace"),
        Quantity("trace_error", "standard error of the trace", bounds=_SIZE),
        Quantity("converged", "converged", scale="linear", bounds=_SHARE),
        Quantity("steps", "products", bounds=_SIZE),
        Quantity("density", "density", bounds=_SIZE),
        Quantity("disagreement", "predictions that differ", "%", bounds=_SHARE),
        Quantity("kl", "Kullback-Leibler divergence", "nats", bounds=_SIZE),
        Quantity("cka", "linear CKA", scale="linear", bounds=_SHARE),
        Quantity("arc", "length so far", bounds=_SIZE),
        Quantity("angle", "angle with the straight line"),
        Quantity("norm", "norm", bounds=_SIZE),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Variable:
    """What an array of a sweep holds.

    Attributes:
        quantity: the quantity.
        of: the split, sample, end or else that it is of; "" where it is of the point alone.
    """

    quantity: Quantity
    of: str = ""

    @property
    def name(self) -> str:
        """In files and flags."""
        return name_of(self.quantity.name, self.of)

    @property
    def label(self) -> str:
        """The words for an axis, as "train error (%)"."""
        if self.of == SECOND_SAMPLE:
            return f"{self.quantity.label_with_unit}, second sample"
        return f"{self.of} {self.quantity.label_with_unit}".strip()


def name_of(quantity: str, of: str = "") -> str:
    """The name of an array in files: `train_loss`, `second_max_eig`, `kl_a`."""
    return "_".join(filter(None, (quantity, of) if quantity in _OF_ENDS else (of, quantity)))


def variable(name: str) -> Variable:
    """What an array of a name holds; a name that ends in no declared quantity is a quantity of its own."""
    first, _, end = name.partition("_")
    if first in _OF_ENDS:
        return Variable(QUANTITIES[first], end)
    declared = [quantity for quantity in QUANTITIES if f"_{name}".endswith(f"_{quantity}")]
    if not declared:
        return Variable(Quantity(name, name.replace("_", " ")))
    longest = max(declared, key=len)
    return Variable(QUANTITIES[longest], name.removesuffix(longest).removesuffix("_"))
