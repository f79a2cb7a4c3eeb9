"""One process an output: a lock that dies with its process.

The operating system releases the lock however the process ends (`filelock`), so nothing stale is left behind; a lock
file may stay, and is taken over by the next run. File systems without such locks are named in the error. The file is
only ever a plain one of ours: a link, another kind of file, or one that holds anything but the number of a process is
left alone.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from landscape.errors import BusyError, StorageError

LOCK = ".{}.lock"
_NUMBER = re.compile(rb"[0-9]{0,20}\n?")
_MOST_BYTES = 32


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Hold an output for this process, by a lock file beside it.

    Args:
        output: the file or folder that is going to be written; a link to a folder stands for that folder, a link to a
            file for itself, since it is what a new file replaces.

    Raises:
        BusyError: another process holds it.
        StorageError: the lock file cannot be made, or something else is in its place.
    """
    place = Path(os.path.realpath(output))
    try:
        if not place.is_dir():
            place = Path(os.path.realpath(output.parent)) / output.name
        lock = place.with_name(LOCK.format(place.name))
        missing = [folder for folder in lock.parents if not folder.exists()]
        lock.parent.mkdir(parents=True, exist_ok=True)
        holder, file = _acquire(lock, place)
    except OSError as error:
        raise StorageError(f"cannot write {place}: {error.strerror or error}; choose another place.") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # before its release: nobody else can have locked it yet
            if os.path.samestat(lock.lstat(), file):
                lock.unlink()
        holder.release()
        with contextlib.suppress(OSError):  # folders that hold an output by now stay
            for folder in missing:
                folder.rmdir()


def belongs_to_us(file: os.stat_result, folder: Path) -> bool:
    """Whether a file or folder is this user's, or of the owner of the folder it is in; Windows knows no such owners."""
    return not hasattr(os, "geteuid") or file.st_uid in {os.geteuid(), folder.stat().st_uid}


def _acquire(lock: Path, output: Path) -> tuple[FileLock, os.stat_result]:
    """Lock a file, and say which file that is."""
    files: list[os.stat_result] = []
    # A foreign file must stay, so filelock removes none itself (as it would on Windows).
    holder = FileLock(lock, preserve_lock_file=True, on_acquired=lambda opened: files.append(_sign(lock, opened)))
    while True:
        try:
            holder.acquire(blocking=False)
        except Timeout:
            if os.path.lexists(lock):  # else its holder removed it between opening and locking
                who = f"process {number}" if (number := _number_in(lock)) else "another process"
                raise BusyError(f"{who} is writing {output}; wait for it to end, or choose another --out.") from None
        except OSError as error:
            if lock.is_symlink() or (lock.exists() and not lock.is_file()):
                raise _in_the_way(lock, "it is a link" if lock.is_symlink() else "it is not a plain file") from error
            raise
        else:
            return holder, files[0]


def _sign(lock: Path, descriptor: int) -> os.stat_result:
    """Write the number of this process, which only serves the message, into a lock file of ours that it holds."""
    file = os.fstat(descriptor)
    if not stat.S_ISREG(file.st_mode):
        raise _in_the_way(lock, "it is not a plain file")
    if file.st_nlink > 1:
        raise _in_the_way(lock, "it has other names")
    if not belongs_to_us(file, lock.parent):
        raise _in_the_way(lock, "it belongs to somebody else")
    with open(descriptor, "r+b", buffering=0, closefd=False) as opened:
        if not _NUMBER.fullmatch(opened.read(_MOST_BYTES)):
            raise _in_the_way(lock, "it holds more than the number of a process")
        with contextlib.suppress(OSError):
            opened.seek(0)
            opened.truncate()
            opened.write(str(os.getpid()).encode())
    return file


def _number_in(lock: Path) -> str:
    """The number of the process that holds a lock file; empty if it cannot be read."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(lock.lstat().st_mode):
            with lock.open("rb") as file:
                content = file.read(_MOST_BYTES)
            return content.decode().strip() if _NUMBER.fullmatch(content) else ""
    return ""


def _in_the_way(lock: Path, why: str) -> StorageError:
    return StorageError(f"{lock} is not a lock of this program: {why}. Move it away, or choose another --out.")
