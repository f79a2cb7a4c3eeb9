"""Interleaved timing: A, B, A, B, …, so that a machine that slows down slows both.

Ratios are taken round by round; their median and quartiles tell the noise.
"""

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
