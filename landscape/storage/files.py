"""Files that are whole or absent.

A file is written beside its final place, flushed to the disk and then moved over the old one in a single step, so that
neither a crash nor a full disk leaves half a file behind.
"""

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from landscape.errors import ConfigError, StorageError

PARTIAL = ".partial"  # after the final name and a random part
_RANDOM = re.compile(r"[a-z0-9_]+")

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
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            for piece in [content] if isinstance(content, bytes) else content:
                file.write(piece)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        temporary.replace(path)
        temporary = None
        sync_folder(path.parent)
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
    """Remove what a killed process left of a file that it was about to put in place; nobody else may be writing it.

    Only plain files go that are named as `write_atomically` names its own.
    """
    before = f".{path.name}."
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            random = entry.name.removeprefix(before).removesuffix(PARTIAL)
            own = entry.name == f"{before}{random}{PARTIAL}" and _RANDOM.fullmatch(random)
            if own and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    Path(entry.path).unlink()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def sync_folder(folder: Path) -> None:
    """Have the names in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_replaceable(path: Path) -> None:
    """Check that a file may be put into a place: nothing is there but a file or a link, and the folder takes files.

    A link is replaced itself; what it leads to is not touched.

    Raises:
        ConfigError: a folder, a device or a pipe is there, or the place cannot be written to.
    """
    try:
        there = path.lstat() if os.path.lexists(path) else None
        ancestor = next(parent for parent in path.absolute().parents if parent.exists())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; name another file.") from error
    if there and path.is_dir():
        raise ConfigError(f"{path} is a folder, but a file is to be written there; name a file.")
    if there and not (stat.S_ISREG(there.st_mode) or stat.S_ISLNK(there.st_mode)):
        raise ConfigError(f"{path} is a device or a pipe, but a file is to be written there; name another file.")
    if not ancestor.is_dir() or not os.access(ancestor, os.W_OK):
        what = "may not be written to" if ancestor.is_dir() else "is no folder"
        raise ConfigError(f"cannot write {path}: {ancestor} {what}; name another place.")


def fingerprint(parts: Iterable[Bytes]) -> str:
    """The SHA-256 of the parts in their order, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def is_utf8(path: Path) -> bool:
    """Whether a path is text, as libraries need it that open files themselves; the names of files may be any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
