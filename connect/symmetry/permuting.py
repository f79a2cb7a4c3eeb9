"""Permutations of hidden units, applied to the tensors of a network."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from connect.symmetry.groups import Group, Permutation
from connect.symmetry.tracing import Axes

Index = dict[int, np.ndarray]  # for blocks of a tensor's axes by number: which place's content comes to each place


def indices(tensors: Sequence[Axes], groups: Sequence[Group], permutations: Sequence[Permutation]) -> dict[int, Index]:
    """Where the content of each place comes from.

    Args:
        tensors: of the network.
        groups: whose blocks are disjoint.
        permutations: one for each group.

    Returns:
        For each tensor that is moved, by number: for each block that is moved, by number, `[places]`.
    """
    found: dict[int, Index] = {}
    for group, permutation in zip(groups, permutations, strict=True):
        for number, family in enumerate(group.families):
            for place in family.places:
                units = tensors[place.tensor].blocks[place.block].units
                index = found.setdefault(place.tensor, {}).setdefault(place.block, np.arange(units.size))
                come = place.positions[permutation.outer[:, None], permutation.inner[number]]
                index[place.positions.ravel()] = come.ravel()
    return found


def permuted(tensor: Tensor, axes: Axes, index: Index) -> Tensor:
    """A tensor whose places take what lies at others; a new one of the same shape."""
    view = tensor.reshape(axes.shape)
    wide = [number for number in index if len(axes.blocks[number].axes) > 1]
    for number in index:
        if number not in wide:
            (axis,) = axes.blocks[number].axes
            view = view.index_select(axis, torch.from_numpy(index[number]).to(tensor.device))
    if wide:
        view = view[_coordinates(axes, {number: index[number] for number in wide}, tensor.device)]
    return view.reshape(tensor.shape)


def _coordinates(axes: Axes, index: Index, device: torch.device) -> tuple[Tensor, ...]:
    """The coordinates of what comes to each place, an array for each axis, to be broadcast against each other."""
    rank = len(axes.shape)
    coordinates = [
        np.arange(size).reshape([-1 if a == axis else 1 for a in range(rank)]) for axis, size in enumerate(axes.shape)
    ]
    for number, places in index.items():
        block = axes.blocks[number]
        shape = [size if axis in block.axes else 1 for axis, size in enumerate(axes.shape)]
        for axis, values in zip(block.axes, np.unravel_index(places, block.units.shape), strict=True):
            coordinates[axis] = values.reshape(shape)
    return tuple(torch.from_numpy(np.ascontiguousarray(values)).to(device) for values in coordinates)


def permute(
    tensors: Sequence[Axes], groups: Sequence[Group], permutations: Sequence[Permutation], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Tensors by name, with those that permutations move in their new order; the others are the same objects.

    Those of a network that are not given, such as running statistics beside a point, are passed over.
    """
    moved = {
        tensors[number].name: permuted(state[tensors[number].name], tensors[number], index)
        for number, index in indices(tensors, groups, permutations).items()
        if tensors[number].name in state
    }
    return {**state, **moved}
