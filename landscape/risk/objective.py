"""A height over R^P: what every algorithm of this project sees.

`EmpiricalRisk` is the loss of a network on data, `Potential` an analytic surface; both are an `Objective`, so that
whatever walks on the one can be proven right on the other.
"""

import copy
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.errors import ConfigError, LayoutError, ProblemError
from landscape.problems.augmentation import augment as change_images
from landscape.problems.augmentation import named_augmentations
from landscape.problems.losses import class_dimension, differentiable, per_example
from landscape.problems.registry import Problem
from landscape.problems.splits import Batch, Index, chunks, drawn, leaf_tensors
from landscape.risk.batchnorm import Frozen, StatisticsPolicy
from landscape.risk.conduct import Conduct, depends_on_batch, observed, require_own
from landscape.risk.consistency import require_consistent
from landscape.risk.folding import Fold, changes_nothing, find_folds, folded
from landscape.risk.predictions import Prediction, Seen, calibration_error, class_scores, watching
from landscape.risk.products import Products, gauss_newton_products, hessian_products
from landscape.risk.ranks import Ranks, synchronised
from landscape.runtime.seeds import reseed
from landscape.space.buffers import NotedBuffers
from landscape.space.parameters import ParameterSpace

Precision = Literal["fp32", "bf16"]

_BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
_LONG_BATCH, _ROUNDS, _HARDLY_LONGER = 0.2, 5, 1.08
_FIXED_BATCH = 256  # where values depend on the batch size
_FEW = 16  # examples on which a network's conduct is seen

_log = logging.getLogger(__name__)

Matrix = Literal["hessian", "gauss_newton"]
_PRODUCTS: Mapping[Matrix, Callable[..., Products]] = {
    "hessian": hessian_products,
    "gauss_newton": gauss_newton_products,
}


@dataclass(frozen=True)
class Measurement:
    """What one split says of one point.

    Attributes:
        loss: mean over the examples, each weighing the same.
        accuracy: mean of how right each example is, in [0, 1]; NaN where the loss does not say.
        losses: each example's loss `[N]`, float64.
        right: how right each example is `[N]`, float64; None where the loss does not say.
        nll: mean negative log-likelihood of the labels; NaN where it was not asked for, or the network does not
            classify.
        calibration_error: expected calibration error in [0, 1]; NaN likewise.
    """

    loss: float
    accuracy: float
    losses: Tensor
    right: Tensor | None = None
    nll: float = float("nan")
    calibration_error: float = float("nan")


class Objective(Protocol):
    """A differentiable height over R^P.

    `examples` and `batch_gradient` serve stochastic descent; the rest is exact over all examples, in evaluation mode.
    `ranks` are the processes that share each batch.
    """

    dimension: int
    device: torch.device
    dtype: torch.dtype
    examples: int
    ranks: Ranks

    def value(self, theta: Tensor) -> Tensor:
        """The height at θ `[P]`, a float64 scalar on the device."""
        ...

    def gradient(self, theta: Tensor) -> Tensor:
        """The gradient at θ `[P]`, a new `[P]`."""
        ...

    def hessian_product(self, theta: Tensor, vector: Tensor) -> Tensor:
        """The Hessian at θ `[P]` times a vector `[P]`, a new `[P]`."""
        ...

    def curvature(
        self, theta: Tensor, *, chosen: Tensor | None = None
    ) -> AbstractContextManager[Callable[[Tensor], Tensor]]:
        """Many products with the Hessian at θ `[P]`: maps a vector `[P]` to a new `[P]`, inside the context.

        Args:
            theta: the point.
            chosen: the parameters that the Hessian is about, boolean `[P]`; the product is of no interest elsewhere.
        """
        ...

    def measure(self, theta: Tensor) -> Mapping[str, Measurement]:
        """Loss, accuracy and per-example losses at θ `[P]`, for each split."""
        ...

    def batch_gradient(
        self, theta: Tensor, indices: Sequence[Index], *, augment: str = "", accumulate: int = 1
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """For each batch of training examples, in training mode: the mean loss, and its gradient at what θ holds then.

        Between two batches the caller may change θ `[P]` in place. The gradient `[P]` may be changed too, and is valid
        until the next batch.

        Args:
            theta: the point.
            indices: the examples of each batch; the processes of `ranks` share them.
            augment: random changes of images, such as `crop,flip`.
            accumulate: parts that a batch is run in.
        """
        ...

    def buffers(self) -> Mapping[str, Tensor]:
        """What a descent changes beside θ, such as running statistics; copies on the CPU."""
        ...

    def load_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Put back what `buffers` gave."""
        ...


class Potential:
    """An analytic surface.

    Args:
        function: maps θ `[P]` to a scalar, by differentiable torch operations.
        dimension: P.
        dtype: of θ.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], dimension: int, dtype: torch.dtype = torch.float64
    ) -> None:
        self._function = function
        self.dimension = dimension
        self.device = torch.device("cpu")
        self.dtype = dtype
        self.examples = 1
        self.ranks = Ranks()

    def value(self, theta: Tensor) -> Tensor:
        self._require_point(theta)
        with torch.no_grad():
            return self._function(theta).double()

    def gradient(self, theta: Tensor) -> Tensor:
        self._require_point(theta)
        theta = theta.detach().requires_grad_()
        return torch.autograd.grad(self._function(theta), theta)[0]

    def hessian_product(self, theta: Tensor, vector: Tensor) -> Tensor:
        self._require_point(theta)
        product: Tensor = torch.autograd.functional.hvp(self._function, theta.detach(), vector)[1]
        return product

    @contextmanager
    def curvature(self, theta: Tensor, *, chosen: Tensor | None = None) -> Iterator[Callable[[Tensor], Tensor]]:
        yield partial(self.hessian_product, theta)

    def measure(self, theta: Tensor) -> Mapping[str, Measurement]:
        value = self.value(theta)
        return {"potential": Measurement(float(value), float("nan"), value.reshape(1))}

    def batch_gradient(
        self, theta: Tensor, indices: Sequence[Index], *, augment: str = "", accumulate: int = 1
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        for _ in indices:
            yield self.value(theta), self.gradient(theta).clone()

    def buffers(self) -> Mapping[str, Tensor]:
        return {}

    def load_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        return None

    def _require_point(self, theta: Tensor) -> None:
        if theta.shape != (self.dimension,):
            raise LayoutError(f"θ has the shape {tuple(theta.shape)}, expected ({self.dimension},).")


class _Onlooker(Protocol):
    """Sees the network's outputs for each batch that is evaluated."""

    def look(self, outputs: Any, batch: Batch) -> None: ...


class _Confidence:
    """How sure of its classes the network is, and with what right."""

    def __init__(self, dim: int | None) -> None:
        self._dim = dim
        self._sure: list[Tensor] = []
        self._right: list[Tensor] = []
        self._nll: list[Tensor] = []

    def look(self, outputs: Any, batch: Batch) -> None:
        found = class_scores(outputs, batch, self._dim)
        if found is None:
            return
        scores, labels = found
        known = F.log_softmax(scores, dim=1)
        sure, chosen = known.max(dim=1)
        self._sure.append(sure.exp())
        self._right.append(chosen == labels)
        self._nll.append(F.nll_loss(known, labels, reduction="none").double())

    def figures(self) -> tuple[float, float]:
        """Negative log-likelihood and calibration error; NaN where the network does not classify."""
        if not self._nll:
            return float("nan"), float("nan")
        return float(torch.cat(self._nll).mean()), calibration_error(torch.cat(self._sure), torch.cat(self._right))


class _Collected:
    """All predictions, and what the last layer was given."""

    def __init__(self, features: bool, dim: int | None) -> None:
        self._dim = dim
        self.seen = Seen()
        self._with_features = features
        self._known: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._features: list[Tensor] = []

    def look(self, outputs: Any, batch: Batch) -> None:
        found = class_scores(outputs, batch, self._dim)
        if found is None:
            raise ProblemError(
                "the network's outputs are not scores [B, C] of classes for integer labels [B] at the end of a batch, "
                "or the loss runs it more than once, so its predictions cannot be compared or averaged."
            )
        self._known.append(F.log_softmax(found[0], dim=1))
        self._labels.append(found[1])
        if self.seen.features is not None:
            self._features.append(self.seen.features.flatten(1).float())

    def prediction(self) -> Prediction:
        """All that was seen."""
        features = torch.cat(self._features) if self._features else None
        return Prediction(torch.cat(self._known), torch.cat(self._labels), features)


@dataclass(frozen=True)
class _Part:
    """A part of a batch as one process runs it.

    Attributes:
        own: the examples that it runs.
        place: where they lie in the part.
        count: examples of the part over all processes.
        share: that its own examples have in the whole batch.
    """

    own: Tensor
    place: slice
    count: int
    share: float


@dataclass
class _Findings:
    """What was found out once about a network and its loss, for all copies of a risk.

    Attributes:
        conduct: how the loss is to be run.
        depends_on_batch: whether values depend on the batch size.
        folds: what can be folded; None before it was looked for.
        consistent: matrices whose products were found to be right.
    """

    conduct: Conduct
    depends_on_batch: bool = False
    folds: list[Fold] | None = None
    consistent: set[Matrix] = field(default_factory=set)


class EmpiricalRisk:
    """The loss of a network on data, as a function of its parameters.

    Args:
        space: the network's parameter space; its running statistics as they are now serve the default policy.
        problem: data and loss; the data are taken to the space's device.
        statistics: what running statistics hold at a θ; by default frozen at what the space holds now.
        splits: the splits to measure; the first also serves `value`, `gradient` and `hessian_product`. By default all,
            "train" first.
        batch_size: examples a batch in evaluation; None measures a few sizes and takes the fastest, or 256 where values
            depend on it.
        precision: "bf16" evaluates losses and trains under autocast; exact derivatives stay in the space's type.
        ranks: the processes that share each batch of a fit.

    Raises:
        ConfigError: a split is unknown or the batch size is not positive.
        ProblemError: the loss fails on a few examples, or the network uses parameters of the one that was copied.
    """

    def __init__(
        self,
        space: ParameterSpace,
        problem: Problem,
        *,
        statistics: StatisticsPolicy | None = None,
        splits: Sequence[str] | None = None,
        batch_size: int | None = None,
        precision: Precision = "fp32",
        ranks: Ranks | None = None,
    ) -> None:
        self._space = space
        self.ranks = ranks or Ranks()
        self._splits = problem.to(space.device).data.splits
        self._loss = problem.loss
        self._measured = self._known(splits or self.all_splits)
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"the batch size is {batch_size}, expected at least 1.")
        self._autocast = precision == "bf16"
        self.statistics: StatisticsPolicy = statistics or Frozen(space.statistics)
        self.dimension, self.device, self.dtype = space.dimension, space.device, space.dtype
        self.examples = len(self._splits["train"])
        self._calibrated = False
        self._kept = space.note_others()
        self._trained: NotedBuffers | None = None
        self._findings = self._found_out(problem.model)
        usual = _FIXED_BATCH if self._findings.depends_on_batch else None
        self.batch_size = batch_size or usual or self.ranks.agreed(self._fastest_batch_size(), self.device)

    @property
    def space(self) -> ParameterSpace:
        """The parameter space that the risk is a function on."""
        return self._space

    @property
    def all_splits(self) -> tuple[str, ...]:
        """Every split of the data, "train" first."""
        return tuple(sorted(self._splits, key=lambda name: name != "train"))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are measured; derivatives are those of the first."""
        return self._measured

    @property
    def depends_on_batch_size(self) -> bool:
        """Whether values depend on how many examples are run at once, as by batch norm without running statistics."""
        return self._findings.depends_on_batch

    def evaluation(self) -> dict[str, Any]:
        """How losses are evaluated, as far as values follow from it, for the provenance of a result."""
        depends = {"depends_on_batch_size": True} if self.depends_on_batch_size else {}
        return {"eval_batch_size": self.batch_size, **depends}

    def size(self, split: str) -> int:
        """The number of examples of a split."""
        return len(self._splits[self._known([split])[0]])

    def on(self, splits: Sequence[str]) -> "EmpiricalRisk":
        """The same risk, measured on other splits."""
        other = copy.copy(self)
        other._measured = self._known(splits)
        return other

    def calibrated(self) -> "EmpiricalRisk":
        """The same risk, whose measurements also tell likelihood and calibration where the network classifies."""
        other = copy.copy(self)
        other._calibrated = True
        return other

    def on_sample(self, count: int, part: int = 0) -> "EmpiricalRisk":
        """The same risk over a fixed random sample of the first split; different parts share no example.

        Raises:
            ConfigError: the split has too few examples.
        """
        other = self.on(self._measured[:1])
        split = self._splits[self._measured[0]]
        other._splits = {**self._splits, self._measured[0]: drawn(split, count, part).to(self.device)}
        other.examples = len(other._splits["train"])
        return other

    def value(self, theta: Tensor) -> Tensor:
        self._move_to(theta)
        return self._evaluate(self._measured[0])[0].mean()

    def measure(self, theta: Tensor) -> Mapping[str, Measurement]:
        measured = {}
        for name in self._measured:
            self._move_to(theta)
            confidence = _Confidence(class_dimension(self._loss)) if self._calibrated else None
            losses, correct = self._evaluate(name, confidence)
            accuracy = float("nan") if correct is None else float(correct.mean())
            nll, error = confidence.figures() if confidence else (float("nan"), float("nan"))
            measured[name] = Measurement(float(losses.mean()), accuracy, losses, correct, nll, error)
        return measured

    def predict(self, theta: Tensor, split: str, *, features: bool = False) -> Prediction:
        """What the network at θ `[P]` predicts for a split.

        Args:
            theta: the point.
            split: the examples.
            features: also what its last layer with weights is given.

        Raises:
            ProblemError: its outputs are not scores of classes for integer labels.
        """
        self._known([split])
        self._move_to(theta)
        collected = _Collected(features, class_dimension(self._loss))
        with watching(self._space.network, features=features) as collected.seen:
            self._evaluate(split, collected)
        return collected.prediction()

    def module(self, theta: Tensor) -> nn.Module:
        """An independent network at θ `[P]` with the statistics that belong there, in evaluation mode."""
        self._move_to(theta, exact=True)
        return self._space.module(theta)

    def gradient(self, theta: Tensor) -> Tensor:
        self._move_to(theta, exact=True)
        total = self._space.gradient.zero_()
        with self._full_precision(), self._folding():
            for batch, share in self._shares(self._measured[0]):
                self._add_gradient(batch, share)
        return total.clone()

    def _add_gradient(self, batch: Batch, share: float) -> None:
        losses, _ = per_example(self._loss, self._space.network, batch)
        (differentiable(losses).mean() * share).backward()

    def hessian_product(self, theta: Tensor, vector: Tensor) -> Tensor:
        with self.curvature(theta, once=True) as product:
            return product(vector)

    @contextmanager
    def curvature(
        self, theta: Tensor, *, chosen: Tensor | None = None, matrix: Matrix = "hessian", once: bool = False
    ) -> Iterator[Callable[[Tensor], Tensor]]:
        """Many products with the Hessian at θ `[P]`: maps a vector `[P]` to a new `[P]`, inside the context.

        The network is held at θ meanwhile: whatever else is asked of this risk, or of another one on the same space,
        raises an error. Once for each risk and matrix, products are compared with each other and with differences of
        gradients on a few examples.

        Args:
            theta: the point.
            chosen: the parameters that the matrix is about, boolean `[P]`, whole tensors of them; the product is 0
                elsewhere, and takes the less time the fewer they are. By default all.
            matrix: "gauss_newton" for that matrix instead; see `products`.
            once: keep nothing, for a single product.

        Raises:
            ProblemError: the loss cannot be differentiated twice, or products are wrong.
            PlaceError: something else is asked meanwhile.
        """
        self._move_to(theta, exact=True)
        recurrent = any(isinstance(module, nn.RNNBase) for module in self._space.network.modules())
        flags = torch.backends.cudnn
        cudnn = flags.flags(not recurrent and flags.enabled, flags.benchmark, deterministic=flags.deterministic)
        with cudnn, self._full_precision(), self._folding(), sdpa_kernel(SDPBackend.MATH):
            if matrix not in self._findings.consistent:
                self._require_consistent(theta, chosen, matrix)
                self._findings.consistent.add(matrix)
            with self._space.held():
                shares = partial(self._shares, self._measured[0])
                yield _PRODUCTS[matrix](self._space, self._loss, shares, chosen, keep=not once)

    def _require_consistent(self, theta: Tensor, chosen: Tensor | None, matrix: Matrix) -> None:
        """Compare products on a few examples with each other, and with differences of gradients."""
        others = self._space.note_others()

        def few() -> Iterator[tuple[Batch, float]]:
            self._space.restore_others(others)
            with self._findings.conduct.drawing(self.device):
                self._begin_batch(0)
                yield self._some(_FEW), 1.0

        def gradient(at: Tensor) -> Tensor:
            self._space.move_to(at)
            total = self._space.gradient.zero_()
            for batch, share in few():
                self._add_gradient(batch, share)
            return total.clone()

        with self._space.excursion():
            product = _PRODUCTS[matrix](self._space, self._loss, few, chosen)
            require_consistent(product, theta, chosen, gradient if matrix == "hessian" else None)

    def batch_gradient(
        self, theta: Tensor, indices: Sequence[Index], *, augment: str = "", accumulate: int = 1
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        network, gradient = self._space.network, self._space.gradient
        names = named_augmentations(augment)
        parts = [self._parts(index, accumulate) for index in indices]
        batches = self._splits["train"].batches([part.own for run in parts for part in run])
        layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        self._space.require_free()
        if self._trained:
            self._space.restore_others(self._trained)
        network.train()
        try:
            with synchronised(layers, self.ranks):
                for run in parts:
                    self._space.move_to(theta)
                    gradient.zero_()
                    total = torch.zeros((), dtype=torch.float64, device=self.device)
                    chances = [torch.rand(part.count, 3, device=self.device) for part in run] if names else []
                    if not self.ranks.first:  # each process drops out other units
                        reseed(self.device, torch.initial_seed(), self.ranks.rank)
                    for number, part in enumerate(run):
                        batch = next(batches)
                        if names:
                            batch = change_images(batch, names, chances[number][part.place])
                        total += self._backward(batch, part.share).double()
                    self.ranks.sum_(gradient, total)
                    self._space.require_fixed()
                    yield total, gradient
        finally:
            network.eval()
            self._trained = self._space.note_others()

    def _parts(self, index: Index, accumulate: int) -> list["_Part"]:
        """What this process runs of a batch: of each part that is run at once, its share."""
        positions = index if isinstance(index, Tensor) else torch.arange(index.start, index.stop, device=self.device)
        parts = []
        for part in chunks(len(positions), -(-len(positions) // accumulate)):
            count = part.stop - part.start
            place = self.ranks.share(count)
            own = positions[part][place]
            parts.append(_Part(own, place, count, len(own) / len(positions)))
        return parts

    def _backward(self, batch: Batch, share: float) -> Tensor:
        """Add a share of the gradient of a batch's mean loss to the space's gradient, and return that of the loss."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._autocast):
            losses, _ = per_example(self._loss, self._space.network, batch)
        loss = (
            differentiable(losses).float().mean() * share if self._autocast else differentiable(losses).mean() * share
        )
        loss.backward()
        return loss.detach()

    def buffers(self) -> Mapping[str, Tensor]:
        if self._trained and not self._space.network.training:
            self._space.restore_others(self._trained)
        return self._space.buffers()

    def load_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        self._space.load_buffers(buffers)
        self._trained = self._space.note_others()

    def adopt_training(self) -> None:
        """Measure with the running statistics and other buffers that training has left from here on, not the old."""
        self.load_buffers(self.buffers())
        self.statistics, self._kept = Frozen(self._space.statistics), self._space.note_others()

    def _found_out(self, original: nn.Module) -> _Findings:
        """How the network and its loss behave on a few examples; the original is what the space's network copies."""
        network = self._space.network
        with self._full_precision():
            conduct = observed(self._loss, network, self._some(_FEW))
            self._space.restore_others(self._kept)
            batch = self._some(_FEW)
            names = [segment.name for segment in self._space.segments]
            with conduct.evaluating(self.device):
                require_own(self._loss, network, batch, original, names)
            self._space.restore_others(self._kept)
            several = len(next(leaf_tensors(batch))) > 1
            depends = several and depends_on_batch(self._loss, network, batch, conduct)
            self._space.restore_others(self._kept)
        return _Findings(conduct, depends)

    def _some(self, count: int) -> Batch:
        """A copy of a few examples."""
        split = self._splits[self._measured[0]]
        (batch,) = split.batches([torch.arange(min(count, len(split)), device=self.device)])
        return batch

    def _folding(self) -> AbstractContextManager[None]:
        """Fold batch norm while θ and the statistics stay; what can be folded is found on the first call."""
        if self._findings.folds is None:
            self._findings.folds = self._foldable()
        return folded(self._findings.folds)

    def _foldable(self) -> list[Fold]:
        """What can be folded, if the losses of a few examples agree."""
        network, conduct = self._space.network, self._findings.conduct

        def losses() -> Tensor:
            self._space.restore_others(self._kept, here=True)
            conduct.begin_batch(0, self.device)
            return per_example(self._loss, network, self._some(_FEW))[0].detach()

        with self._full_precision(), conduct.evaluating(self.device):
            folds = find_folds(network, losses)
            if folds and not changes_nothing(folds, losses):
                _log.debug("batch norm is not folded into convolutions: the losses of a few examples change with it")
                folds = []
            self._space.restore_others(self._kept, here=True)
        return folds

    def _known(self, splits: Sequence[str]) -> tuple[str, ...]:
        unknown = [name for name in splits if name not in self._splits]
        if unknown:
            raise ConfigError(f"the data have no split {unknown[0]!r}; they have {', '.join(self._splits)}.")
        return tuple(splits)

    def _move_to(self, theta: Tensor, *, exact: bool = False) -> None:
        """Take network and statistics to θ, unless they are there already; whatever a run has changed is put back.

        Args:
            theta: the point.
            exact: gather statistics in full precision, whatever losses are evaluated in.
        """
        self._space.require_free()
        casts = self._autocast and not exact
        key = self.statistics, casts, self._kept
        if self._space.is_placed(key, theta):
            return
        self._space.move_to(theta)
        self._space.restore_others(self._kept)
        with self._casting() if casts else self._full_precision():
            self.statistics.place(self._space, theta)
        self._space.note_placed(key, self._kept)

    def _evaluate(self, split: str, onlooker: "_Onlooker | None" = None) -> tuple[Tensor, Tensor | None]:
        examples, conduct = self._splits[split], self._findings.conduct
        losses, correct = [], []
        folding = self._folding()
        with (
            conduct.evaluating(self.device),
            self._casting(),
            folding,
            watching(self._space.network) as seen,
        ):
            for number, batch in enumerate(examples.batches(chunks(len(examples), self.batch_size))):
                seen.forget()
                self._begin_batch(number)
                batch_losses, batch_correct = per_example(self._loss, self._space.network, batch)
                losses.append(batch_losses.detach().double())
                if batch_correct is not None:
                    correct.append(batch_correct.detach().double())
                if onlooker:
                    onlooker.look(seen.only_outputs, batch)
        return torch.cat(losses), torch.cat(correct) if correct else None

    def _begin_batch(self, number: int) -> None:
        """Have a batch draw the same numbers at every point."""
        self._findings.conduct.begin_batch(number, self.device)

    def _shares(self, split: str) -> Iterator[tuple[Batch, float]]:
        """The split's batches, each with its share of the examples."""
        examples = self._splits[split]
        indices = chunks(len(examples), self.batch_size)
        self._space.restore_others(self._kept, here=True)
        with self._findings.conduct.drawing(self.device):
            for number, (index, batch) in enumerate(zip(indices, examples.batches(indices), strict=True)):
                self._begin_batch(number)
                yield batch, (index.stop - index.start) / len(examples)

    @contextmanager
    def _full_precision(self) -> Iterator[None]:
        """No TF32, whatever the global settings."""
        cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
                yield
        finally:
            torch.set_float32_matmul_precision(matmul)

    @contextmanager
    def _casting(self) -> Iterator[None]:
        """For losses: full precision, or bf16 under autocast."""
        cast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._autocast)
        with self._full_precision(), cast:
            yield

    def _fastest_batch_size(self) -> int:
        """The smallest size that takes hardly longer for each example than the best, by rounds over sizes in turn."""
        times = {size: self._seconds(size) for size in self._bearable_sizes()}
        for _ in range(_ROUNDS):
            times = {size: min(known, self._seconds(size)) for size, known in times.items()}
        return min(size for size, seconds in times.items() if seconds <= _HARDLY_LONGER * min(times.values()))

    def _bearable_sizes(self) -> list[int]:
        """Sizes whose batches fit into memory and take so little time that their overhead may matter."""
        examples = len(self._splits[self._measured[0]])
        sizes: list[int] = []
        for size in _BATCH_SIZES:
            try:
                seconds = self._seconds(size) * min(size, examples)
            except torch.OutOfMemoryError:
                break
            sizes.append(size)
            if seconds > _LONG_BATCH or size >= examples:
                break
        if not sizes:
            raise ProblemError(f"the network does not fit on {self.device} with {_BATCH_SIZES[0]} examples at once.")
        return sizes

    def _seconds(self, size: int) -> float:
        """Seconds for each example in one batch."""
        split = self._splits[self._measured[0]]
        taken = min(size, len(split))
        (batch,) = split.batches([slice(0, taken)])
        folding = self._folding()
        with self._findings.conduct.evaluating(self.device), self._casting(), folding:
            start = perf_counter()
            losses, _ = per_example(self._loss, self._space.network, batch)
            losses.detach().sum().item()
            return (perf_counter() - start) / taken
