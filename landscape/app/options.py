"""What all options share: their values are of the types that their dataclass declares, and a path may be given as text.

Nothing here imports torch, so that `--help` answers at once.
"""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from landscape.errors import ConfigError

_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    dict: "a mapping, such as '{width: 16}'",
}


class Options:
    """Base of the dataclasses that hold options.

    Before a dataclass checks its values, those that a script gave become what its fields declare: text a `Path`, a list
    a tuple, a number of numpy's a plain one.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        validate: Callable[[Any], None] | None = cls.__dict__.get("__post_init__")
        if validate is not None:
            setattr(cls, "__post_init__", _after_preparing(validate))  # noqa: B010 - mypy wants no method assigned

    def __post_init__(self) -> None:
        self.prepare()

    def prepare(self) -> None:
        """Bring all values to the declared types.

        Raises:
            ConfigError: one does not fit; it is named, with what was expected.
        """
        hints = declared_types(type(self))
        for field in fields(self):  # type: ignore[arg-type]
            given = getattr(self, field.name)
            object.__setattr__(self, field.name, converted(given, hints[field.name], flag(field.name)))


def _after_preparing(validate: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(validate)
    def prepared(self: Options) -> None:
        self.prepare()
        validate(self)

    return prepared


def declared_types(kind: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields by name."""
    return get_type_hints(kind)


def flag(name: str) -> str:
    """The flag of a field."""
    return "--" + name.replace("_", "-")


def converted(value: Any, hint: Any, name: str) -> Any:
    """A value as its declared type has it.

    Args:
        value: what was given.
        hint: the type: a plain one, a path, a literal, a tuple of such, or one of them or None.
        name: what to call it in an error.

    Raises:
        ConfigError: it does not fit.
    """
    kinds = get_args(hint) if _is_union(hint) else (hint,)
    if value is None and NoneType in kinds:
        return None
    for kind in kinds:
        try:
            return _as(kind, value)
        except (TypeError, ValueError):
            continue
    raise ConfigError(f"{name} is {as_told(value)}, expected {in_words(hint)}.")


def as_told(value: Any, most: int = 80) -> str:
    """A value as it is told in an error."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def in_words(hint: Any) -> str:
    """What a declared type expects, for people."""
    kinds = [kind for kind in (get_args(hint) if _is_union(hint) else (hint,)) if kind is not NoneType]
    return " or ".join(_in_words(kind) for kind in kinds)


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        choices = [str(choice) for choice in get_args(kind)]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if get_origin(kind) is tuple:
        return f"one or more of: {in_words(get_args(kind)[0])}"
    return _WORDS.get(get_origin(kind) or kind, str(kind))


def _is_union(hint: Any) -> bool:
    return NoneType in get_args(hint)


def _as(kind: Any, value: Any) -> Any:
    """The value as a kind has it; raises TypeError or ValueError where it does not fit."""
    origin = get_origin(kind)
    if origin is tuple:
        single = isinstance(value, str | os.PathLike)
        return tuple(_as(get_args(kind)[0], part) for part in ([value] if single else _sequence(value)))
    if kind is Path:
        if "\0" in os.fspath(value):
            raise ValueError
        return Path(value)
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    fits: dict[Any, Callable[[], bool]] = {
        Literal: lambda: value in get_args(kind),
        dict: lambda: isinstance(value, Mapping),
        int: lambda: isinstance(value, Integral) and not isinstance(value, bool),
        float: lambda: isinstance(value, Real) and not isinstance(value, bool),
    }
    plain = origin or kind
    if not (fits[plain]() if plain in fits else isinstance(value, plain)):
        raise TypeError
    return value if plain not in {int, float} else plain(value)


def _sequence(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError
    return value
