"""GPT-2: a transformer that predicts each next token (Radford et al. 2019), normalised before each part of a block.

Positions are learned, and attention is causal. Weights begin as in GPT-2: normal with a deviation of 0.02, those that
add to the residual stream smaller by the root of their number. Tensors carry the names that nanoGPT's checkpoints have.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import ConfigError, ProblemError
from landscape.problems.models.attention import attend, require_heads

_DEVIATION = 0.02


class Attention(nn.Module):
    """Causal self-attention of several heads."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads, self._dropout = heads, dropout
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, T, W]` to `[B, T, W]`."""
        dropout = self._dropout if self.training else 0.0
        mixed = attend(self.c_attn(x), self._heads, causal=True, dropout=dropout)
        return self.drop(self.c_proj(mixed))  # type: ignore[no-any-return]


class Expansion(nn.Module):
    """Two layers, the hidden one of four times the width, with GELU in its tanh form as in GPT-2."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, T, W]` to `[B, T, W]`."""
        return self.drop(self.c_proj(F.gelu(self.c_fc(x), approximate="tanh")))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and then two layers, each on normalised inputs and added to them."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, dropout)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Expansion(width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, T, W]` to `[B, T, W]`."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class GPT(nn.Module):
    """See the module's docstring; `block` is the largest number of tokens."""

    output_layout = "classes_last"

    def __init__(
        self, block: int, vocabulary: int, *, layers: int, heads: int, width: int, dropout: float, tied: bool
    ) -> None:
        super().__init__()
        self._block = block
        embedding = nn.Embedding(vocabulary, width)
        self.transformer = nn.ModuleDict(
            {
                "wte": embedding,
                "wpe": nn.Embedding(block, width),
                "drop": nn.Dropout(dropout),
                "h": nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers))),
                "ln_f": nn.LayerNorm(width),
            }
        )
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.apply(_initialise)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=_DEVIATION / math.sqrt(2 * layers))
        if tied:
            self.lm_head.weight = embedding.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map tokens `[B, T]` to logits of each next token `[B, T, V]`."""
        length = input_ids.shape[1]
        if length > self._block:
            raise ProblemError(f"a sequence has {length} tokens, but the network was built for at most {self._block}.")
        parts = self.transformer
        x = parts["wte"](input_ids) + parts["wpe"](torch.arange(length, device=input_ids.device))
        return self.lm_head(parts["ln_f"](parts["h"](parts["drop"](x))))  # type: ignore[no-any-return]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=_DEVIATION)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def gpt(
    input_shape: Sequence[int],
    classes: int,
    layers: int = 4,
    heads: int = 4,
    width: int = 128,
    dropout: float = 0.0,
    tied: bool = True,
) -> nn.Module:
    """A decoder of L layers with V·W + T·W + L·(12·W² + 13·W) + 2·W parameters, about a million on 256 bytes.

    Args:
        input_shape: (T,), the largest number of tokens of a sequence.
        classes: V, the size of the vocabulary.
        layers: number of blocks.
        heads: number of attention's heads, a divisor of the width.
        width: W, numbers that stand for one token.
        dropout: share of activations that are set to 0 in training.
        tied: let the output use the embedding's matrix; otherwise it has one of its own, of V·W further parameters.

    Raises:
        ConfigError: inputs are not sequences, or the width does not divide into the heads.
    """
    require_heads(width, heads)
    if len(input_shape) != 1:
        raise ConfigError(f"gpt takes sequences of tokens, input_shape (T,); got {tuple(input_shape)}.")
    return GPT(input_shape[0], classes, layers=layers, heads=heads, width=width, dropout=dropout, tied=tied)
