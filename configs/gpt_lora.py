"""A GPT with LoRA adapters on a frozen base (Hu et al. 2021); gpt_lora.yaml says how to train and join two."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape import load_checkpoint
from landscape.problems.models import gpt

_STRENGTH = 2.0  # of what the adapters add


class Adapted(nn.Module):
    """A frozen linear layer and a product of two thin matrices beside it, 0 at first."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., inputs]` to `[..., outputs]`."""
        added: Tensor = F.linear(F.linear(x, self.lora_a), self.lora_b)
        return self.base(x) + _STRENGTH * added


def adapted(base: str, rank: int = 8) -> nn.Module:
    """The GPT with adapters at both layers of attention and of each block's expansion.

    Args:
        base: the checkpoint whose weights stay, of blocks of 128 bytes.
        rank: of each adapter.
    """
    network = gpt((128,), 256)
    network.load_state_dict(dict(load_checkpoint(base).state))
    network.requires_grad_(requires_grad=False)
    linear = [name for name, part in network.named_modules() if isinstance(part, nn.Linear) and ".h." in name]
    for name in linear:
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, Adapted(network.get_submodule(name), rank))
    return network
