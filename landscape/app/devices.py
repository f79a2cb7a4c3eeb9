"""The device that work runs on."""

import os

import torch

from landscape.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device that "auto", "cpu" or "cuda" stands for; of several GPUs, under `torchrun` the one of this process.

    Raises:
        ConfigError: "cuda" is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("--device cuda: torch finds no CUDA device here; use --device cpu or auto.")
    if not available or name == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if "LOCAL_RANK" in os.environ else torch.device("cuda")
