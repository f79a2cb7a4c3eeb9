"""From names to objects: the registry's own, and a user's `package.module:factory` or `path/file.py:factory`."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import ConfigError, LandscapeError, ProblemError
from landscape.problems import images, losses, text
from landscape.problems.code import at_home, load
from landscape.problems.copying import unwrapped
from landscape.problems.datasets import Data, as_data
from landscape.problems.libraries import LIBRARIES
from landscape.problems.losses import Loss, with_outputs
from landscape.problems.models import MODELS
from landscape.problems.outputs import OUTPUTS, USUAL, Outputs, as_outputs, outputs_of
from landscape.problems.specification import ProblemSpecification
from landscape.runtime.seeds import OwnDraws
from landscape.runtime.suggestions import nearest

FACTORIES: Mapping[str, Callable[..., nn.Module]] = {**MODELS, **LIBRARIES}
DATASETS: Mapping[str, Callable[..., Data]] = {
    "digits": images.digits,
    "cifar10": images.cifar10,
    "cifar100": images.cifar100,
    "mnist": images.mnist,
    "fashion_mnist": images.fashion_mnist,
    "text:": text.text,
}
LOSSES: Mapping[str, Loss] = {
    loss.name: loss for loss in (losses.cross_entropy, losses.causal_lm, losses.mse, losses.bce)
}
REGISTRIES: Mapping[str, Mapping[str, Any]] = {
    "model": FACTORIES,
    "data": DATASETS,
    "loss": LOSSES,
    "outputs": OUTPUTS,
}


@dataclass(frozen=True)
class Problem:
    """What is studied: a network, its data and its loss.

    Attributes:
        model: the network, with its initial weights, out of any wrapper of `torch.compile` or `DataParallel`.
        data: the examples by split.
        loss: the loss, one number for each example.
        specification: the names it was built from; None when it was built from objects.
        outputs: where scores lie in what the network returns; by default as the network says.
    """

    model: nn.Module
    data: Data
    loss: Loss
    specification: ProblemSpecification | None = None
    outputs: Outputs = USUAL

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", unwrapped(self.model))
        object.__setattr__(self, "outputs", outputs_of(self.model) if self.outputs == USUAL else self.outputs)
        object.__setattr__(self, "loss", with_outputs(self.loss, self.outputs))

    @classmethod
    def of(
        cls,
        model: nn.Module,
        data: Any,
        loss: Loss | str = "cross_entropy",
        outputs: Outputs | Callable[[Any], Tensor] | str | None = None,
    ) -> "Problem":
        """Build from objects.

        Args:
            model: any network.
            data: the pair (train, test) or a mapping of split names; each as
                `landscape.problems.datasets.as_split` takes it: tensors, arrays, data sets, data loaders, functions
                that yield batches.
            loss: a function `loss(model, batch) -> [B]` or a registry name.
            outputs: where scores lie in what the network returns: "classes_first" for `[B, C, ...]`, "classes_last" for
                `[B, ..., C]`, or a function that gives the latter; by default what is usual, see
                `landscape.problems.outputs`.
        """
        loss = resolve(loss, LOSSES, "loss") if isinstance(loss, str) else loss
        return cls(model, as_data(data), loss, outputs=_outputs(outputs))

    def to(self, device: torch.device | str) -> "Problem":
        """The same with the examples on another device."""
        return replace(self, data=self.data.to(torch.device(device)))


def build_problem(specification: ProblemSpecification, seed: int = 0) -> Problem:
    """Build what a specification names.

    Args:
        specification: the names; models of the registry get the data's input shape and number of classes unless
            `model_args` gives them.
        seed: for the network's initial weights; what a data factory draws at random is the same every time.

    Raises:
        ConfigError: a name is unknown or arguments do not fit.
        ProblemError: a factory fails.
    """
    with OwnDraws(0).active():
        factory = resolve(specification.data, DATASETS, "data")
        examples = _call(factory, specification.data, specification.data_args)
        with _blaming(specification.data), at_home(specification.data):
            data = as_data(examples)
    loss = resolve(specification.loss, LOSSES, "loss")
    outputs = _outputs(specification.outputs)
    builder = resolve(specification.model, FACTORIES, "model")
    arguments = dict(specification.model_args)
    if is_built_in(specification.model, FACTORIES):
        arguments = {**_deduced(builder, data), **arguments}
    with OwnDraws(seed).active():
        model = _call(builder, specification.model, arguments)
    if not isinstance(model, nn.Module):
        raise ProblemError(f"{specification.model} returned {type(model).__name__}, expected a torch.nn.Module.")
    return Problem(model, data, loss, specification.updated(model_args=arguments), outputs)


def _outputs(named: Outputs | Callable[[Any], Tensor] | str | None) -> Outputs:
    if named is None:
        return USUAL
    return as_outputs(resolve(named, OUTPUTS, "outputs") if isinstance(named, str) else named)


def _deduced(builder: Callable[..., nn.Module], data: Data) -> dict[str, Any]:
    """The arguments of a model that follow from the data, as far as they are known and it takes them."""
    known = {"input_shape": data.input_shape, "classes": data.classes}
    accepted = inspect.signature(builder).parameters
    return {name: value for name, value in known.items() if value is not None and name in accepted}


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Tell a failure of the user's code, which may raise anything, as one."""
    try:
        yield
    except LandscapeError:
        raise
    except (Exception, SystemExit) as error:
        raise ProblemError(f"{name} failed: {type(error).__name__}: {error}") from error


def is_built_in(name: str, registry: Mapping[str, Any]) -> bool:
    """Whether a name is one of a registry's, or such as `timm:resnet18`, where the registry has `timm:`."""
    return name in registry or _family(name) in registry


def _family(name: str) -> str:
    """The name up to its first colon; without one, nothing that a registry holds."""
    return "".join(name.partition(":")[:2]) if ":" in name else ""


def resolve(name: str, registry: Mapping[str, Any], kind: str) -> Any:
    """The object that a name stands for; for a name such as `timm:resnet18`, the registry's `timm:` of the rest.

    Raises:
        ConfigError: there is no such name, file, module or attribute.
        ProblemError: the file or module fails when it is loaded.
    """
    if name in registry:
        return registry[name]
    if is_built_in(name, registry):
        family = _family(name)
        return partial(registry[family], name.removeprefix(family))
    place, colon, attribute = name.rpartition(":")
    if not colon:
        raise ConfigError(
            f"unknown {kind} {name!r}{nearest(name, registry)} Known are {', '.join(sorted(registry))}, or "
            "package.module:factory, path/file.py:factory."
        )
    with OwnDraws(0).active():  # what a file draws when it is loaded is the same every time, too
        module = load(place)
    if not hasattr(module, attribute):
        raise ConfigError(f"{place} has no {attribute!r}, which {kind} {name!r} names.")
    return getattr(module, attribute)


def _call(factory: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> Any:
    if not callable(factory):
        raise ConfigError(f"{name} is {type(factory).__name__}, expected a function.")
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{name}{inspect.signature(factory)} does not take {dict(arguments)}: {error}.") from error
    with _blaming(name), at_home(name):
        return factory(**arguments)
