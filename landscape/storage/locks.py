"""One process an output: a lock that dies with its process.

The operating system releases the lock however the process ends, so nothing stale is left behind; an empty lock file may
stay, and is taken over by the next run. File systems without such locks are named in the error. The file is only ever a
plain one of ours: a link, another kind of file, or one that holds anything but the number of a process is left alone.
"""

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from landscape.errors import BusyError, StorageError

LOCK = ".{}.lock"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
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
        descriptor = _acquire(lock, place)
    except OSError as error:
        raise StorageError(f"cannot write {place}: {error.strerror or error}; choose another place.") from error
    try:
        yield
    finally:
        if _is_still_there(lock, descriptor):
            with contextlib.suppress(OSError):
                lock.unlink()
        os.close(descriptor)
        with contextlib.suppress(OSError):  # folders that hold an output by now stay
            for folder in missing:
                folder.rmdir()


def _acquire(lock: Path, output: Path) -> int:
    while True:
        descriptor = _opened(lock)
        try:
            holder = _number_in(lock, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_there(lock, descriptor):
                with contextlib.suppress(OSError):  # the number only serves the message
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            who = f"process {holder}" if holder else "another process"
            raise BusyError(f"{who} is writing {output}; wait for it to end, or choose another --out.") from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it between the two calls


def _opened(lock: Path) -> int:
    """The lock file, made if it is not there, without following a link and without waiting for a pipe."""
    try:
        return os.open(lock, _FLAGS, 0o666)
    except OSError as error:
        if lock.is_symlink() or (lock.exists() and not lock.is_file()):
            raise _in_the_way(lock, "it is a link" if lock.is_symlink() else "it is no plain file") from error
        raise


def _number_in(lock: Path, descriptor: int) -> str:
    """The number of the process that wrote an open lock file; empty if there is none.

    Raises:
        StorageError: the file is none of ours.
    """
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise _in_the_way(lock, "it is no plain file")
    if found.st_nlink > 1:
        raise _in_the_way(lock, "it has other names")
    if found.st_uid not in {os.geteuid(), lock.parent.stat().st_uid}:
        raise _in_the_way(lock, "it belongs to somebody else")
    content = os.pread(descriptor, _MOST_BYTES, 0)
    if not _NUMBER.fullmatch(content):
        raise _in_the_way(lock, "it holds more than the number of a process")
    return content.decode().strip()


def _in_the_way(lock: Path, why: str) -> StorageError:
    return StorageError(f"{lock} is not a lock of this program: {why}. Move it away, or choose another --out.")


def _is_still_there(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
