"""From names to objects: the registry's own, and a user's `package.module:factory` or `path/file.py:factory`."""

import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from landscape.errors import ConfigError, LandscapeError, ProblemError
from landscape.problems import images, losses
from landscape.problems.code import at_home, load
from landscape.problems.copying import unwrapped
from landscape.problems.datasets import Data, as_data
from landscape.problems.losses import Loss
from landscape.problems.models import MODELS
from landscape.problems.specification import ProblemSpecification

DATASETS: Mapping[str, Callable[..., Data]] = {
    "digits": images.digits,
    "cifar10": images.cifar10,
    "cifar100": images.cifar100,
    "mnist": images.mnist,
    "fashion_mnist": images.fashion_mnist,
}
_SEEDS_OF_NUMPY = 2**32
LOSSES: Mapping[str, Loss] = {"cross_entropy": losses.cross_entropy, "mse": losses.mse}


@dataclass(frozen=True)
class Problem:
    """What is studied: a network, its data and its loss.

    Attributes:
        model: the network, with its initial weights, out of any wrapper of `torch.compile` or `DataParallel`.
        data: the examples by split.
        loss: the loss, one number for each example.
        specification: the names it was built from; None when it was built from objects.
    """

    model: nn.Module
    data: Data
    loss: Loss
    specification: ProblemSpecification | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", unwrapped(self.model))

    @classmethod
    def of(cls, model: nn.Module, data: Any, loss: Loss | str = "cross_entropy") -> "Problem":
        """Build from objects.

        Args:
            model: any network.
            data: the pair (train, test) or a mapping of split names; tensors, arrays or map-style data sets.
            loss: a function `loss(model, batch) -> [B]` or a registry name.
        """
        return cls(model, as_data(data), resolve(loss, LOSSES, "loss") if isinstance(loss, str) else loss)

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
    with _seeded(0):
        factory = resolve(specification.data, DATASETS, "data")
        examples = _call(factory, specification.data, specification.data_args)
        with _blaming(specification.data), at_home(specification.data):
            data = as_data(examples)
    loss = resolve(specification.loss, LOSSES, "loss")
    arguments = dict(specification.model_args)
    if specification.model in MODELS:
        deduced = {"input_shape": data.input_shape, "classes": data.classes}
        arguments = {**{k: v for k, v in deduced.items() if v is not None}, **arguments}
    with _seeded(seed):
        model = _call(resolve(specification.model, MODELS, "model"), specification.model, arguments)
    if not isinstance(model, nn.Module):
        raise ProblemError(f"{specification.model} returned {type(model).__name__}, expected a torch.nn.Module.")
    return Problem(model, data, loss, specification.updated(model_args=arguments))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Whatever a factory draws follows from the seed, and the global generators are left as they were."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % _SEEDS_OF_NUMPY)  # what numpy takes
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Tell a failure of the user's code, which may raise anything, as one."""
    try:
        yield
    except LandscapeError:
        raise
    except (Exception, SystemExit) as error:
        raise ProblemError(f"{name} failed: {type(error).__name__}: {error}") from error


def resolve(name: str, registry: Mapping[str, Any], kind: str) -> Any:
    """The object that a name stands for.

    Raises:
        ConfigError: there is no such name, file, module or attribute.
        ProblemError: the file or module fails when it is loaded.
    """
    if name in registry:
        return registry[name]
    place, colon, attribute = name.rpartition(":")
    if not colon:
        names = ", ".join(sorted(registry))
        raise ConfigError(
            f"unknown {kind} {name!r}; known are {names}, or package.module:factory, path/file.py:factory."
        )
    with _seeded(0):  # what a file draws when it is loaded is the same every time, too
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
