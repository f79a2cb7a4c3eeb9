"""Options as frozen dataclasses: declared once, and converted and checked in one place, wherever a value comes from.

A field's type may be `Annotated` with checks: functions of a value and its flag, which raise a `ConfigError`. A
command's configuration is made of groups, which are options themselves, and takes their values by the words of its
flags: `TrainConfig(out="a.safetensors", epochs=3)` fills `recipe.epochs`. Nothing here imports torch, so that `--help`
answers at once.
"""

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import yaml

from landscape.app.yamlfiles import parse_yaml
from landscape.errors import ConfigError

Check = Callable[[Any, str], object]
_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    dict: "a mapping, such as '{width: 16}'",
}


class Options:
    """Base of the dataclasses that hold options; it brings the constructor.

    Args:
        words: values by the words of the flags. Text becomes what its field declares: a `Path`, a number, a mapping; a
            list becomes a tuple, a number of numpy's a plain one. A whole group is taken under its field's name, and
            words override what it holds, so that `dataclasses.replace` takes words, too.

    Raises:
        ConfigError: a value does not fit; it is named, with what was expected.
        TypeError: a word is unknown, or a required one is missing.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        setattr(cls, "__init__", Options.__init__)  # noqa: B010 - or else `dataclass` would write one

    def __init__(self, **words: Any) -> None:
        groups = {f.name: words.pop(f.name) for f in fields(self) if isinstance(words.get(f.name), Options)}  # type: ignore[arg-type]
        parts: dict[str, dict[str, Any]] = {}
        for one in flags(type(self)).values():
            held = getattr(groups.get(one.group), one.field, one.default)
            value = words.pop(one.word, held) if one.group else words.pop(one.word, words.pop(one.field, held))
            if value is MISSING:
                raise TypeError(f"{type(self).__name__} lacks {one.word!r}.")
            value = one.converted(value)
            one.check(value)
            parts.setdefault(one.group, {})[one.field] = value
        if words:
            raise TypeError(f"{type(self).__name__} has no {next(iter(words))!r}.")
        for name, value in parts.pop("", {}).items():
            object.__setattr__(self, name, value)
        for name, values in parts.items():
            object.__setattr__(self, name, get_type_hints(type(self))[name](**values))
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check what concerns several values."""


@dataclass(frozen=True)
class Flag:
    """One option of a configuration.

    Attributes:
        word: its name in the configuration, unique there.
        group: the field of the group that holds it; "" for the configuration's own.
        field: its name in the group.
        hint: the declared type: a plain one, a path, a literal, a tuple of such, or one of them or None.
        checks: of its values, but None.
        default: `MISSING` where a value is required.
        title: of the part of the help that shows it.
        owner: the dataclass that declares it, whose docstring holds its help.
        harmless: whether a result does not follow from it, or states it in other words.
    """

    word: str
    group: str
    field: str
    hint: Any
    checks: tuple[Check, ...]
    default: Any
    title: str
    owner: type
    harmless: bool

    @property
    def name(self) -> str:
        """As the command line has it, such as `--batch-size`."""
        return "--" + self.word.replace("_", "-")

    @property
    def kinds(self) -> tuple[Any, ...]:
        """What the declared type is one of, without None."""
        kinds = get_args(self.hint) if NoneType in get_args(self.hint) else (self.hint,)
        return tuple(kind for kind in kinds if kind is not NoneType)

    @property
    def is_file(self) -> bool:
        """Whether it names a file or a folder, or several."""
        return any(Path in (kind, *get_args(kind)) for kind in self.kinds)

    def converted(self, value: Any) -> Any:
        """A value as the declared type has it; text is read as YAML where the type is not text.

        Raises:
            ConfigError: it does not fit.
        """
        if value in (None, "null") and NoneType in get_args(self.hint):
            return None
        for kind in self.kinds:
            try:
                return _as(kind, value)
            except (TypeError, ValueError, yaml.YAMLError):
                continue
        raise ConfigError(f"{self.name} is {_quoted(value)}, expected {' or '.join(map(_in_words, self.kinds))}.")

    def check(self, value: Any) -> None:
        """Check a value of the declared type.

        Raises:
            ConfigError: it is out of range.
        """
        for check in self.checks if value is not None else ():
            check(value, self.name)


def option(default: Any = MISSING, *, harmless: bool = False, word: str | None = None) -> Any:
    """A field with more than a type and a default.

    Args:
        default: its value where none is named.
        harmless: results do not follow from it.
        word: its flag's, where that is not the field's name.
    """
    settings: dict[str, Any] = {} if default is MISSING else {"default": default}
    return field(metadata={"harmless": harmless, "word": word}, **settings)


def group(*, harmless: bool = False, words: Mapping[str, str] | None = None, **defaults: Any) -> Any:
    """A field for a group of options, with defaults or words of its own.

    Args:
        harmless: results do not follow from it, or state it in other words.
        words: of the flags, by the group's fields.
        defaults: by the group's fields.
    """
    return field(metadata={"harmless": harmless, "words": words or {}, "defaults": defaults})


def flags(kind: type) -> Mapping[str, Flag]:
    """All options of a configuration or a group by their words, its own first."""
    return _flags(kind)


@functools.cache
def _flags(kind: type) -> Mapping[str, Flag]:
    hints = get_type_hints(kind, include_extras=True)
    own: list[Flag] = []
    grouped: list[Flag] = []
    for one in fields(kind):
        part = hints[one.name]
        if isinstance(part, type) and issubclass(part, Options):
            grouped += [_regrouped(inner, one) for inner in flags(part).values()]
            continue
        hint, *checks = get_args(part) if get_origin(part) is Annotated else (part,)
        word, harmless = one.metadata.get("word") or one.name, one.metadata.get("harmless", False)
        title = kind.__name__.removesuffix("Options").lower() if kind.__name__.endswith("Options") else "command"
        own.append(Flag(word, "", one.name, hint, tuple(checks), one.default, title, kind, harmless))
    return {one.word: one for one in (*own, *grouped)}


def _regrouped(inner: Flag, place: Field[Any]) -> Flag:
    """A group's flag as the configuration has it that holds the group."""
    own = place.metadata
    return replace(
        inner,
        group=place.name,
        word=own.get("words", {}).get(inner.field, inner.word),
        default=own.get("defaults", {}).get(inner.field, inner.default),
        harmless=inner.harmless or own.get("harmless", False),
    )


def values(options: Options) -> dict[str, Any]:
    """The values of all options by their words."""
    own = flags(type(options)).values()
    return {one.word: getattr(getattr(options, one.group) if one.group else options, one.field) for one in own}


def stated(options: Options) -> dict[str, Any]:
    """The options that a result follows from, by their words, for its provenance.

    These are all but those declared harmless, and but files, which count by what they hold.
    """
    declared = flags(type(options))
    followed = [word for word, flag in declared.items() if not (flag.harmless or flag.is_file)]
    return {word: value for word, value in values(options).items() if word in followed}


def files_in(options: Options, but: Iterable[str] = ("out",)) -> list[Path]:
    """Every file that options name, but for those under some words; the folder of the data is no file."""
    declared = flags(type(options))
    named = [
        value for word, value in values(options).items() if declared[word].is_file and word not in {*but, "data_root"}
    ]
    return [path for value in named if value for path in (value if isinstance(value, tuple) else (value,))]


def at_least(least: float, note: str = "") -> Check:
    """A check that a number is not below another."""
    return expected(f"at least {least}{note}", lambda value: value >= least)


def expected(words: str, holds: Callable[[Any], bool]) -> Check:
    """A check whose error says what was expected."""

    def check(value: Any, flag: str) -> None:
        if not holds(value):
            raise ConfigError(f"{flag} is {value}, expected {words}.")

    return check


def suffix(*suffixes: str) -> Check:
    """A check of the ending of a file's name."""
    return expected(f"a name that ends in {', '.join(suffixes)}", lambda path: path.suffix in suffixes)


def _quoted(value: Any, most: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _in_words(kind: Any) -> str:
    """What a type expects, for people."""
    if get_origin(kind) is Literal:
        choices = [str(choice) for choice in get_args(kind)]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if get_origin(kind) is tuple:
        return f"one or more of: {_in_words(get_args(kind)[0])}"
    return _WORDS.get(get_origin(kind) or kind, str(kind))


def _as(kind: Any, value: Any) -> Any:
    """The value as a kind has it; raises TypeError, ValueError or YAMLError where it does not fit."""
    plain = get_origin(kind) or kind
    if plain is tuple:
        parts = [value] if isinstance(value, str | os.PathLike) else value
        if not isinstance(parts, list | tuple):
            raise TypeError
        return tuple(_as(get_args(kind)[0], part) for part in parts)
    if plain is Path:
        if "\0" in os.fspath(value):
            raise ValueError
        return Path(value)
    if plain is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str) and plain in {int, float, bool, dict}:
        value = parse_yaml(value)
    fits: dict[Any, Callable[[], bool]] = {
        Literal: lambda: value in get_args(kind),
        dict: lambda: isinstance(value, Mapping),
        int: lambda: isinstance(value, Integral) and not isinstance(value, bool),
        float: lambda: isinstance(value, Real) and not isinstance(value, bool),
    }
    if not (fits[plain]() if plain in fits else isinstance(value, plain)):
        raise TypeError
    return value if plain not in {int, float} else plain(value)
