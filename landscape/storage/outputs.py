"""What a command writes: claimed, refused or replaced as one.

Where nothing is there yet, files are written at their places and grow there. Where older ones are to be replaced, the
new ones are written into a folder beside them, `.NAME.new`, and moved over the old ones when all of them are whole: a
run that fails leaves what was there, and one that is stopped goes on in that folder. The move begins with a new name
for the folder, by which the next run knows that it must be brought to its end first.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

from landscape.errors import ConfigError, Interrupted, StorageError
from landscape.storage.files import remove_partials, require_replaceable, sync_folder
from landscape.storage.folders import files_read, is_checkpoint_folder
from landscape.storage.locks import belongs_to_us, claimed

_PUT_OFF = "the new files are whole, and the next run puts them in place"
_LEFT_BEHIND = re.compile(r"\..+\.(partial|lock)")  # by a process that was killed


@dataclass(frozen=True)
class OutputFiles:
    """Files that a command writes below one folder and replaces together.

    Attributes:
        root: the file or folder that the user named, for which the place is claimed.
        folder: what the names are relative to.
        files: names of the files that are known beforehand.
        series: patterns of the names of further files, by the folder that holds them ("" for `folder` itself).
        extras: pattern of the names of whatever else comes with the new files; old ones of these stay.
        label: what the folder of the new files is named after.
        stepwise: each file is claimed by the step that writes it, and not for the whole run.
    """

    root: Path
    folder: Path
    files: tuple[str, ...]
    series: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    extras: re.Pattern[str] | None = None
    label: str = ""
    stepwise: bool = False

    @classmethod
    def beside(cls, file: Path, *others: str) -> "OutputFiles":
        """A file, and others in the same folder."""
        return cls(file, file.parent, (file.name, *others), label=file.name)

    @classmethod
    def inside(
        cls,
        folder: Path,
        *files: str,
        series: Mapping[str, re.Pattern[str]] | None = None,
        extras: re.Pattern[str] | None = None,
        label: str | None = None,
        stepwise: bool = False,
    ) -> "OutputFiles":
        """Files in a folder of their own."""
        return cls(folder, folder, files, series or {}, extras, label or files[0], stepwise)

    @property
    def new(self) -> Path:
        """Where a run that replaces older files writes."""
        return self.folder / f".{self.label}.new"

    @property
    def _whole(self) -> Path:
        """The same when all of it is there, but the old files are, too."""
        return self.folder / f".{self.label}.whole"

    @property
    def _moving(self) -> Path:
        """The same when the old files that have no successor are gone."""
        return self.folder / f".{self.label}.moving"

    def owns(self, name: str) -> bool:
        """Whether a file of that relative name is one of these."""
        folder, _, last = name.rpartition("/")
        pattern = self.series.get(folder)
        return bool(name in self.files or (pattern and pattern.fullmatch(last)))

    def is_same(self, file: Path) -> bool:
        """Whether a file is one of these, by whatever name."""
        real, inode = Path(os.path.realpath(file)), _inode(file)
        folder = Path(os.path.realpath(self.folder))
        own = [folder / name for name in self.files]
        return any(real == Path(os.path.realpath(one)) or (inode and inode == _inode(one)) for one in own) or any(
            pattern.fullmatch(real.name) and real.parent == Path(os.path.realpath(folder / name))
            for name, pattern in self.series.items()
        )

    def is_inside(self, folder: Path) -> bool:
        """Whether these are written below a folder, by whatever name."""
        return Path(os.path.realpath(self.folder)).is_relative_to(os.path.realpath(folder))

    def present(self) -> list[str]:
        """The names of those that are there, links included."""
        names = [name for name in self.files if os.path.lexists(self.folder / name)]
        for folder, pattern in self.series.items():
            place = self.folder / folder
            if place.is_dir():
                inside = sorted(f.name for f in place.iterdir() if pattern.fullmatch(f.name) and not f.is_dir())
                names += [f"{folder}/{name}" if folder else name for name in inside]
        return names

    def begin(self, resume: bool | None, overwrite: bool) -> Path:
        """The folder that this run writes into, once it may.

        Args:
            resume: go on with what is there; None where the command has no such flag.
            overwrite: replace what is there.

        Raises:
            ConfigError: it may not be written, or is there already.
            StorageError: what is no file of ours is in the way.
        """
        self._require_plain_folders()
        for name in self.files:
            require_replaceable(self.folder / name)
        self.finish()
        there, stopped = self.present(), _is_own_folder(self.new)
        if resume:
            return self._tidied(self.new if stopped else self.folder)
        if overwrite:
            with self._storing("nothing was changed"):
                if stopped:
                    self._remove(self.new)
                if there:
                    self.new.mkdir()
            return self.new if there else self._tidied(self.folder)
        going_on = "" if resume is None else "--resume to go on with it, "
        if there:
            raise ConfigError(
                f"{self.folder / there[0]} is there already; give {going_on}--overwrite to replace it, or another name."
            )
        if stopped:
            raise ConfigError(f"{self.new} holds a run that was stopped; give {going_on}--overwrite to start again.")
        return self._tidied(self.folder)

    def commit(self) -> None:
        """Put the new files into the place of the old ones; nothing to do where they were written there.

        Raises:
            StorageError: they cannot be moved; the next run brings it to its end.
        """
        with self._storing(_PUT_OFF):
            if _is_own_folder(self.new):
                self.new.rename(self._whole)
                sync_folder(self.folder)
        self.finish()

    def finish(self) -> None:
        """Bring a commit to its end, if there is one under way; raises as `commit`."""
        with self._storing(_PUT_OFF):
            if _is_own_folder(self._whole):
                new = set(self._held(self._whole))
                for name in self.present():
                    if name not in new:
                        (self.folder / name).unlink()
                self._whole.rename(self._moving)
            if _is_own_folder(self._moving):
                for name in self._held(self._moving):
                    target = self.folder / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    (self._moving / name).replace(target)
                self._remove(self._moving)
                sync_folder(self.folder)

    @contextmanager
    def _storing(self, state: str) -> Iterator[None]:
        """Have what the file system refuses say how things stand."""
        try:
            yield
        except OSError as error:
            why = error.strerror or error
            raise StorageError(f"cannot replace what is in {self.folder}: {why}; {state}.") from error

    def give_up(self) -> None:
        """Remove the folder of new files if nothing was written into it."""
        if _is_own_folder(self.new) and not self._held(self.new):
            self._remove(self.new)

    def _tidied(self, folder: Path) -> Path:
        for name in self.files:
            remove_partials(folder / name)
        return folder

    def _held(self, folder: Path) -> list[str]:
        """The relative names of the files in a folder of new ones, after what was left half written is removed."""
        names = []
        for place, folders, files in os.walk(folder):
            for file in (Path(place, name) for name in (*files, *folders)):
                mode, name = file.lstat().st_mode, file.relative_to(folder).as_posix()
                if stat.S_ISDIR(mode):
                    continue
                if stat.S_ISREG(mode) and _LEFT_BEHIND.fullmatch(file.name):
                    file.unlink()
                elif stat.S_ISREG(mode) and (self.owns(name) or (self.extras and self.extras.fullmatch(name))):
                    names.append(name)
                else:
                    raise StorageError(f"{file} was not written by this command; move it away, then run again.")
        return sorted(names)

    def _remove(self, folder: Path) -> None:
        for name in self._held(folder):
            (folder / name).unlink()
        for place, _, _ in os.walk(folder, topdown=False):
            Path(place).rmdir()

    def _require_plain_folders(self) -> None:
        """Check that no folder inside the place leads elsewhere."""
        below = {name.rpartition("/")[0] for name in self.files} | set(self.series)
        for folder in sorted(below - {""}):
            if (self.folder / folder).is_symlink():
                raise ConfigError(f"{self.folder / folder} is a link; name another --out, or put a folder there.")


class Outputs:
    """Where a run writes until its outputs are whole: each place, with the folder that it is written in."""

    def __init__(self, now: Sequence[tuple[OutputFiles, Path]]) -> None:
        self._now = now

    def at(self, path: Path) -> Path:
        """Where an output, or the folder of outputs, is written until `commit`."""
        for place, folder in self._now:
            if path == place.root == place.folder:
                return folder
            if path.is_relative_to(place.folder) and place.owns(path.relative_to(place.folder).as_posix()):
                return folder / path.relative_to(place.folder)
        raise AssertionError(f"{path} is not an output that was claimed")

    def named(self, path: Path) -> Path:
        """Where something that was written is in the end."""
        for place, folder in self._now:
            if path.is_relative_to(folder):
                return place.folder / path.relative_to(folder)
        return path

    def commit(self) -> None:
        """Put everything in place, what the user named first at last; raises as `OutputFiles.commit`."""
        for place, _ in reversed(self._now):
            place.commit()


@contextmanager
def writing(
    *places: OutputFiles, read: Iterable[Path] = (), resume: bool | None = None, overwrite: bool = False
) -> Iterator[Outputs]:
    """Hold all outputs of a command while it runs; it calls `commit` when they are whole.

    Args:
        places: what is written.
        read: what the command reads.
        resume: go on with what is there; None where the command has no such flag.
        overwrite: replace what is there.

    Raises:
        BusyError: another process writes one of them.
        ConfigError: one is there already and no flag says what to do, cannot be written, or is an input as well.
        StorageError: a lock cannot be made, or something else is in its place.
    """
    _require_apart(places, read)
    with ExitStack() as claims:
        for place in places:
            files = () if place.stepwise else place.files
            for file in dict.fromkeys([place.root, *(place.folder / name for name in files)]):
                claims.enter_context(claimed(file))
        now = [(place, place.begin(resume, overwrite)) for place in places]
        try:
            yield Outputs(now)
        except (Interrupted, KeyboardInterrupt):
            raise  # the folder of new files stays, by which a resume knows what it goes on with
        except BaseException:
            for place in places:
                place.give_up()
            raise


def following(*places: OutputFiles) -> Outputs:
    """The outputs that another process of the same run holds, which has begun."""
    return Outputs([(place, place.new if _is_own_folder(place.new) else place.folder) for place in places])


def _require_apart(places: Sequence[OutputFiles], read: Iterable[Path]) -> None:
    """Check that nothing which is read is written over, and nothing is written twice."""
    for place, other in permutations(places, 2):
        if any(other.is_same(place.folder / name) for name in place.files):
            raise ConfigError(f"{place.root} and what goes with {other.root} are one file; name two.")
    for path in read:
        for file in (path, *files_read(path)):
            if any(place.is_same(file) for place in places):
                raise ConfigError(f"{file} is read by this command, so it cannot be written; name another --out.")
        if is_checkpoint_folder(path) and any(place.is_inside(path) for place in places):
            raise ConfigError(f"{path} is a checkpoint, in which nothing is written; name an --out outside of it.")


def _inode(file: Path) -> tuple[int, int] | None:
    """What a file is whatever its name; None where there is none."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _is_own_folder(path: Path) -> bool:
    """Whether a folder of ours is there; raises StorageError where something else is."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(status.st_mode) or not belongs_to_us(status, path.parent):
        raise StorageError(f"{path} is in the way, where this command keeps new files; move it away, then run again.")
    return True
