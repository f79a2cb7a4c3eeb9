"""Interleaved timing: A, B, A, B, …, so that a machine that slows down slows both.

Ratios are taken round by round; their median and quartiles tell the noise.
"""

import os
import sys
from collections.abc import Callable
from statistics import median, quantiles
from time import perf_counter


def interleaved(actions: dict[str, Callable[[], object]], repeats: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds of each action in each of the interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(warm_up + repeats):
        for name, action in actions.items():
            start = perf_counter()
            action()
            if repeat >= warm_up:
                times[name].append(perf_counter() - start)
    return times


def show(title: str, times: dict[str, list[float]], reference: str) -> None:
    """Print median times, and the ratio to the reference as median (lower to upper quartile)."""
    print(f"{title}, {len(times[reference])} rounds")
    for name, seconds in times.items():
        ratios = [ours / theirs for ours, theirs in zip(seconds, times[reference], strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        print(f"  {name:34} {1000 * median(seconds):8.1f} ms  {middle:5.2f} ({low:.2f} to {high:.2f}) of {reference!r}")


def keep_memory() -> None:
    """Begin the program anew with an allocator that gives no freed memory back to the system.

    By default the GNU allocator gives activations back after some steps and not after others, as the heap happens to
    lie; the page faults that follow differ by a tenth of a step between runs of the very same code.
    """
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        plenty = str(2**34)
        os.environ |= {"MALLOC_TRIM_THRESHOLD_": plenty, "MALLOC_MMAP_THRESHOLD_": plenty}
        os.execv(sys.executable, [sys.executable, *sys.argv])
