"""How what is studied is named, beside a registry's names: the user's own code, and files.

Code is named `package.module:factory` or `path/file.py:factory`; files and folders as in `text:FILE` and `hf:FOLDER`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NETWORKS = "hf:"
_FILES = ("text:", _NETWORKS)
_CODE_ARGUMENTS = ("tokenizer",)


def names_file(name: str) -> str:
    """The file or folder that a name such as `text:FILE` says is read; empty where it says none."""
    return next((name.removeprefix(form) for form in _FILES if name.startswith(form)), "")


def located(name: str) -> str:
    """The name with the file in it made absolute, so that it works from any folder."""
    if file := names_file(name):
        return name.removesuffix(file) + _absolute(file)
    place, colon, attribute = name.rpartition(":")
    return f"{_absolute(place)}:{attribute}" if colon and place.endswith(".py") else name


def named_code(arguments: Mapping[str, Any]) -> dict[str, str]:
    """The arguments of a factory that name the user's code, such as a tokenizer `path/file.py:encode`."""
    return {key: str(arguments[key]) for key in _CODE_ARGUMENTS if ":" in str(arguments.get(key) or "")}


def located_base(model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a model by its folder, in which the folder of its base is made absolute."""
    base = arguments.get("base")
    is_place = model.startswith(_NETWORKS) and isinstance(base, str)
    return {**arguments, "base": _absolute(base)} if is_place and base else dict(arguments)


def located_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a factory in which code, and folders in its place, are named so that they are found anywhere."""
    named = {key: arguments[key] for key in _CODE_ARGUMENTS if isinstance(arguments.get(key), str)}
    return {**arguments, **{key: located(name) if ":" in name else _absolute(name) for key, name in named.items()}}


def _absolute(file: str) -> str:
    try:
        return str(Path(file).expanduser().resolve())
    except (OSError, RuntimeError, ValueError):  # no name of a file, or of a user
        return file
