"""HDF5 files that are built in memory and written whole, and read without a lock.

The format can name other files (external links and storage, virtual data sets), compress a terabyte of zeros to a
kilobyte, and claim sizes that it does not hold. A file is looked through before it is read; none of that is followed.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
from h5py import h5a, h5d, h5g, h5l, h5o, h5t, h5z

from landscape.errors import LandscapeError, ResultError
from landscape.storage.files import write_atomically

_PLAIN_TYPES = {h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.STRING}
_PLAIN_LAYOUTS = {h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED}
_PLAIN_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
_ANY_SIZE, _MOST_EXPANSION = 2**26, 20  # what is compressed or sparse may take so many bytes, or times its file
_ALREADY_OPEN = "already open"


def write_hdf5(path: Path, fill: Callable[[Any], None]) -> None:
    """Write a file, whole or not at all; `fill` is called with an open `h5py.File` and puts everything into it.

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
    """An open `h5py.File` that holds plain data sets alone; whatever a damaged one does becomes one error.

    It is read as a stream of bytes, so that it does not matter who else holds the file open.

    Raises:
        ResultError: there is no such file, it is damaged, or it holds more than plain data sets: links, data that lie
            elsewhere, user-defined types, or sizes beyond its own.
    """
    if not path.is_file():
        raise ResultError(f"there is no result {path}; the file does not exist or is a folder.")
    try:
        with path.open("rb") as content, h5py.File(content, "r") as file:
            _require_plain(path, file, os.fstat(content.fileno()))
            yield file
    except LandscapeError:
        raise
    except Exception as error:  # a damaged file may fail in any way
        if _ALREADY_OPEN in str(error):
            raise ResultError(f"{path} is open for writing elsewhere, as in a notebook; close it there.") from error
        raise ResultError(f"{path} is damaged or no result file: {' '.join(str(error).split())}") from error


def _require_plain(path: Path, file: Any, status: os.stat_result) -> None:
    """Check every link, data set and attribute before anything is read through them.

    Each object is looked at once, however many names it has, so that groups that hold each other come to an end.
    """
    stored = status.st_blocks * 512 or status.st_size  # some file systems do not count blocks
    generous = max(_ANY_SIZE, _MOST_EXPANSION * stored)
    left = {False: min(status.st_size, generous), True: generous}  # by whether it is compressed
    groups, seen = [(f"{path}: ", file.id)], {h5o.get_info(file.id).addr}
    while groups:
        place, group = groups.pop()
        _require_plain_attributes(place, group, status.st_size)
        for link in group:
            name = f"{place}/{ascii(link.decode(errors='replace'))[1:-1]}"
            if group.links.get_info(link).type != h5l.TYPE_HARD:
                raise _not_plain(name, "a link to another place")
            item = h5o.open(group, link)
            address = h5o.get_info(item).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5g.GroupID):
                groups.append((name, item))
            elif isinstance(item, h5d.DatasetID):
                _require_plain_attributes(name, item, status.st_size)
                size, compressed = _plain_size(name, item)
                left[compressed] -= size
                if left[compressed] < 0:
                    raise _not_plain(name, "a data set larger than its file")
            else:
                raise _not_plain(name, "a type of its own")


def _plain_size(name: str, data: Any) -> tuple[int, bool]:
    """The bytes of a data set, and whether they are compressed; where it lies is checked before its size is asked."""
    how = data.get_create_plist()
    if how.get_layout() not in _PLAIN_LAYOUTS or how.get_external_count():
        raise _not_plain(name, "a data set that lies in another file")
    filters = {how.get_filter(index)[0] for index in range(how.get_nfilters())}
    if filters - _PLAIN_FILTERS:
        raise _not_plain(name, f"a data set behind the filter {min(filters - _PLAIN_FILTERS)}")
    kind = data.get_type()
    if kind.get_class() not in _PLAIN_TYPES:
        raise _not_plain(name, "a data set of a type that is neither number nor text")
    count, compressed = data.get_space().get_simple_extent_npoints(), h5z.FILTER_DEFLATE in filters
    if compressed:
        count = max(count, math.prod(how.get_chunk()))  # a piece is decompressed as a whole
    return count * kind.get_size(), compressed


def _require_plain_attributes(name: str, item: Any, size: int) -> None:
    for index in range(h5a.get_num_attrs(item)):
        attribute = h5a.open(item, index=index)
        if attribute.get_type().get_class() not in _PLAIN_TYPES:
            raise _not_plain(name, "beside an attribute of a type that is neither number nor text")
        if attribute.get_space().get_simple_extent_npoints() * attribute.get_type().get_size() > size:
            raise _not_plain(name, "beside an attribute larger than the file")


def _not_plain(name: str, what: str) -> ResultError:
    return ResultError(f"{name} is {what}; nothing but plain data sets is read.")
