"""YAML as people write it: `-1:1:51` and dates are text and `5e-4` is a number, which an older standard denies.

What is read is plain values of a sensible size: an anchor may be used again, but not inside itself, and not so often
that a few lines stand for millions of values.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from landscape.errors import ConfigError

_MOST_VALUES = 100_000


class _Loader(yaml.SafeLoader):
    """The safe loader with the numbers of YAML 1.2, and no dates, which neither JSON nor a flag can give."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _MOST_VALUES:  # merges of merges grow before any value is made of them
            raise yaml.YAMLError(f"it stands for more than {_MOST_VALUES} values.")


_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?[0-9]+",
    "tag:yaml.org,2002:float": r"""
    [-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)
""",
}
_OTHER = {*_NUMBERS, "tag:yaml.org,2002:timestamp"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in _OTHER]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^({_pattern})$", re.VERBOSE), list("-+0123456789."))


def parse_yaml(text: str) -> Any:
    """The content of a YAML document: text, numbers, truth values, None, and lists and mappings of them.

    Raises:
        yaml.YAMLError: it is none, it refers to itself, or it holds something else or too much.
    """
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
        for count, value in enumerate(_values(content, ())):
            if count >= _MOST_VALUES:
                raise yaml.YAMLError(f"it stands for more than {_MOST_VALUES} values.")
            if not isinstance(value, str | int | float | bool | list | dict | None):
                raise yaml.YAMLError(f"it holds a {type(value).__name__}, expected text, numbers, lists and mappings.")
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply, or refers to itself.") from None
    except ValueError as error:  # an explicit tag on what it does not fit, or a number of thousands of digits
        raise yaml.YAMLError(str(error)) from error
    return content


def _values(value: Any, above: tuple[int, ...]) -> Iterator[Any]:
    """A value and all that it holds, each as often as it is used.

    Args:
        value: where to begin.
        above: what it lies in, by identity.
    """
    if id(value) in above:
        raise yaml.YAMLError("an anchor refers to itself.")
    yield value
    if isinstance(value, list | dict):
        above = (*above, id(value))
        for part in value if isinstance(value, list) else (part for pair in value.items() for part in pair):
            yield from _values(part, above)


def read_yaml_mapping(path: Path, what: str, example: str) -> dict[str, Any]:
    """The content of a YAML file that holds keys and values.

    Args:
        path: the file.
        what: what it is, for errors.
        example: what it could hold, likewise.

    Raises:
        ConfigError: there is no such file, or it is not a YAML mapping.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ConfigError(f"cannot read {what} {path}: it is a device or a pipe, expected a YAML file.")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} {path} is not text in UTF-8: {error.reason} at byte {error.start}.") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {what} {path}: {getattr(error, 'strerror', None) or error}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        holds = "nothing" if content is None else type(content).__name__
        raise ConfigError(f"{path} holds {holds}, expected {example}.")
    return dict(content)
