"""Users' own code: loaded by the name of a file or a module, again when it has changed, and known by its content.

A file brings along what it imports from its own folder, and a module what it imports from where its package lies. These
modules are kept apart from those of other folders, so that two projects may each have a `helper.py`.
"""

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from landscape.errors import ConfigError, ProblemError
from landscape.storage.files import fingerprint

_LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_INSTALLED = {"site-packages", "dist-packages"}
_OURS = tuple(Path(__file__).resolve().parents[2] / name for name in ("landscape", "connect"))


def is_users(file: str | Path) -> bool:
    """Whether code in a file is the user's: neither Python's, nor that of an installed package, nor ours."""
    return _is_users(Path(file).absolute())


@cache
def _is_users(file: Path) -> bool:
    path = file.resolve()
    return not _INSTALLED & set(path.parts) and not any(path.is_relative_to(place) for place in (*_LIBRARIES, *_OURS))


def load(place: str) -> ModuleType:
    """The module in a file `path/file.py`, or that of a name `package.module`; loaded anew if its code has changed.

    Raises:
        ConfigError: there is no such file or module.
        ProblemError: it fails when it is loaded.
    """
    project = _project(place)
    if project is None:
        return _imported(place)
    project.refresh()
    return project.load(place)


@contextmanager
def at_home(name: str) -> Iterator[None]:
    """Have a user's function, `place:function`, import what lies beside it while it runs; others need nothing."""
    project = _project(name.rpartition(":")[0]) if ":" in name else None
    with project.active(name.rpartition(":")[0]) if project else contextlib.nullcontext():
        yield


def code_fingerprints(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the files that the user's own models, data and losses consist of, as they were loaded.

    Returns:
        By what names it, the digest of the file itself; and of all that it imports from its own folder, by path, or for
        modules by their name.
    """
    digests: dict[str, str] = {}
    for place in sorted({name.rpartition(":")[0] for name in names} - {""}):
        project = _project(place)
        module = project.load(place) if project else _imported(place)
        file = getattr(module, "__file__", None)
        if not file:
            continue
        path = Path(file).absolute()
        if project is None:
            digests[place] = _digest(path)
            continue
        digests[place] = project.digest(path)
        for beside in sorted(project.brought_along(place) - {path}):
            digests[str(beside) if place.endswith(".py") else project.name_of(beside)] = project.digest(beside)
    return digests


def file_fingerprints(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by path; empty for those that are gone."""
    return {str(file): _digest(file) for file in files}


class _Project:
    """The modules that were loaded from one folder, by name, apart from those of other folders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._modules: dict[str, ModuleType] = {}
        self._digests: dict[Path, str] = {}
        self._brought: dict[str, set[Path]] = {}

    def load(self, place: str) -> ModuleType:
        """The module of a place, which is loaded if it is not yet."""
        with self.active(place):
            return _executed(Path(place)) if place.endswith(".py") else _imported(place)

    def refresh(self) -> None:
        """Forget all modules if the file of any has changed."""
        if any(_digest(path) != digest for path, digest in self._digests.items()):
            for name, module in self._modules.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
            self._modules, self._digests = {}, {}
            self._brought = {place: set() for place in self._brought}

    @contextmanager
    def active(self, place: str) -> Iterator[None]:
        """Import from the folder, and note what is loaded from there for a place.

        Modules of other folders by the same names are set aside. Those of no project are put back in the end; between
        projects the last one has the names, for what its functions import when they run. What they have imported so is
        not put back either, but found again on disk.
        """
        folder = str(self._folder)
        aside = self._set_aside()
        sys.modules.update(self._modules)
        self._brought.setdefault(place, set())
        before, writes = set(sys.modules), sys.dont_write_bytecode
        # Compiled code is found again by the second and the size of its source, which two versions may share.
        sys.dont_write_bytecode = True
        importlib.invalidate_caches()
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.dont_write_bytecode = writes
            with contextlib.suppress(ValueError):  # the user's code may have taken it out
                sys.path.remove(folder)
            _projects[self._folder] = _projects.pop(self._folder, self)
            entries = [_Entry(place) for place in reversed(_projects)]
            sys.path[:] = [*(entry for entry in sys.path if not isinstance(entry, _Entry)), *entries]
            for name in set(sys.modules) - before:
                self._note(name, place)
            for name, module in aside.items():
                if not any(project.holds(name, module) or project.uses(module) for project in _projects.values()):
                    sys.modules[name] = module

    def holds(self, name: str, module: ModuleType) -> bool:
        """Whether a module was loaded for this project."""
        return self._modules.get(name) is module

    def uses(self, module: ModuleType) -> bool:
        """Whether a module belongs to this project although it was not loaded here: a function has imported it."""
        file = _place_of(module)
        inside = file is not None and file.is_relative_to(self._folder)
        return inside and any(file in self.brought_along(place) for place in self._brought)

    def digest(self, path: Path) -> str:
        """SHA-256 of a file as it was loaded, or as it is if it was not."""
        return self._digests.get(path) or _digest(path)

    def name_of(self, path: Path) -> str:
        """The name by which a file of the folder is imported."""
        parts = path.relative_to(self._folder).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def brought_along(self, place: str) -> set[Path]:
        """The files of the folder that a place, a file or a module, stands for: what it names, and what that imports.

        What is imported inside functions, and what was loaded for it in other ways, is among them.
        """
        named = (
            [Path(place).expanduser().resolve()]
            if place.endswith(".py")
            else _modules_at(self._folder, place.split("."))
        )
        files: set[Path] = set()
        waiting = [*named, *self._brought.get(place, ())]
        while waiting:
            file = waiting.pop()
            if file not in files:
                files.add(file)
                waiting += _imports(file, self._folder)
        return files

    def _set_aside(self) -> dict[str, ModuleType]:
        """Take modules out of `sys.modules` whose names this folder has, and that are the user's but not its own."""
        names: set[str] = set()
        with contextlib.suppress(OSError):
            names = {entry.stem for entry in self._folder.iterdir() if entry.suffix == ".py" or entry.is_dir()}
        aside = {
            name: module
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] in names and name != "__main__" and not self.holds(name, module)
            if (file := _place_of(module)) is not None and is_users(file)
        }
        for name in aside:
            del sys.modules[name]
        return aside

    def _note(self, name: str, place: str) -> None:
        module = sys.modules[name]
        file = _place_of(module)
        if file is None or not file.is_relative_to(self._folder) or not is_users(file):
            return
        self._modules[name] = module
        if file.is_file():
            self._digests[file] = _digest(file)
            self._brought[place].add(file)


class _Entry(str):
    """A folder at the end of `sys.path`, where functions find what they import only when they run."""

    __slots__ = ()


_projects: dict[Path, _Project] = {}  # the one that was used last is the last


def _project(place: str) -> _Project | None:
    """The project that a place belongs to; None for a module of an installed package."""
    if place.endswith(".py"):
        path = Path(place).expanduser().resolve()
        if not path.is_file():
            raise ConfigError(f"there is no file {path}.")
        folder: Path | None = path.parent
    else:
        folder = _home(place.partition(".")[0])
    return None if folder is None else _projects.setdefault(folder, _Project(folder))


def _home(package: str) -> Path | None:
    """The folder that a package of the user's lies in; None where it is not found or not the user's."""
    spec = PathFinder.find_spec(package, [str(Path.cwd()), *sys.path])
    if spec is None:
        with contextlib.suppress(ValueError, ImportError):
            spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
    place = Path(places[0]).absolute() if places and places[0] else None
    if place is None or not is_users(place):
        return None
    return place.parents[1] if place.name == "__init__.py" else place.parent


def _place_of(module: ModuleType) -> Path | None:
    """A module's file, or the folder of a package without one."""
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return Path(place).absolute() if isinstance(place, str) else None


def _digest(path: Path) -> str:
    """SHA-256 of a file; empty if it is gone."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _imports(file: Path, folder: Path) -> Iterator[Path]:
    """The files of a folder that the import statements of a file name, wherever they stand in it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _modules_at(folder, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = file.parents[node.level - 1] if node.level else folder
            parts = node.module.split(".") if node.module else []
            for alias in node.names:
                yield from _modules_at(base, [*parts, alias.name])


def _modules_at(base: Path, parts: list[str]) -> Iterator[Path]:
    """The files of a module and of the packages around it, as far as they lie below a folder."""
    for count in range(len(parts) + 1):
        stem = base.joinpath(*parts[:count])
        candidates = [stem / "__init__.py"] + ([stem.with_name(f"{stem.name}.py")] if count else [])
        yield from (file for file in candidates if file.is_file())


def _executed(path: Path) -> ModuleType:
    """The module in a file, under a name of its own."""
    path = path.expanduser().resolve()
    name = f"_user_{path.stem}_{fingerprint([str(path).encode()])[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ConfigError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        del sys.modules[name]
        raise ProblemError(f"{path} fails when it is loaded: {type(error).__name__}: {error}") from error
    return module


def _imported(name: str) -> ModuleType:
    """The module of a name, from the folder that this process works in or the installed packages."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"cannot import {name!r}: {error}; looked in {folder} and the installed packages.") from error
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise ProblemError(f"{name} fails when it is imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
