"""How much memory tensors take at once, as torch's own allocator on the CPU counts it: exactly, whatever else runs."""

import os
from collections.abc import Callable
from typing import Any

from torch.autograd import profiler

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # it would say that there is no GPU


def most_allocated(action: Callable[[], Any]) -> int:
    """The most bytes that tensors made while an action runs hold at once; a mapped file counts with its size."""
    with profiler.profile(profile_memory=True) as recorded:  # `torch.profiler` takes ten times as long to end
        action()
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most
