"""What kind of network one is, as far as defaults follow from it."""

from torch import nn


def has_attention(network: nn.Module) -> bool:
    """Whether a part of a network is attention: torch's own, or one whose class, or what that inherits, says so."""
    return any("attention" in kind.__name__.lower() for module in network.modules() for kind in type(module).__mro__)
