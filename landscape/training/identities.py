"""By what a resume knows a strategy again: its settings, and the code and the values of a function.

A sampler or a penalty may be anything that can be called, so a name alone would let a run go on under another one.
"""

import functools
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import ConfigError
from landscape.problems.code import is_users
from landscape.storage.checkpoints import fingerprint_tensors
from landscape.storage.files import fingerprint

_PLAIN = (
    types.NoneType, bool, int, float, complex, str, bytes, range, slice, Enum, os.PathLike, np.generic, np.dtype,
    torch.dtype, torch.device, torch.Size,
)  # fmt: skip
_Above = tuple[int, ...]


def described(choice: object) -> str:
    """What tells a strategy from others: its kind, its settings, and its code if that is the user's.

    Args:
        choice: a dataclass, a function with whatever it holds, any object with attributes, or one that says it itself
            by a method `describe`; None for no strategy.

    Raises:
        ConfigError: it, or something that it holds, has nothing by which it could be told from others of its kind.
    """
    return type(None).__qualname__ if choice is None else _described(choice)


def _described(value: Any, above: _Above = ()) -> str:
    """The same for a value that lies in others, by identity; what it refers back to is not told again."""
    if not isinstance(value, _PLAIN) and id(value) in above:
        return "…"
    for kinds, describe in _DESCRIPTIONS:
        if isinstance(value, kinds):
            return describe(value, (*above, id(value)))
    return _described_object(value, (*above, id(value)))


def _described_array(array: Any, above: _Above) -> str:
    if array.dtype == object:
        return f"array{_described(array.tolist(), above)}"
    content = [str((array.dtype, array.shape)).encode(), np.ascontiguousarray(array).tobytes()]
    return f"array {fingerprint(content)}"


def _described_sequence(values: Sequence[Any], above: _Above) -> str:
    return _listed("[]" if isinstance(values, list) else "()", (_described(value, above) for value in values))


def _described_mapping(values: Mapping[Any, Any], above: _Above) -> str:
    return _listed("{}", (f"{_described(k, above)}: {_described(v, above)}" for k, v in values.items()))


def _described_function(function: types.FunctionType, above: _Above) -> str:
    """A function's name, and a digest of what it holds, and of its code and what that uses, if it is the user's."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    held = {name: cell.cell_contents for name, cell in cells if not _is_empty(cell)}
    held |= {"defaults": function.__defaults__, "keyword defaults": function.__kwdefaults__}
    codes = list(_codes(function.__code__)) if is_users(function.__code__.co_filename) else []
    names = {name for code in codes for name in code.co_names} & set(function.__globals__)
    held |= {f"module's {name}": function.__globals__[name] for name in sorted(names)}
    parts = [_described(held, above).encode(), *map(_content, codes)]
    return f"{_name(function)} {fingerprint(parts)}"


def _described_object(value: Any, above: _Above) -> str:
    """An object's kind and attributes, or what it says of itself; and a digest of the methods that a user wrote."""
    kind = type(value)
    own = getattr(value, "describe", None)
    if callable(own) and isinstance(text := own(), str):
        return f"{kind.__qualname__}({text})"
    methods = [
        _described(method, above)
        for owner in kind.__mro__
        for _, method in sorted(vars(owner).items())
        if isinstance(method, types.FunctionType) and _is_written_by_user(method)
    ]
    if is_dataclass(value):
        names = [field.name for field in fields(value) if field.repr]
    else:
        names = sorted({*getattr(value, "__dict__", {}), *_slots(kind)})
        if not names and not methods:
            raise ConfigError(
                f"nothing tells this {_name(kind)} from another, so a fit that uses it cannot be resumed; make it a "
                "dataclass, or give it a method describe() that returns its settings as text."
            )
    settings = _listed("()", (f"{n}={_described(getattr(value, n), above)}" for n in names if hasattr(value, n)))
    code = f" {fingerprint(text.encode() for text in methods)}" if methods else ""
    return f"{kind.__qualname__}{settings}{code}"


_DESCRIPTIONS: Sequence[tuple[Any, Callable[[Any, _Above], str]]] = (
    (_PLAIN, lambda value, above: repr(value)),
    (Tensor, lambda tensor, above: f"tensor {fingerprint_tensors({'': tensor})}"),
    (torch.Generator, lambda generator, above: f"generator {fingerprint_tensors({'': generator.get_state()})}"),
    (np.ndarray, _described_array),
    (Mapping, _described_mapping),
    (list | tuple, _described_sequence),
    (set | frozenset, lambda values, above: _listed("{}", sorted(_described(value, above) for value in values))),
    ((type, types.ModuleType, types.BuiltinFunctionType), lambda value, above: _name(value)),
    (functools.partial, lambda part, above: f"partial{_described((part.func, part.args, part.keywords), above)}"),
    (types.MethodType, lambda method, above: f"{_described((method.__func__, method.__self__), above)}"),
    (types.FunctionType, _described_function),
)


def _codes(code: types.CodeType) -> Iterable[types.CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _content(code: types.CodeType) -> bytes:
    constants = [repr(constant) for constant in code.co_consts if not isinstance(constant, types.CodeType)]
    return repr((code.co_code, code.co_names, code.co_varnames, constants)).encode()


def _is_written_by_user(method: types.FunctionType) -> bool:
    """Whether a method stands in a file of the user's; those that a dataclass gets follow from its fields."""
    file = method.__code__.co_filename
    return file != "<string>" and is_users(file)


def _is_empty(cell: types.CellType) -> bool:
    """Whether a function has not been given the value yet that a cell is for."""
    return cell == types.CellType()


def _slots(kind: type) -> Iterable[str]:
    for owner in kind.__mro__:
        slots = owner.__dict__.get("__slots__", ())
        yield from [slots] if isinstance(slots, str) else slots


def _name(value: Any) -> str:
    name = getattr(value, "__qualname__", getattr(value, "__name__", type(value).__name__))
    return ".".join(part for part in (getattr(value, "__module__", None), name) if part)


def _listed(brackets: str, parts: Iterable[str]) -> str:
    return f"{brackets[0]}{', '.join(parts)}{brackets[1]}"
