"""HDF5 files that are built in memory and written whole, and read without a lock."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from landscape.errors import LandscapeError, ResultError
from landscape.files import write_atomically


def write_hdf5(path: Path, fill: Callable[[Any], None]) -> None:
    """Write a file, whole or not at all.

    Args:
        path: the file.
        fill: is called with an open `h5py.File` and puts everything into it.

    Raises:
        StorageError: the file cannot be written.
    """
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        content = file.id.get_file_image()
    write_atomically(path, content)


@contextmanager
def reading_hdf5(path: Path) -> Iterator[Any]:
    """An open `h5py.File`; whatever a damaged one does becomes one error.

    Raises:
        ResultError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise ResultError(f"there is no result {path}; the file does not exist or is a folder.")
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except LandscapeError:
        raise
    except Exception as error:  # a damaged file may fail in any way
        raise ResultError(f"{path} is damaged or no result file: {' '.join(str(error).split())}") from error
