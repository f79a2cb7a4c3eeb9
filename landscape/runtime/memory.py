"""How much memory a process may still take."""

import os
import pathlib

import torch

_MEMINFO = pathlib.Path("/proc/meminfo")
_GROUP = pathlib.Path("/sys/fs/cgroup")  # a container's limits, where it has some


def available_bytes(device: torch.device) -> float:
    """The bytes that can still be taken on a device: on a CPU what the system and the container give at most."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return min(_of_system(), _of_container())


def _of_system() -> float:
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
        return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def _of_container() -> float:
    """What a control group leaves; its count of pages of files can be had back."""
    try:
        most = int((_GROUP / "memory.max").read_text())
        counts = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        return most - int((_GROUP / "memory.current").read_text()) + int(counts["inactive_file"])
    except (OSError, KeyError, ValueError):  # there is none, or no limit
        return float("inf")
