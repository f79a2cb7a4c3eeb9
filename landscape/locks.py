"""One process an output: a lock that dies with its process.

The operating system releases the lock however the process ends, so nothing stale is left behind; an empty lock file may
stay, and is taken over by the next run. File systems without such locks are named in the error.
"""

import contextlib
import fcntl
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from landscape.errors import BusyError, StorageError
from landscape.files import remove_partials
from landscape.progress import Reporter, silent


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Hold an output for this process, by a lock file beside it.

    Args:
        output: the file or folder that is going to be written.

    Raises:
        BusyError: another process holds it.
        StorageError: the lock file cannot be made.
    """
    output = output.resolve()
    lock = output.with_name(f".{output.name}.lock")
    missing = [folder for folder in lock.parents if not folder.exists()]
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(lock, output)
    except OSError as error:
        raise StorageError(f"cannot write {output}: {error.strerror or error}; choose another place.") from error
    try:
        remove_partials(output)
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(descriptor)
        with contextlib.suppress(OSError):  # folders that hold an output by now stay
            for folder in missing:
                folder.rmdir()


def _acquire(lock: Path, output: Path) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            who = f"process {holder}" if holder else "another process"
            raise BusyError(f"{who} is writing {output}; wait for it to end, or choose another --out.") from None
        except OSError:
            os.close(descriptor)
            raise
        if _is_still_there(lock, descriptor):
            with contextlib.suppress(OSError):  # the number only serves the message
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)  # its holder removed it between the two calls


def _is_still_there(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


class _Writing(Protocol):
    @property
    def out(self) -> Path: ...


Config = TypeVar("Config", bound=_Writing)
_Given_contra = TypeVar("_Given_contra", contravariant=True)
Summary_co = TypeVar("Summary_co", covariant=True)


class _CommandFunction(Protocol[_Given_contra, Summary_co]):
    def __call__(self, config: _Given_contra, report: Reporter = silent) -> Summary_co: ...


def alone(command: Callable[[Config, Reporter], Summary_co]) -> _CommandFunction[Config, Summary_co]:
    """Have a command hold its output, `config.out`, while it runs."""

    @functools.wraps(command)
    def holding(config: Config, report: Reporter = silent) -> Summary_co:
        with claimed(config.out):
            return command(config, report)

    return holding
