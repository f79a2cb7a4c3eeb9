"""What is studied, in words: a model, data and a loss by name, with their arguments.

A specification is plain values, so it travels in a configuration file and in the metadata of a checkpoint.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from landscape.errors import ConfigError
from landscape.problems.names import located, located_arguments, located_base

NAMES = ("model", "data", "loss", "outputs")
_BELONGINGS = {"model": ("model_args", "outputs"), "data": ("data_args",)}


@dataclass(frozen=True, kw_only=True)
class ProblemSpecification:
    """Names of what is studied; each is a registry name, `package.module:factory` or `path/file.py:factory`.

    Attributes:
        model: the network.
        model_args: arguments of the model's factory.
        data: the data set.
        data_args: arguments of the data set's factory.
        loss: the loss, `loss(model, batch) -> [B]`.
        outputs: where scores lie in what the network returns: classes_first, classes_last or a function that gives
            scores `[B, ..., C]`; None for what is usual, see `landscape.problems.outputs`.
    """

    model: str
    data: str
    loss: str = "cross_entropy"
    outputs: str | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)
    data_args: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str) -> "ProblemSpecification":
        """Build from parsed YAML or JSON, whose source is named in errors.

        Raises:
            ConfigError: a key is unknown or missing, or a value has the wrong type.
        """
        values = {name: value for name, value in values.items() if value is not None}
        keys = {f.name for f in fields(cls)}
        unknown = [name for name in values if name not in keys]
        if unknown:
            raise ConfigError(f"{source}: unknown key {unknown[0]!r}; a problem has {', '.join(sorted(keys))}.")
        for name in ("model", "data"):
            if not values.get(name):
                raise ConfigError(f"{source}: {name!r} is missing; give it there or as --{name}.")
        for name in NAMES:
            if not isinstance(values.get(name, ""), str):
                raise ConfigError(f"{source}: {name!r} is {values[name]!r}, expected a name.")
        for name in ("model_args", "data_args"):
            if not isinstance(values.get(name, {}), Mapping):
                raise ConfigError(f"{source}: {name!r} is {values[name]!r}, expected a mapping of arguments.")
        places = {name: located(values[name]) for name in NAMES if name in values}
        arguments = {
            "model_args": located_base(values["model"], values.get("model_args", {})),
            "data_args": located_arguments(values.get("data_args", {})),
        }
        return cls(**{**values, **places, **arguments})

    def updated(self, **changes: Any) -> "ProblemSpecification":
        """The same with the given values in place; None changes nothing."""
        return self.from_mapping(overridden(self.to_mapping(), changes), "the problem")

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON or YAML; outputs only where they are named."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def overridden(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the changes in place; what belonged to another model or other data is dropped with them."""
    named = {name: value for name, value in changes.items() if value is not None}
    others = [name for name in _BELONGINGS if name in named and located(named[name]) != values.get(name)]
    dropped = {belonging for name in others for belonging in _BELONGINGS[name]}
    return {**{name: value for name, value in values.items() if name not in dropped}, **named}
