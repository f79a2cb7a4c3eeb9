"""What the writer of a checkpoint, a path or a state noted, as a mapping of plain values whose types are known.

Whoever reads a file may rely on the types below, whatever the file holds; names that are not among them are let pass.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from landscape.errors import CorruptFileError

_Check = tuple[Callable[[Any], bool], str]  # whether a value fits, and what is expected
_MAPPING: _Check = (lambda value: isinstance(value, dict), "a mapping")
_TEXT: _Check = (lambda value: isinstance(value, str), "text")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_numbers(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_number, value)))


def _is_matrix(value: Any) -> bool:
    """Rows of as many finite numbers each, at least one."""
    if not isinstance(value, list) or not all(isinstance(row, list) and row for row in value) or not value:
        return False
    numbers = [number for row in value for number in row]
    return len({len(row) for row in value}) == 1 and all(_is_number(n) and math.isfinite(n) for n in numbers)


_CHECKS: Mapping[str, _Check] = {
    **dict.fromkeys(("problem", "recipe", "provenance"), _MAPPING),
    **dict.fromkeys(("kind", "curve", "checkpoint"), _TEXT),
    **dict.fromkeys(("step", "cycle", "minima", "epoch"), (_is_count, "a count")),
    **dict.fromkeys(("epoch_losses", "epoch_rates", "met_losses"), (_is_numbers, "a list of numbers")),
    **dict.fromkeys(("train_loss", "train_accuracy", "test_loss", "test_accuracy", "t"), (_is_number, "a number")),
    "coefficients": (_is_matrix, "rows of as many numbers each"),
}
_CHECKS_OF_PROVENANCE: Mapping[str, _Check] = {
    **dict.fromkeys(("checkpoints", "data"), _MAPPING),
    "curve": _TEXT,
    "trainable": (lambda value: value is None or isinstance(value, str), "text"),
    "eval_batch_size": (lambda value: value is None or (_is_count(value) and value > 0), "a count above 0"),
}


def parse_metadata(text: str, path: Path) -> dict[str, Any]:
    """The metadata that a file holds as JSON.

    Raises:
        CorruptFileError: they are not a mapping, or a value is of another type than those that are written.
    """
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path}: its metadata are no JSON: {' '.join(str(error).split())}.") from error
    if not isinstance(metadata, dict):
        raise CorruptFileError(f"{path}: its metadata are a {type(metadata).__name__}, expected a mapping.")
    _require(metadata, _CHECKS, path, "")
    _require(metadata.get("provenance", {}), _CHECKS_OF_PROVENANCE, path, "provenance.")
    return metadata


def _require(values: Mapping[str, Any], checks: Mapping[str, _Check], path: Path, place: str) -> None:
    for name, (fits, expected) in checks.items():
        if name in values and not fits(values[name]):
            text = json.dumps(values[name])
            shown = text if len(text) <= 60 else f"{text[:59]}…"
            raise CorruptFileError(f"{path}: {place}{name} in its metadata is {shown}, expected {expected}.")
