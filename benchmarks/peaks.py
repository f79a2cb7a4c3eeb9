"""Peaks of memory: of a process's own pages, as files that are mapped can be had back and do not count."""

import multiprocessing
import os
import pathlib
import re
import threading
from collections.abc import Callable
from typing import Any

_STATUS = pathlib.Path("/proc/self/status")


def held() -> int:
    """The bytes that this process holds now."""
    return 1024 * int(re.search(r"RssAnon:\s+(\d+)", _STATUS.read_text())[1])


def peak_while(action: Callable[[], Any]) -> int:
    """The most bytes that this process holds while an action runs."""
    highest, done = [held()], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            highest[0] = max(highest[0], held())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        action()
    finally:
        done.set()
        watcher.join()
    return highest[0]


def apart(measure: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own.

    Its allocator gives back every larger block, or else the peak would hold what was freed long ago.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**20)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)
