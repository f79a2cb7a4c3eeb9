"""Names and shapes of the tensors of a network, and how two sets of them differ."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

COUNTER = "num_batches_tracked"
_MARKS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_LISTED = 5


def unmarked(name: str) -> str:
    """A tensor's name without the marks that `torch.compile`, FSDP, recomputed layers and Fabric leave in it."""
    return ".".join(part for part in name.split(".") if part not in _MARKS)


def is_bookkeeping(name: str, tensor: "Tensor") -> bool:
    """Whether a tensor may be what a training counts beside the weights: a whole number of no module, `n_averaged`."""
    return tensor.ndim == 0 and "." not in name and not (tensor.is_floating_point() or tensor.is_complex())


def layout_differences(expected: Mapping[str, "torch.Size"], got: Mapping[str, "torch.Size"]) -> str:
    """Say how two sets of named shapes differ; empty when they do not.

    Counters of batches are let pass: old checkpoints lack them, and they change no output. Shapes that differ in their
    first size alone are those of other vocabularies or classes.
    """
    missing = [n for n in expected if n not in got and not n.endswith(COUNTER)]
    unexpected = [n for n in got if n not in expected and not n.endswith(COUNTER)]
    shapes = [
        f"{n} is {tuple(got[n])}, expected {tuple(expected[n])}"
        for n in expected
        if n in got and expected[n] != got[n] and not n.endswith(COUNTER)
    ]
    parts = [("missing", missing), ("unexpected", unexpected), ("shapes", shapes)]
    report = "; ".join(f"{kind}: {first_of(names)}" for kind, names in parts if names)
    same_rows = all(expected[n][1:] == got[n][1:] for n in expected if n in got and not n.endswith(COUNTER))
    return f"{report}; sizes of vocabularies or numbers of classes differ" if shapes and same_rows else report


def first_of(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + rest
