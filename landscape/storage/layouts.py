"""Names and shapes of the tensors of a network, and how two sets of them differ."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

COUNTER, _COMPILED = "num_batches_tracked", "_orig_mod"
_LISTED = 5


def unmarked(name: str) -> str:
    """A tensor's name without the marks that `torch.compile` leaves in it."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def is_bookkeeping(name: str, tensor: "Tensor") -> bool:
    """Whether a tensor may be what a training counts beside the weights: a whole number of no module, `n_averaged`."""
    return tensor.ndim == 0 and "." not in name and not (tensor.is_floating_point() or tensor.is_complex())


def layout_differences(expected: Mapping[str, "torch.Size"], got: Mapping[str, "torch.Size"]) -> str:
    """Say how two sets of named shapes differ; empty when they do not.

    Counters of batches are let pass: old checkpoints lack them, and they change no output.
    """
    missing = [n for n in expected if n not in got and not n.endswith(COUNTER)]
    unexpected = [n for n in got if n not in expected and not n.endswith(COUNTER)]
    shapes = [
        f"{n} is {tuple(got[n])}, expected {tuple(expected[n])}"
        for n in expected
        if n in got and expected[n] != got[n] and not n.endswith(COUNTER)
    ]
    parts = [("missing", missing), ("unexpected", unexpected), ("shapes", shapes)]
    return "; ".join(f"{kind}: {first_of(names)}" for kind, names in parts if names)


def first_of(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + rest
