"""What is found out about a network and its loss by running a few examples, each once."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager

from torch import Tensor

from landscape.problems.losses import Loss, per_example, require_suited
from landscape.problems.splits import Batch, Split, first_few, leaf_tensors
from landscape.risk.conduct import Conduct, depends_on_batch, observed, require_own
from landscape.risk.consistency import require_consistent
from landscape.risk.folding import Fold, changes_nothing, find_folds, folded
from landscape.risk.gradients import add_gradient
from landscape.risk.precision import full_precision
from landscape.risk.products import PRODUCTS, Matrix
from landscape.space.parameters import ParameterSpace

_FEW = 16

_log = logging.getLogger(__name__)


class Findings:
    """How a network and its loss behave, by the first examples of a split.

    Attributes:
        conduct: how the loss is to be run.
        depends_on_batch: whether losses depend on how many examples are run at once.
        kept: what the buffers beside running statistics hold while losses are evaluated.

    Raises:
        ProblemError: the loss fails or does not suit the data, or the network uses parameters of the original that it
            is a copy of.
    """

    def __init__(self, space: ParameterSpace, loss: Loss, split: Split) -> None:
        self._space, self._loss, self._split = space, loss, split
        self._folds: list[Fold] | None = None
        self._consistent: set[Matrix] = set()
        self.kept = space.others.noted()
        with full_precision():
            self.conduct = self._conduct()
            self.depends_on_batch = self._depends_on_batch()

    def folding(self) -> AbstractContextManager[None]:
        """Fold batch norm while θ and the statistics stay; what can be folded is found on the first call."""
        if self._folds is None:
            self._folds = self._foldable()
        return folded(self._folds)

    def require_consistent(self, chosen: Tensor | None, matrix: Matrix) -> None:
        """Compare products on a few examples with each other and with differences of gradients; each matrix once."""
        if matrix in self._consistent:
            return
        space, others = self._space, self._space.others.noted()

        def few() -> Iterator[tuple[Batch, float]]:
            space.others.restore(others)
            with self.conduct.drawing(space.device):
                self.conduct.begin_batch(0, space.device)
                yield self._few(), 1.0

        def gradient(at: Tensor) -> Tensor:
            space.placement.move_to(at)
            total = space.gradient.zero_()
            for batch, share in few():
                add_gradient(space, self._loss, batch, share)
            return total.clone()

        with space.placement.excursion() as theta:
            product = PRODUCTS[matrix](space, self._loss, few, chosen)
            require_consistent(product, theta, chosen, gradient if matrix == "hessian" else None)
        self._consistent.add(matrix)

    def _few(self) -> Batch:
        """A copy of a few examples."""
        return first_few(self._split, _FEW, self._space.device)

    def _conduct(self) -> Conduct:
        space, few = self._space, self._few()
        require_suited(self._loss, few)
        conduct = observed(self._loss, space.network, few)
        space.others.restore(self.kept)
        with conduct.evaluating(space.device):
            require_own(self._loss, space.network, few, space.originals())
        space.others.restore(self.kept)
        return conduct

    def _depends_on_batch(self) -> bool:
        few = self._few()
        several = len(next(leaf_tensors(few))) > 1
        depends = several and depends_on_batch(self._loss, self._space.network, few, self.conduct)
        self._space.others.restore(self.kept)
        return depends

    def _foldable(self) -> list[Fold]:
        """What can be folded, if the losses of a few examples agree."""
        space, conduct = self._space, self.conduct

        def losses() -> Tensor:
            space.placement.restore_others(self.kept)
            conduct.begin_batch(0, space.device)
            return per_example(self._loss, space.network, self._few())[0].detach()

        with full_precision(), conduct.evaluating(space.device):
            folds = find_folds(space.network, losses)
            if folds and not changes_nothing(folds, losses):
                _log.debug("batch norm is not folded into convolutions: the losses of a few examples change with it")
                folds = []
            space.placement.restore_others(self.kept)
        return folds
