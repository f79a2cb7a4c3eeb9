"""The arithmetic that a network is run in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32, whatever the global settings."""
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)


def casting(device: torch.device, precision: Precision) -> torch.autocast:
    """Autocast to bf16 where that is asked for, and none at all elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
