"""Scaled dot-product attention of several heads (Vaswani et al. 2017, arXiv 1706.03762), for the transformers here."""

import torch.nn.functional as F
from torch import Tensor

from landscape.errors import ConfigError


def attend(projected: Tensor, heads: int, *, causal: bool = False, dropout: float = 0.0) -> Tensor:
    """Self-attention of queries, keys and values that were projected together.

    Args:
        projected: `[B, T, 3·W]`, the queries, keys and values of all heads one after the other.
        heads: number of heads, a divisor of W.
        causal: let a position see itself and those before it alone.
        dropout: share of the attention's weights that are set to 0; for training.

    Returns:
        The heads' outputs side by side `[B, T, W]`.
    """
    queries, keys, values = projected.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, is_causal=causal)
    return mixed.transpose(1, 2).flatten(2)


def require_heads(width: int, heads: int) -> None:
    """Check that a width is shared evenly among heads; raises ConfigError where it is not."""
    if heads < 1 or width % heads:
        raise ConfigError(f"a width of {width} does not divide into {heads} heads; give a multiple of their number.")
