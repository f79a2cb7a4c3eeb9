"""How far work has come: a bar on a terminal, a line a minute elsewhere, nothing from Python unless asked."""

import sys
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 60.0


class Progress(Protocol):
    """Tells somebody how far work has come; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def advance(self, count: int = 1, note: str = "") -> None:
        """Note that `count` more units are done."""


class Reporter(Protocol):
    """Makes a `Progress` for a piece of work."""

    def __call__(self, description: str, total: int, done: int = 0) -> Progress:
        """Begin a piece of `total` units, of which some are done already."""


class _Silence:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, count: int = 1, note: str = "") -> None:
        return None


class _Bar(_Silence):
    def __init__(self, description: str, total: int, done: int) -> None:
        self._bar = tqdm(desc=description, total=total, initial=done, file=sys.stderr, leave=False, dynamic_ncols=True)

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, count: int = 1, note: str = "") -> None:
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(count)


class _Lines(_Silence):
    def __init__(self, description: str, total: int, done: int) -> None:
        self._description, self._total, self._done = description, total, done
        self._last = monotonic()
        self._note = ""

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        self._note = note or self._note
        if monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = monotonic()
            told = f" ({self._note})" if self._note else ""
            print(f"{self._description}: {self._done} of {self._total}{told}", file=sys.stderr, flush=True)


def silent(description: str, total: int, done: int = 0) -> Progress:
    """Report nothing."""
    return _Silence()


def on_stderr(description: str, total: int, done: int = 0) -> Progress:
    """Report on standard error: a bar on a terminal, a line a minute elsewhere."""
    return (_Bar if sys.stderr.isatty() else _Lines)(description, total, done)
