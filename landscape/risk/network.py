"""Surfaces whose points are networks, which are measured on splits of data and predict."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from landscape.risk.evaluation import Evaluation
from landscape.risk.precision import Precision
from landscape.risk.predictions import NUMBERS, Confidence, Prediction, Predictions, watching
from landscape.risk.products import Matrix, Products
from landscape.risk.selection import Selection
from landscape.risk.surface import Measurement, Surface
from landscape.space.parameters import ParameterSpace


class NetworkPoint:
    """A network at the θ where it is kept; see `Point`.

    Losses are evaluated in the precision that was asked for, with running statistics that were gathered in it; exact
    derivatives and `module` take statistics that were gathered in full precision. Each are gathered when they are
    first needed.
    """

    def __init__(self, evaluation: Evaluation, selection: Selection, require_open: Callable[[], None]) -> None:
        self._evaluation, self._selection, self._require_open = evaluation, selection, require_open
        self._settled: Precision | None = None
        self._products: list[Products] = []
        self._only_products = False

    def value(self) -> Tensor:
        self._settle(self._evaluation.precision)
        return self._evaluation.losses(self._selection.first)[0].mean()

    def measure(self) -> Mapping[str, Measurement]:
        return {name: self._measurement(name) for name in self._selection.splits}

    def _measurement(self, split: str) -> Measurement:
        self._settle(self._evaluation.precision)
        confidence = Confidence(self._evaluation.find) if self._selection.calibrated else None
        losses, right = self._evaluation.losses(self._selection.data[split], confidence)
        accuracy = float("nan") if right is None else float(right.mean())
        calibration = confidence.summary() if confidence else {}
        return Measurement(float(losses.mean()), accuracy, losses, right, **calibration)

    def predict(self, split: str, *, features: bool = False, numbers: int = NUMBERS) -> Prediction:
        """What the network predicts for a split.

        Args:
            split: the examples.
            features: also what its last layer with weights is given.
            numbers: at most so many are held, where examples have several positions, such as tokens; then these are
                sampled at random, the same at every point.

        Raises:
            ConfigError: the data have no such split.
            ProblemError: its outputs are not scores of classes for integer labels.
        """
        examples = self._selection.split(split)
        self._settle(self._evaluation.precision)
        with watching(self._evaluation.space.network, features=features) as seen:
            predictions = Predictions(seen, self._evaluation.find, numbers)
            self._evaluation.losses(examples, predictions)
        return predictions.prediction()

    def module(self) -> nn.Module:
        """An independent network, with the statistics that belong here, in evaluation mode."""
        self._settle("fp32")
        return self._evaluation.space.module(self._evaluation.space.theta)

    def gradient(self) -> Tensor:
        self._settle("fp32")
        return self._evaluation.gradient(self._selection.first)

    def hessian(self, chosen: Tensor | None = None, matrix: Matrix = "hessian") -> Callable[[Tensor], Tensor]:
        """The Hessian of `value`, or the Gauss-Newton matrix, as a function from `[P]` to a new `[P]`.

        Once for each network and matrix, products are compared with each other and with differences of gradients on a
        few examples.

        Args:
            chosen: the parameters that the matrix is about, boolean `[P]`, whole tensors of them; the product is 0
                elsewhere, and takes the less time the fewer they are. By default all.
            matrix: which one; see `products`.

        Raises:
            ProblemError: the loss cannot be differentiated twice, or products are wrong.
        """
        self._settle("fp32")
        products = self._evaluation.products(self._selection.first, chosen, matrix)
        self._products.append(products)

        def product(vector: Tensor) -> Tensor:
            self._require_open()
            if not self._only_products:  # checking statistics waits for the device
                self._settle("fp32")
                self._only_products = True
            with self._evaluation.twice_differentiable():
                return products(vector)

        return product

    def forget_products(self) -> None:
        """Keep no graphs of the network any longer."""
        for products in self._products:
            products.forget()

    def _settle(self, precision: Precision) -> None:
        self._require_open()
        if precision != self._settled:  # graphs that are kept hold the other statistics
            self.forget_products()
        self._evaluation.settle(precision)
        self._settled, self._only_products = precision, False


@runtime_checkable
class NetworkSurface(Surface, Protocol):
    """A surface over a parameter `space`, whose points are networks, measured on some `splits` of the data."""

    space: ParameterSpace
    splits: tuple[str, ...]

    def size(self, split: str) -> int:
        """The number of examples of a split."""

    def select(
        self, *, splits: Sequence[str] | None = None, sample: int | None = None, calibrated: bool | None = None
    ) -> "NetworkSurface":
        """The same surface, measured on something else; see `SelectedRisk.select`."""

    def at(self, theta: Tensor) -> AbstractContextManager[NetworkPoint]:
        """The network at θ `[P]`; see `Surface.at`."""
