"""Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929): a picture as a sequence of square patches.

Blocks are normalised before each part, positions are learned, and classes are read from a token of their own or from
the patches' mean. Tensors carry the names that timm's checkpoints have.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import ConfigError
from landscape.problems.models.attention import attend, require_heads

Pooling = Literal["token", "mean"]
_DEVIATION, _TOKEN_DEVIATION, _EPSILON = 0.02, 1e-6, 1e-6  # as timm has them


class Patches(nn.Module):
    """Each patch of a picture as one token, by one linear map."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `[B, C, H, W]` to tokens `[B, T, width]`, row by row."""
        return self.proj(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, T, W]` to `[B, T, W]`."""
        return self.proj_drop(self.proj(attend(self.qkv(x), self._heads)))  # type: ignore[no-any-return]


class Expansion(nn.Module):
    """Two layers with GELU, the hidden one of four times the width."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.drop1 = nn.Dropout(dropout)
        self.fc2 = nn.Linear(4 * width, width)
        self.drop2 = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, T, W]` to `[B, T, W]`."""
        return self.drop2(self.fc2(self.drop1(F.gelu(self.fc1(x)))))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and then two layers, each on normalised inputs and added to them."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPSILON)
        self.attn = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width, eps=_EPSILON)
        self.mlp = Expansion(width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, T, W]` to `[B, T, W]`."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """See the module's docstring; `patches` is the number of patches of a picture."""

    def __init__(
        self,
        channels: int,
        classes: int,
        patches: int,
        *,
        patch: int,
        layers: int,
        heads: int,
        width: int,
        pooling: Pooling,
        dropout: float,
    ) -> None:
        super().__init__()
        self.patch_embed = Patches(channels, patch, width)
        token = pooling == "token"
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if token else None
        self.pos_embed = nn.Parameter(torch.zeros(1, patches + token, width))
        self.pos_drop = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.pos_embed, std=_DEVIATION)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=_TOKEN_DEVIATION)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_DEVIATION)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `[B, C, H, W]` to logits `[B, classes]`."""
        x = self.patch_embed(images)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = self.norm(self.blocks(self.pos_drop(x + self.pos_embed)))
        return self.head(x.mean(dim=1) if self.cls_token is None else x[:, 0])  # type: ignore[no-any-return]


def vit(
    input_shape: Sequence[int],
    classes: int,
    patch: int = 4,
    layers: int = 6,
    heads: int = 4,
    width: int = 128,
    pooling: Pooling = "token",
    dropout: float = 0.0,
) -> nn.Module:
    """A vision transformer; a width of 192, 12 layers, 3 heads and patches of 16 make ViT-Ti/16.

    Args:
        input_shape: (channels, height, width) of one image.
        classes: number of outputs.
        patch: side of a patch, a divisor of the image's sides.
        layers: number of blocks.
        heads: number of attention's heads, a divisor of the width.
        width: numbers that stand for one patch.
        pooling: what classes are read from: a "token" of their own, or the "mean" of the patches.
        dropout: share of activations that are set to 0 in training.

    Raises:
        ConfigError: the patch, the width or the pooling does not fit.
    """
    require_heads(width, heads)
    channels, *sides = input_shape
    if any(side % patch for side in sides):
        raise ConfigError(f"patches of {patch}×{patch} do not cover an image of {'×'.join(map(str, sides))}.")
    if pooling not in get_args(Pooling):
        raise ConfigError(f"unknown pooling {pooling!r}; known are {', '.join(get_args(Pooling))}.")
    return VisionTransformer(
        channels,
        classes,
        math.prod(side // patch for side in sides),
        patch=patch,
        layers=layers,
        heads=heads,
        width=width,
        pooling=pooling,
        dropout=dropout,
    )
