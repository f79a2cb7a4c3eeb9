"""Pairs of directions in the layout of the loss-landscape repository (Li et al. 2018).

Such a file holds groups `xdirection` and `ydirection` with one array a parameter, "0", "1" and so on, in the network's
order.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import LayoutError, ResultError
from landscape.space.parameters import ParameterSpace
from landscape.storage.hdf5 import reading_hdf5, write_hdf5

_DIRECTIONS = ("xdirection", "ydirection")


def write_directions(path: Path, space: ParameterSpace, directions: tuple[Tensor, Tensor]) -> None:
    """Write two directions `[P]`, one array a parameter in the network's order; those that do not move hold zeros.

    Raises:
        StorageError: the file cannot be written.
    """

    def fill(file: Any) -> None:
        for name, direction in zip(_DIRECTIONS, directions, strict=True):
            moved = space.unflatten(direction)
            group = file.create_group(name)
            for index, (parameter, tensor) in enumerate(space.network.named_parameters()):
                values = moved.get(parameter)
                group[str(index)] = (torch.zeros_like(tensor) if values is None else values).detach().cpu().numpy()

    write_hdf5(path, fill)


def read_directions(path: Path, space: ParameterSpace) -> tuple[Tensor, Tensor]:
    """Read two directions `[P]` of a network's parameters, or of its whole state, of which the parameters are taken.

    Raises:
        ResultError: the file is missing, damaged or holds no two directions.
        LayoutError: they do not fit the network.
    """
    parameters = [name for name, _ in space.network.named_parameters()]
    state = [name for name, value in space.network.state_dict().items() if isinstance(value, torch.Tensor)]
    with reading_hdf5(path) as file:
        missing = [name for name in _DIRECTIONS if name not in file]
        if missing:
            raise ResultError(f"{path} holds no {missing[0]}; expected the groups {' and '.join(_DIRECTIONS)}.")
        directions = []
        for group in (file[name] for name in _DIRECTIONS):
            arrays = [torch.from_numpy(np.asarray(group[str(index)][...])) for index in range(len(group))]
            names = next((names for names in (parameters, state) if len(names) == len(arrays)), None)
            if names is None:
                raise LayoutError(
                    f"{path} holds {len(arrays)} arrays a direction; the network has {len(parameters)} parameters "
                    f"and {len(state)} tensors in all."
                )
            directions.append(space.flatten(dict(zip(names, arrays, strict=True))))
    return directions[0], directions[1]
