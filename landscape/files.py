"""Files that are whole or absent.

A file is written beside its final place, flushed to the disk and then moved over the old one in a single step, so that
neither a crash nor a full disk leaves half a file behind.
"""

import contextlib
import glob
import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from landscape.errors import ConfigError, StorageError

PARTIAL = ".{}.{}.partial"  # the final name, and a random part

Bytes = bytes | memoryview


def write_atomically(path: str | os.PathLike[str], content: bytes | Iterable[Bytes]) -> None:
    """Write a file so that a reader meets the old content or the new one, never a part.

    Args:
        path: where to write; missing folders are made.
        content: the bytes of the whole file, at once or in pieces.

    Raises:
        StorageError: the folder or the file cannot be written. A file that was there before is unharmed.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before, after = PARTIAL.format(path.name, "/").split("/")  # no name holds that
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=before, suffix=after)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            for piece in [content] if isinstance(content, bytes) else content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
        _sync_folder(path.parent)
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(f"cannot write {path}: {path.parent} is no folder; choose another place.") from error
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}. "
            "What was there before is whole; free space or choose another place, then run again."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def remove_partials(path: Path) -> None:
    """Remove what a killed process left of a file that it was about to put in place; nobody else may be writing it."""
    for partial in path.parent.glob(PARTIAL.format(glob.escape(path.name), "*")):
        with contextlib.suppress(OSError):
            partial.unlink()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_existing(path: Path, overwrite: bool, *, resumable: bool = False) -> None:
    """Check that an output may be written, before any work is done for it.

    Args:
        path: the output.
        overwrite: whether it may be replaced.
        resumable: whether a run could go on from it, which the error then says.

    Raises:
        ConfigError: the file is there and `overwrite` is not set, or the place cannot be written to.
    """
    try:
        there, folder = path.exists(), path.is_dir()
        ancestor = next(parent for parent in path.absolute().parents if parent.exists())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; name another file.") from error
    if folder:
        raise ConfigError(f"{path} is a folder, but a file is to be written there; name a file.")
    if not ancestor.is_dir() or not os.access(ancestor, os.W_OK):
        what = "may not be written to" if ancestor.is_dir() else "is no folder"
        raise ConfigError(f"cannot write {path}: {ancestor} {what}; name another place.")
    if there and not overwrite:
        going_on = "--resume to go on with it, " if resumable else ""
        raise ConfigError(f"{path} is there already; give {going_on}--overwrite to replace it, or another name.")


def fingerprint(parts: Iterable[Bytes]) -> str:
    """The SHA-256 of the parts in their order, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
